"""What a running server has of the machine it runs on: nothing but the NVIDIA driver."""

import os
import subprocess
from pathlib import Path

import pytest
from serving import serving

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif("DGX_VLLM" not in os.environ, reason="needs the installed command in DGX_VLLM"),
]

DRIVER = ("libcuda.so", "libnvidia-", "libcudadebugger.so")


def mapped_files(pid: int) -> set[Path]:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    fields = [line.split(maxsplit=5) for line in lines]
    return {
        Path(field[5].removesuffix(" (deleted)"))
        for field in fields
        if len(field) == 6 and field[5][0] == "/"
    }


def foreign(files: set[Path], own: Path) -> set[Path]:
    """Those of `files` that neither the store, the kernel, the server nor the driver brings."""
    return {
        file
        for file in files
        if not file.is_relative_to("/nix/store")
        and not file.is_relative_to(own)
        and not str(file).startswith(("/dev/", "/memfd:", "/SYSV"))
        and not file.name.startswith(DRIVER)
    }


def test_nothing_of_the_host_is_mapped(
    session_environment: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After a name was looked up (NSS modules load late) and a request was served."""
    with serving(session_environment, tmp_path, "--host", "localhost") as server:
        client = server.client
        answer = client.completions.create(model=server.model, prompt="1 2 3 4", max_tokens=4)
        assert answer.choices[0].text
        processes = {server.process.pid, *server.descendants()}
        assert len(processes) > 1
        own = tmp_path_factory.getbasetemp()
        for pid in processes:
            assert not foreign(mapped_files(pid), own)


def test_a_host_library_would_be_seen() -> None:
    """The test above can fail."""
    library = Path("/usr/lib/x86_64-linux-gnu/libc.so.6")
    assert foreign({library, Path("/nix/store/x/libc.so.6")}, Path("/tmp/own")) == {library}


def test_python_runs_nothing_of_the_hosts(session_environment: dict[str, str]) -> None:
    """Not its site customization either, to which Debian's package links by a place in /etc."""
    files_of = "(getattr(module, '__file__', None) for module in sys.modules.values())"
    script = f"import sys; print(*filter(None, {files_of}), sep='\\n')"
    command = [os.environ["DGX_VLLM"], "exec", "python", "-c", script]
    said = subprocess.run(command, env=session_environment, check=True, capture_output=True, text=True)
    files = {Path(line).resolve() for line in said.stdout.splitlines()}
    assert "sitecustomize.py" in {file.name for file in files}
    assert [file for file in files if not file.is_relative_to("/nix/store")] == []

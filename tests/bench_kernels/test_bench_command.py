"""`dgx-vllm bench-kernels` without a GPU: what it refuses, and in how many words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dgx_vllm.kernels import library
from dgx_vllm.util import output_files
from dgx_vllm.util.errors import UserError
from helpers.doctoring import install_driver
from helpers.processes import PATIENCE

LIBRARIES = (library.VARIABLE, f"{library.VARIABLE}_BOUNDS")


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dgx_vllm.cli", "bench-kernels", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture
def with_libraries(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Files where the libraries would be: no GPU is found before one is loaded."""
    paths = {name: tmp_path / f"{name}.so" for name in LIBRARIES}
    for path in paths.values():
        path.touch()
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    return {**environment, **hidden, **{name: str(path) for name, path in paths.items()}}


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("dgx-vllm: ")
    for word in words:
        assert word in line
    assert not done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shapes", "llama"), ("no shape 'llama'", "qwen3-next")),
        (("--shapes", "2048/100/8/2/64"), ("100", "not a multiple of 64")),
        (("--shapes", "2048/128/8/9/64"), ("top-k",)),
        (("--tokens", "0,1"), ("--tokens", "1 to 16")),
        (("--tokens", "17"), ("--tokens",)),
        (("--tokens", "one"), ("--tokens",)),
        (("--peers", "cutlass"), ("--peers", "marlin, humming", "cutlass")),
        (("--shapes", ""), ("no shape ''", "qwen3-next")),
        (("--json", "nowhere/rows.json"), ("--json", "no directory nowhere")),
        (("--json", "."), ("--json", "is a directory")),
    ],
)
def test_bad_input_is_refused_in_one_line(
    with_libraries: dict[str, str], words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    refused(run(with_libraries, *words), *said)


def test_without_a_library_it_says_which_build_has_one(environment: dict[str, str], tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.so")
    refused(run({**environment, library.VARIABLE: missing}), missing, "GB10", library.VARIABLE)


def test_without_a_gpu_it_says_so(with_libraries: dict[str, str]) -> None:
    done = run({**with_libraries, "DGX_VLLM_DRIVER": ""}, "--peers", "none")
    refused(done, "needs an NVIDIA GPU", "dgx-vllm doctor")


def test_it_becomes_itself_where_the_driver_is_found(with_libraries: dict[str, str], tmp_path: Path) -> None:
    """Once, and as it was called."""
    install_driver(tmp_path / "driver", machine=os.uname().machine)
    with_libraries["DGX_VLLM_DRIVER"] = str(tmp_path / "driver")
    refused(run(with_libraries, "--peers", "none"), "needs an NVIDIA GPU")
    (links,) = (Path(with_libraries["VLLM_CACHE_ROOT"]) / "driver").iterdir()
    assert (links / "libcuda.so.1").resolve().parent == tmp_path / "driver"


def test_each_library_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, variable in zip(("kernels", "bounds"), LIBRARIES, strict=True):
        (tmp_path / name).touch()
        monkeypatch.setenv(variable, str(tmp_path / name))
    assert [library.find("kernels").name, library.find("bounds").name] == ["kernels", "bounds"]


def test_a_wrong_name_of_a_peer_does_not_pass_for_none() -> None:
    from dgx_vllm.bench_kernels import command

    with pytest.raises(UserError):
        command._peers("")
    assert command._peers("none") == []
    assert command._peers(" Humming,marlin") == ["Marlin", "Humming"]


def test_the_file_s_head_names_the_file_and_not_its_place() -> None:
    file = Path("/some/where/rows.json")
    assert output_files.typed(["--json=/some/where/rows.json"], file) == "dgx-vllm --json=rows.json"
    assert output_files.typed(["--json", "/some/where/rows.json"], None, file) == "dgx-vllm --json rows.json"
    assert output_files.typed(["--logs", ".", "v1."], Path(".")) == "dgx-vllm --logs . v1."
    assert output_files.typed(["a b"], file) == "dgx-vllm 'a b'"
    assert output_files.typed(["qwen3-next"], None) == "dgx-vllm qwen3-next"

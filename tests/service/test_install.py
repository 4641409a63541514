"""`dgx-vllm install-service` on a machine without a service manager, in a root of its own."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dgx_vllm.launch.settings.options import Options
from dgx_vllm.service import install
from dgx_vllm.service.instance import Instance
from dgx_vllm.util.errors import UserError

QWEN = "nvidia/Qwen3.6-35B-A3B-NVFP4"


@pytest.fixture(autouse=True)
def no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.Manager, "running", False)


@pytest.fixture
def manager(tmp_path: Path) -> install.Manager:
    return install.system(tmp_path)


def instance(**fields: object) -> Instance:
    return install.prepared(Instance(name="main", command="/bin/dgx-vllm", **fields))  # type: ignore[arg-type]


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_what_is_installed_is_removed_without_a_trace(manager: install.Manager, tmp_path: Path) -> None:
    before = tree(tmp_path)
    said = install.install(instance(model=QWEN), manager)
    server = (manager.directory / "dgx-vllm-main.service").read_text()
    assert "WantedBy=multi-user.target" in server
    assert "Requires=dgx-vllm-main-download.service" in server
    assert "[Install]" not in (manager.directory / "dgx-vllm-main-download.service").read_text()
    assert [line.partition(": ")[2] for line in said if line.startswith("systemd does not run here")] == [
        "systemctl daemon-reload",
        "systemctl enable dgx-vllm-main.service",
        "systemctl restart --no-block dgx-vllm-main.service",
    ]
    install.remove("main", manager)
    assert tree(tmp_path) == before


def test_a_store_path_is_kept_from_the_collector_until_removed(
    manager: install.Manager, tmp_path: Path
) -> None:
    stored = os.path.realpath(os.__file__)
    if not stored.startswith("/nix/store/"):
        pytest.skip("this Python is not from a Nix store")
    made = install.prepared(Instance(name="main", command=stored))
    install.install(made, manager)
    link = manager.roots / "main"
    assert link.is_symlink()
    assert stored.startswith(os.readlink(link) + "/")
    install.remove("main", manager)
    assert not manager.roots.exists()


def test_an_instance_that_no_longer_downloads_leaves_no_unit_behind(manager: install.Manager) -> None:
    install.install(instance(model=QWEN), manager)
    install.install(instance(model="demo"), manager)
    assert [path.name for path in manager.directory.iterdir()] == ["dgx-vllm-main.service"]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What a service manager was asked since the last time; it has nothing to reset."""
    (tmp_path / "bin").mkdir()
    systemctl, log = tmp_path / "bin/systemctl", tmp_path / "asked"
    systemctl.write_text(f'#!/bin/sh\necho "$*" >> {log}\n[ "$1" != reset-failed ]\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(install.Manager, "running", True)

    def take() -> list[str]:
        said = log.read_text().splitlines()
        log.unlink()
        return said

    return take


def test_a_first_installation_starts_the_server(
    manager: install.Manager, asked: Callable[[], list[str]]
) -> None:
    install.install(instance(model=QWEN), manager)
    assert asked() == [
        "daemon-reload",
        "enable dgx-vllm-main.service",
        "restart --no-block dgx-vllm-main.service",
    ]


@pytest.mark.parametrize("model", [QWEN, "demo"])
def test_installing_again_runs_what_was_installed(
    manager: install.Manager, asked: Callable[[], list[str]], model: str
) -> None:
    """An upgrade, or another model: the download is no longer done, the server no longer the old one."""
    install.install(instance(model="owner/before"), manager)
    asked()
    install.install(instance(model=model), manager)
    assert asked() == [
        "stop dgx-vllm-main-download.service",
        "daemon-reload",
        "enable dgx-vllm-main.service",
        "reset-failed dgx-vllm-main.service",
        "restart --no-block dgx-vllm-main.service",
    ]


def test_models_are_not_taken_from_another_users_instance(manager: install.Manager, tmp_path: Path) -> None:
    """systemd gives its cache directory to the user whose unit started last."""
    install.install(instance(model=QWEN), manager)
    before = tree(tmp_path)
    other = msgspec.structs.replace(instance(), name="other", user="root")
    with pytest.raises(UserError, match=r"the models of dgx-vllm-main\.service.*--cache-dir DIRECTORY"):
        install.install(other, manager)
    assert tree(tmp_path) == before
    install.install(msgspec.structs.replace(other, cache_dir="/srv"), manager)
    install.install(msgspec.structs.replace(other, name="third", user=None), manager)
    # The same instance may change its user.
    install.remove("third", manager)
    install.install(msgspec.structs.replace(other, name="main"), manager)


def test_a_unit_of_somebody_else_is_left_alone(manager: install.Manager) -> None:
    manager.directory.mkdir(parents=True)
    theirs = manager.directory / "dgx-vllm-main.service"
    theirs.write_text("[Unit]\n")
    with pytest.raises(UserError, match="was not written by dgx-vllm"):
        install.install(instance(model=QWEN), manager)
    assert [theirs.read_text(), len(list(manager.directory.iterdir()))] == ["[Unit]\n", 1]
    with pytest.raises(UserError, match=r"there is no dgx-vllm-main\.service"):
        install.remove("main", manager)


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("no directory")
    with pytest.raises(UserError, match="Not a directory"):
        install.install(instance(), install.system(tmp_path))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "No space left on device; make room"),
        (errno.EACCES, "Permission denied; run it with sudo, or give --user"),
        (errno.EROFS, "Read-only file system; nothing was started"),
    ],
)
def test_a_file_that_cannot_be_written_whole_is_not_left_in_part(
    manager: install.Manager, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    whole = Path.write_text

    def breaks_off(path: Path, text: str, encoding: str) -> None:
        whole(path, text[:10], encoding)
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_text", breaks_off)
    with pytest.raises(UserError, match=said):
        install.install(instance(), manager)
    assert list(manager.directory.iterdir()) == []


def test_a_user_without_nix_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    of_user = install.of_user({"HOME": str(tmp_path)})
    made = install.prepared(Instance(name="main", command="/nix/store/none/bin/dgx-vllm"))
    with pytest.raises(UserError, match="nix-store, which keeps the server in the store, is not on PATH"):
        install.install(made, of_user)
    assert tree(tmp_path) == set()


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    made = instance(model="./model", options=Options(api_key_file=Path("key"), profile="own.toml"))
    assert (made.model, made.download) == (str(tmp_path / "model"), False)
    assert (made.options.api_key_file, made.options.profile) == (tmp_path / "key", str(tmp_path / "own.toml"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "A b"}, "give lower-case letters, digits and dashes"),
        ({"name": "main-download"}, "units whose names end so fetch models"),
        (
            {"options": Options(api_key_file=Path("/a b"))},
            "a unit cannot name a path with blanks, colons or percent signs",
        ),
        ({"hf_token_file": "/a:b"}, "a unit cannot name a path with blanks, colons or percent signs"),
        ({"environment_file": "/100%h"}, "a unit cannot name a path with blanks, colons or percent signs"),
        ({"extra_args": ["--chat-template", "a\nb"]}, "has a line break"),
        ({"options": Options(memory_reserve="1GB\nExecStart=/bin/sh")}, "has a line break"),
    ],
)
def test_what_no_unit_can_hold_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        install.prepared(Instance(**{"name": "main", "command": "/bin/dgx-vllm", **fields}))  # type: ignore[arg-type]

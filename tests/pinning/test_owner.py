"""A checkout of another user, and commands that cannot work here: one line, before anything is fetched."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from pinning import child, offline
from pinning.failure import UserError

GIT = "fatal: detected dubious ownership in repository at '/x'"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(offline, "FLAKE", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("status", "said", "refused"), [(128, GIT, True), (0, "", False), (1, "else", False)]
)
def test_a_checkout_of_another_user(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str, refused: bool
) -> None:
    monkeypatch.setattr(child, "run", lambda command, **_: CompletedProcess(command, status, "", said))
    if not refused:
        offline._check_owner()
        return
    with pytest.raises(UserError, match=f"safe.directory {checkout}"):
        offline._check_owner()


def test_git_is_asked_in_english(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    asked: list[str] = []

    def run(command: list[str], *, environment: dict[str, str]) -> CompletedProcess[str]:
        asked.append(environment["LC_ALL"])
        return CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(child, "run", run)
    offline._check_owner()
    assert asked == ["C"]


@pytest.mark.parametrize("name", ["a b", "a#b", "a?b", "100%"])
def test_a_place_that_nix_cannot_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "FLAKE", Path("/srv") / name)
    with pytest.raises(UserError, match="move the checkout to a path without blanks"):
        offline.main(["build", "."])


def test_no_checkout_of_git_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "FLAKE", tmp_path)
    monkeypatch.setattr(child, "run", lambda *_, **__: pytest.fail("git was asked"))
    offline._check_owner()


def test_nix_profile_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "_check_sandbox", lambda: None)
    with pytest.raises(UserError, match="leaves the command in"):
        offline.main(["profile", "install", "."])

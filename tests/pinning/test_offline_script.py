"""`nix/offline.sh` before Python: what a bare machine lacks, and how it is told."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from helpers.processes import PATIENCE

SCRIPT = Path(__file__).resolve().parents[2] / "nix/offline.sh"
TOOLS = ("dirname", "grep", "mktemp", "rm", "sh", "tail", "cat")

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="nix/offline.sh lies elsewhere in this check")


class Bare:
    """A machine with coreutils and what a test adds; its root by default."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.scratch = root / "tmp"
        for folder in (self.bin, self.scratch):
            folder.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            self.bin.joinpath(tool).symlink_to(found)
        self.have("id", "echo 0")

    def have(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(
        self, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        own = {"PATH": str(self.bin), "TMPDIR": str(self.scratch)}
        environment = {**os.environ, **own, **(variables or {})}
        return subprocess.run(
            ["sh", str(SCRIPT), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            start_new_session=True,
        )

    def fails(self, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
        """The last line of a run that must fail, which leaves nothing and is no traceback."""
        done = self.run(*arguments, variables=variables)
        assert done.returncode == 1, done.stderr
        assert done.stdout == ""
        *said, last = done.stderr.splitlines()
        assert all(line.startswith("offline: ") for line in said), done.stderr
        assert list(self.scratch.iterdir()) == []
        return last


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare(tmp_path)


def test_without_arguments_it_says_what_to_type_and_installs_nothing(bare: Bare) -> None:
    bare.have("apt-get", "echo installing")
    assert bare.fails() == "error: what should nix do? For example: sh nix/offline.sh run .#serve"


def test_a_machine_without_apt_is_told_what_to_install(bare: Bare) -> None:
    line = bare.fails("run", ".#serve")
    assert line.startswith(
        "error: this machine lacks nix-bin nix-setup-systemd python3 python3-pip and has no apt"
    )


def test_who_is_not_root_is_told_what_to_install(bare: Bare) -> None:
    bare.have("apt-get", "exit 9")
    bare.have("id", "echo 1000")
    bare.have("nix", "")
    bare.have("python3", '[ "$2" != pip ]')
    assert bare.fails("run") == (
        "error: installing python3-pip needs root: run this once as root, or apt-get install python3-pip"
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'W: Failed to fetch http://mirror.test/InRelease  Could not connect'\n"
            '[ "${*%update*}" != "$*" ] || { echo "E: Unable to locate package nix-bin"; exit 100; }',
            "W: Failed to fetch http://mirror.test/InRelease  Could not connect",
        ),
        ("echo Reading; echo 'E: Could not get lock'; exit 100", "E: Could not get lock"),
        ("echo Killed; exit 137", "Killed"),
    ],
)
def test_an_installation_that_fails_is_one_line(bare: Bare, script: str, said: str) -> None:
    bare.have("apt-get", script)
    assert bare.fails("run") == (
        "error: apt-get could not install nix-bin nix-setup-systemd python3 python3-pip: "
        f"{said}; check the network and `apt-get update`, then run this again"
    )


def test_a_python_that_is_too_old_is_told(bare: Bare) -> None:
    bare.have("nix", "")
    bare.have("python3", 'case "$1" in -m) ;; --version) echo Python 3.10.12 ;; *) exit 1 ;; esac')
    line = bare.fails("run")
    assert line == "error: Python 3.10.12 is too old: install Python 3.11 or later, then run this again"


def test_an_interrupted_installation_is_one_line_and_leaves_nothing(bare: Bare) -> None:
    # As a terminal does it: the shell and all that it runs get the signal.
    bare.have("apt-get", "kill -INT 0")
    done = bare.run("run")
    assert done.returncode == 130
    assert done.stderr.splitlines()[1:] == ["error: interrupted: run the same command to go on"]
    assert list(bare.scratch.iterdir()) == []


def test_what_is_there_is_not_installed_and_the_arguments_are_handed_on(bare: Bare) -> None:
    bare.have("apt-get", "exit 9")
    bare.have("nix", "")
    told = 'shift 4; printf "%s\\n" "$PYTHONPATH" "$@"'
    bare.have("python3", f'case "$*" in *pinning.offline*) {told} ;; -c*) echo "$0" ;; esac')
    done = bare.run("build", ".#a b", variables={"PYTHONPATH": "/home/me/lib"})
    assert (done.returncode, done.stderr) == (0, "")
    # The caller's PYTHONPATH too: what nix runs is to have no other.
    assert done.stdout.splitlines() == ["/home/me/lib", str(SCRIPT.parent), "build", ".#a b"]


def test_pinning_is_found_and_nothing_of_the_callers(bare: Bare, tmp_path: Path) -> None:
    """As far as its first words: there is no program here that makes namespaces."""
    bare.have("nix", "")
    bare.have("python3", f'[ "$1" = -m ] || exec "{sys.executable}" "$@"')
    (tmp_path / "pinning.py").write_text("raise SystemExit('another pinning')")
    line = bare.fails("run", variables={"PYTHONPATH": str(tmp_path)})
    assert line.startswith("error: this machine has no unshare"), line

"""A system of the tests' own, with systemd as its process 1: see boot.sh."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from helpers.processes import PATIENCE

BOOT = Path(__file__).with_name("boot.sh")
BOOT_SECONDS = 600


@dataclass(frozen=True)
class System:
    """A system that has booted.

    Args:
        manager: the process id of its systemd, as this machine counts.
    """

    manager: int

    @property
    def root(self) -> Path:
        """Its root directory, seen from outside."""
        return Path(f"/proc/{self.manager}/root")

    def run(self, *words: str, check: bool = True, errors: int = subprocess.STDOUT) -> str:
        """What a command run inside says, on both of its outputs unless `errors` takes one elsewhere."""
        inside = ["nsenter", f"--target={self.manager}", "--mount", "--pid", "--cgroup", "--ipc", "--uts"]
        environ = {"PATH": "/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            [*inside, "--", *words],
            env={**environ, "PATH": f"{environ['PATH']}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def output(self, *words: str) -> str:
        """What a command run inside says to a program that reads it."""
        return self.run(*words, errors=subprocess.DEVNULL)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def processes(self, unit: str) -> dict[int, psutil.Process]:
        """The processes of a unit, by their ids on this machine."""
        group = self.show(unit, "ControlGroup")
        if not group:
            return {}
        listed = self.root / "sys/fs/cgroup" / group.lstrip("/") / "cgroup.procs"
        with contextlib.suppress(FileNotFoundError):
            return {int(pid): psutil.Process(int(pid)) for pid in listed.read_text().split()}
        return {}

    def files(self) -> set[str]:
        """Every file that is there and in no package, what runs and what is cached aside."""
        passing = {"dev", "nix", "proc", "run", "sys", "tmp", "var"}
        tops = [top for top in self.root.iterdir() if top.name not in passing]
        paths = [path for top in (*tops, self.root / "nix/var") for path in top.rglob("*")]
        return {str(path.relative_to(self.root)) for path in paths if path.is_symlink() or not path.is_dir()}


@contextlib.contextmanager
def booted(directory: Path) -> Iterator[System]:
    """Boots the system in DGX_VLLM_SYSTEM, until the block ends."""
    log = (directory / "boot.log").open("w+")
    place = directory / "system"
    place.mkdir()
    command = ["unshare", "--mount", "--propagation=private", "sh", str(BOOT), os.environ["DGX_VLLM_SYSTEM"]]
    process = subprocess.Popen([*command, str(place)], stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + BOOT_SECONDS
        while True:
            system = _manager(process.pid)
            if system and "running" in system.run("systemctl", "is-system-running", check=False):
                break
            log.seek(0)
            assert process.poll() is None, log.read()
            assert time.monotonic() < end, log.read() + (_failed(system) if system else "no manager")
            time.sleep(0.2)
        yield system
    finally:
        process.terminate()
        process.wait(PATIENCE)
        log.close()


def _manager(pid: int) -> System | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in psutil.Process(pid).children(recursive=True):
            if each.name() == "systemd" and Path(f"/proc/{each.pid}/root/run/systemd/private").exists():
                return System(each.pid)
    return None


def _failed(system: System) -> str:
    return system.run("systemctl", "list-units", "--failed", "--no-pager", check=False)

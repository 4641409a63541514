"""A machine in a directory, whose registries, store and nix are programs of the tests."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers.processes import PATIENCE
from pinning.pins import DEBIAN_ARCHITECTURES, Pins, read

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = ("unshare", "apt-config", "apt-get", "dpkg-deb", "nix-hash", "nix-store", "nix")
SEED = b"busybox itself"


class Machine:
    """What a run finds: a checkout's nix/ with small pins, and fake/programs.py as each of PROGRAMS."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nix = root / "checkout/nix"
        self.scratch = root / "tmp"
        for folder in ("archive/amd64", "archive/arm64", "index", "store", "bin", "tmp", "checkout/nix/pins"):
            (root / folder).mkdir(parents=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(
            REPOSITORY / "nix/pinning", self.nix / "pinning", ignore=ignore, copy_function=shutil.copyfile
        )
        for program in PROGRAMS:
            self._program(program)
        (root / "fake/pip").mkdir(parents=True)
        (root / "fake/pip/__main__.py").write_text(
            f"import sys\nsys.path.insert(0, {str(Path(__file__).parent / 'fake')!r})\n"
            "import programs\nprograms.main('pip', sys.argv[1:])\n"
        )
        self.environment = {
            **os.environ,
            "FAKE_MACHINE": str(root),
            "PATH": str(root / "bin"),
            "PYTHONPATH": f"{self.nix}:{root / 'fake'}",
            "TMPDIR": str(self.scratch),
        }
        self.environment.pop("DGX_VLLM_DEBIAN_MIRROR", None)
        self._debian: dict[str, dict[str, object]] = {}
        self._pypi: dict[str, dict[str, object]] = {}
        self._seeds: dict[str, dict[str, str]] = {}
        self._fill()

    def _program(self, name: str) -> None:
        path = self.root / "bin" / name
        script = Path(__file__).parent / "fake/programs.py"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -B "{script}" {name} "$@"\n')
        path.chmod(0o755)

    def _fill(self) -> None:
        """Packages of one name for two architectures and for all, an epoch, a tilde; wheels likewise."""
        for architecture in DEBIAN_ARCHITECTURES.values():
            self._deb("libfoo", "1:2.0~rc1-1", architecture, architecture)
        self._deb("data", "5-1", "all", "amd64")
        for system, architecture in DEBIAN_ARCHITECTURES.items():
            file = self._deb("busybox-static", "1.35-4", architecture, architecture, SEED)
            self._seeds[system] = {"file": file, "sha256": hashlib.sha256(SEED).hexdigest()}
        for name, size in (("small", 10), ("middle", 1000), ("large", 2000)):
            file = f"{name}-1.0-py3-none-any.whl"
            self._pypi[file] = self._entry(name, "1.0", self.root / "index" / file, name.encode() * size)
        for machine in ("x86_64", "aarch64"):
            file = f"both-1.0-py3-none-manylinux2014_{machine}.whl"
            self._pypi[file] = self._entry("both", "1.0", self.root / "index" / file, machine.encode() * 20)
        self.save()

    def _deb(self, name: str, version: str, architecture: str, index: str, content: bytes = b"") -> str:
        pool_version = version.partition(":")[2] or version
        file = f"pool/main/{name[0]}/{name}/{name}_{pool_version}_{architecture}.deb"
        served = self.root / "archive" / index / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
        self._debian[file] = self._entry(name, version, served, content or f"{name} {architecture}".encode())
        return file

    def _entry(self, name: str, version: str, served: Path, content: bytes) -> dict[str, object]:
        served.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return {"name": name, "version": version, "sha256": digest, "size": len(content)}

    def save(self) -> None:
        debian = {"suite": "bookworm", "files": self._debian, "groups": {}, "seed": self._seeds}
        (self.nix / "pins/debian.json").write_text(json.dumps(debian))
        (self.nix / "pins/pypi.json").write_text(json.dumps({"files": self._pypi, "groups": {}}))
        (self.root / "building").write_text("\n".join(self.wanted))

    def resize(self, name: str, size: int) -> None:
        """Pin another size, in bytes, for a wheel."""
        self._pypi[f"{name}-1.0-py3-none-any.whl"]["size"] = size
        self.save()

    def reseed(self, sha256: str) -> None:
        """Pin another hash for what is unpacked from each seed's package."""
        for seed in self._seeds.values():
            seed["sha256"] = sha256
        self.save()

    @property
    def pins(self) -> Pins:
        return read(self.nix / "pins")

    @property
    def wanted(self) -> set[str]:
        """Names of the store paths that a whole run fills."""
        files = [pin.store_path for pin in self.pins.files if pin.name != "busybox-static"]
        return {Path(path).name for path in (*files, *(seed.store_path for seed in self.pins.seeds))}

    @property
    def store(self) -> set[str]:
        return {path.name for path in (self.root / "store").iterdir()}

    @property
    def left(self) -> list[str]:
        """What lies in the temporary directory."""
        return [str(path) for path in self.scratch.rglob("*")]

    def calls(self, program: str) -> list[str]:
        """Every run of a program so far, by its arguments."""
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(" ")[2] for line in lines if line.partition(" ")[0] == program]

    def say(self, program: str, text: str) -> None:
        """From now on a program ends with status 1 and these words."""
        (self.root / f"say-{program}").write_text(text)

    def hold(self, program: str, wanted: str = "") -> None:
        """From now on a program waits in the middle of downloading what has `wanted` in its name."""
        (self.root / f"hold-{program}").write_text(wanted)

    def release(self) -> None:
        for path in self.root.glob("hold-*"):
            path.unlink()

    @property
    def waiting(self) -> list[int]:
        """Process ids of the programs that have come to where they wait."""
        path = self.root / "pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-B", "-m", "pinning.offline", *(arguments or ("build", ".#all"))]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess([], process.returncode, output, errors)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True

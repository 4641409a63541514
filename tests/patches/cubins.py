"""The GPU code in a library: cubins, what they were compiled for, and their SASS."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from elftools.elf.elffile import ELFFile


def _tool(name: str) -> str:
    """One of NVIDIA's binary utilities, which Triton brings."""
    triton = importlib.util.find_spec("triton")
    assert triton is not None, "Triton is not installed"
    return str(Path(triton.origin).parent / "backends/nvidia/bin" / name)


@dataclass(frozen=True)
class Cubin:
    path: Path

    @cached_property
    def target(self) -> str:
        """The `-arch` that ptxas was given, by its own note; `doctor.fatbin` reads the fatbin's header."""
        with self.path.open("rb") as file:
            note = ELFFile(file).get_section_by_name(".note.nv.tkinfo").data()
        found = re.search(rb"-arch (sm_\w+)", note)
        assert found, f"{self.path.name}: ptxas left no -arch"
        return found[1].decode()

    @cached_property
    def kernels(self) -> frozenset[str]:
        """Mangled names."""
        with self.path.open("rb") as file:
            names = [section.name for section in ELFFile(file).iter_sections()]
        return frozenset(name.removeprefix(".text.") for name in names if name.startswith(".text."))

    @cached_property
    def sass(self) -> dict[str, str]:
        """Each kernel's machine code, disassembled."""
        command = [_tool("nvdisasm"), "--print-code", str(self.path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        parts = re.split(r"^\s*\.section\s+\.text\.(\w+),.*$", text, flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))


def runs_on(target: str, capability: tuple[int, int]) -> bool:
    """Whether a GPU takes a cubin: of an "a" target its own chip only, of others later minors too."""
    found = re.fullmatch(r"sm_(\d+)(\d)([af]?)", target)
    assert found, target
    major, minor = int(found[1]), int(found[2])
    if found[3] == "a":
        return (major, minor) == capability
    return major == capability[0] and minor <= capability[1]


def has_family_features(target: str) -> bool:
    """Whether ptxas took the instructions that plain targets lack, the FP4 ones among them."""
    return target.endswith(("a", "f"))


def cubins_of(library: Path, architecture: str, directory: Path) -> list[Cubin]:
    """The cubins with any kernels that a library holds for an architecture, whatever its suffix."""
    command = [_tool("cuobjdump"), "-arch", architecture, "--extract-elf", "all", str(library)]
    subprocess.run(command, cwd=directory, capture_output=True, check=True)
    cubins = [Cubin(path) for path in sorted(directory.glob("*.cubin"))]
    return [cubin for cubin in cubins if cubin.kernels]

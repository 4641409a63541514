"""GPU code in libraries: the flags of an entry say what its number hides."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.doctor.extension_modules import runnable
from dgx_vllm.kernels.fatbin import Architectures, architectures
from helpers.doctoring import cubin, elf, library, ptx


def read(tmp_path: Path, content: bytes) -> Architectures:
    path = tmp_path / "module.so"
    path.write_bytes(content)
    return architectures(path)


def test_same_number_different_architectures(tmp_path: Path) -> None:
    held = read(tmp_path, library(cubin("sm_120"), cubin("sm_120f"), cubin("sm_120a"), cubin("sm_121a")))
    assert held.cubins == {"sm_120": 1, "sm_120f": 1, "sm_120a": 1, "sm_121a": 1}


def test_other_generations_and_ptx_have_their_suffix_too(tmp_path: Path) -> None:
    """On the old tree, sm_90a counted as sm_90 and PTX of one chip as PTX for every later one."""
    held = read(tmp_path, library(cubin("sm_90a"), cubin("sm_90a"), ptx(80), ptx("90a"), ptx("120f")))
    assert held.cubins == {"sm_90a": 2}
    assert held.ptx == {"compute_80": 1, "compute_90a": 1, "compute_120f": 1}
    assert runnable(held, (12, 1))[1] == ["compute_120f", "compute_80"]


@pytest.mark.parametrize(
    ("kind", "number", "flags", "arch"),
    [
        (2, 121, 0x1000011, "sm_121"),
        (2, 121, 0x1100011, "sm_121a"),
        (2, 120, 0x1200011, "sm_120f"),
        (2, 90, 0x108011, "sm_90a"),  # compressed
        (1, 121, 0x208011, "compute_121f"),
        (2, 121, 0x1300011, "sm_121?"),
    ],
)
def test_headers_that_nvcc_makes(tmp_path: Path, kind: int, number: int, flags: int, arch: str) -> None:
    """Flags as nvcc 13.0.88 writes them, but for the last, which has both suffixes."""
    entry = bytearray(72)
    struct.pack_into("<HHIQ", entry, 0, kind, 0x101, 64, 8)
    struct.pack_into("<I", entry, 28, number)
    struct.pack_into("<Q", entry, 40, flags)
    held = read(tmp_path, library(bytes(entry)))
    assert held.cubins + held.ptx == {arch: 1}


def test_library_without_gpu_code(tmp_path: Path) -> None:
    held = read(tmp_path, elf([(b".text", bytes(16))]))
    assert (held.cubins, held.ptx) == ({}, {})


@pytest.mark.parametrize("content", [b"not a library", b"\x7fELF\x02\x01", b"x"])
def test_a_file_that_is_not_a_library_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"ELF|cut off"):
        read(tmp_path, content)


def test_a_truncated_library_is_refused(tmp_path: Path) -> None:
    whole = library(cubin("sm_120"))
    with pytest.raises(ValueError, match="cut off"):
        read(tmp_path, whole[:-64])


@given(st.binary(min_size=1, max_size=400))
def test_damage_never_surprises(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = tmp_path_factory.mktemp("damaged") / "module.so"
    path.write_bytes(library(cubin("sm_120"))[: 64 + len(tail)] + tail)
    try:
        architectures(path)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - any other exception fails the test


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((12, 1), ["sm_121a", "sm_120f", "sm_120"]),
        ((12, 0), ["sm_120f", "sm_120a", "sm_120"]),
        ((9, 0), ["sm_90a"]),
        ((8, 9), ["sm_80"]),
        ((10, 0), []),
    ],
)
def test_a_gpu_runs_cubins_of_its_family_and_older_ptx(capability: tuple[int, int], runs: list[str]) -> None:
    held = Architectures()
    held.cubins.update(["sm_80", "sm_90a", "sm_120", "sm_120a", "sm_120f", "sm_121a"])
    held.ptx.update(["compute_80", "compute_130"])
    cubins, ptx_names = runnable(held, capability)
    assert list(cubins) == runs
    assert ptx_names == ["compute_80"]

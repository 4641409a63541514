"""GPU code in libraries: the note in the cubin says what the entry's number hides."""

import ctypes
from pathlib import Path

import pytest
from doctoring import compress, cubin, elf, library, ptx
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.doctor import fatbin
from dgx_vllm.doctor.fatbin import Architectures, architectures
from dgx_vllm.doctor.modules import runnable


def read(tmp_path: Path, content: bytes, major: int = 12) -> Architectures:
    path = tmp_path / "module.so"
    path.write_bytes(content)
    return architectures(path, major)


def test_same_number_different_architectures(tmp_path: Path) -> None:
    held = read(tmp_path, library(cubin("sm_120"), cubin("sm_120f"), cubin("sm_120a"), cubin("sm_121a")))
    assert held.cubins == {"sm_120": 1, "sm_120f": 1, "sm_120a": 1, "sm_121a": 1}


@pytest.mark.skipif(compress(b"") is None, reason="no libzstd here")
def test_compressed(tmp_path: Path) -> None:
    assert read(tmp_path, library(cubin("sm_120f", packed=True))).cubins == {"sm_120f": 1}


@pytest.mark.skipif(compress(b"") is None, reason="no libzstd here")
def test_compressed_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fatbin, "_zstd", lambda: None)
    assert read(tmp_path, library(cubin("sm_120f", packed=True))).cubins == {"sm_120?": 1}


def test_other_generations_and_ptx_are_counted_by_number(tmp_path: Path) -> None:
    held = read(tmp_path, library(cubin("sm_90a"), cubin("sm_90a"), ptx(80)))
    assert held.cubins == {"sm_90": 2}
    assert held.ptx == {"compute_80": 1}


def test_cubin_without_note(tmp_path: Path) -> None:
    assert read(tmp_path, library(cubin("sm_120", note=False))).cubins == {"sm_120?": 1}


def test_library_without_gpu_code(tmp_path: Path) -> None:
    held = read(tmp_path, elf([(b".text", bytes(16))]))
    assert (held.cubins, held.ptx) == ({}, {})


@pytest.mark.parametrize("content", [b"not a library", b"\x7fELF\x02\x01", b"x"])
def test_no_library(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"ELF|cut off"):
        read(tmp_path, content)


def test_cut_off(tmp_path: Path) -> None:
    whole = library(cubin("sm_120"))
    with pytest.raises(ValueError, match="cut off"):
        read(tmp_path, whole[:-64])


@given(st.binary(min_size=1, max_size=400))
def test_damage_never_surprises(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = tmp_path_factory.mktemp("damaged") / "module.so"
    path.write_bytes(library(cubin("sm_120"))[: 64 + len(tail)] + tail)
    try:
        architectures(path, 12)
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
def test_what_runs(capability: tuple[int, int], runs: list[str]) -> None:
    held = Architectures()
    held.cubins.update(["sm_80", "sm_90a", "sm_120", "sm_120a", "sm_120f", "sm_121a"])
    held.ptx.update(["compute_80", "compute_130"])
    cubins, ptx_names = runnable(held, capability)
    assert list(cubins) == runs
    assert ptx_names == ["compute_80"]


def test_libzstd_is_looked_for_by_soname() -> None:
    assert fatbin._zstd() is None or isinstance(fatbin._zstd(), ctypes.CDLL)

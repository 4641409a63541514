"""The emulation: what a GPU would not bear is an exception that says where, and no other test ends for it."""

import ctypes
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from emulation import ViolationError, build
from formats import aligned

BYTES = 16 * 1024
RIGHT, HALF_A_WARP, TOO_MUCH_SHARED = 0, 8, 9
INVALID_VALUE = 1
WHERE = r", block \(1, 0, 0\), thread \(37, 0, 0\): "
ANYWHERE = r", block \(\d, 0, 0\), thread \(\d+, 0, 0\): "

#: Which one it is, and what is said of it after `kernel violating::`.
VIOLATIONS = {
    "a load that is not aligned": (
        1,
        f"loads_unaligned{WHERE}a load of 16 bytes from 0x[0-9a-f]+4 is not aligned",
    ),
    "a copy that is not aligned": (
        2,
        f"copies_unaligned{WHERE}a copy of 16 bytes from 0x[0-9a-f]+8 is not aligned",
    ),
    "a copy beyond shared memory": (
        3,
        f"copies_beyond_shared_memory{WHERE}16 bytes of shared memory at 1024 are beyond the kernel's 1024",
    ),
    "a store beyond shared memory": (
        4,
        f"writes_beyond_shared_memory{WHERE}shared memory at 1024 is beyond the kernel's 1024 bytes",
    ),
    "a store beyond an array": (
        5,
        f"writes_beyond_its_array{WHERE}memory at 0x[0-9a-f]+ cannot be reached",
    ),
    "a barrier that some do not come to": (
        6,
        f"waits_alone<40>{ANYWHERE}it waits at a barrier that other threads do not come to",
    ),
    "metadata that descend": (
        7,
        f"has_descending_metadata{ANYWHERE}the metadata of mma.sp name place 1 before 0, and must ascend",
    ),
}


@pytest.fixture(scope="module")
def violating(cxx: str, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = tmp_path_factory.mktemp("violating") / "violating.cpp"
    source.write_text((Path(__file__).parent / "violating.cu").read_text())
    return build(cxx, source, source.parent)


@pytest.fixture
def memory() -> np.ndarray:
    return aligned(np.full(BYTES, 0xFF, np.uint8))


def launch(library: ctypes.CDLL, which: int, memory: np.ndarray) -> int:
    error: int = library.violate(which, ctypes.c_void_p(memory.ctypes.data))
    return error


@pytest.mark.parametrize(("which", "expected"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_violation_names_kernel_block_thread_and_what_was_violated(
    violating: ctypes.CDLL, memory: np.ndarray, which: int, expected: str
) -> None:
    with pytest.raises(ViolationError) as raised:
        launch(violating, which, memory)
    assert re.fullmatch("kernel violating::" + expected, str(raised.value))


def test_after_each_violation_the_next_kernel_runs_as_ever(
    violating: ctypes.CDLL, memory: np.ndarray
) -> None:
    for which, _ in VIOLATIONS.values():
        with pytest.raises(ViolationError):
            launch(violating, which, memory)
        memory[:] = 0xFF
        assert launch(violating, RIGHT, memory) == 0
        assert memory.view(np.int32)[:128].tolist() == [*range(64), *range(64)]
        assert (memory[512:] == 0xFF).all()


def handlers() -> list[bytes]:
    """The address of what the process calls on each signal that the emulation takes."""
    libc, found = ctypes.CDLL(None), []
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT):
        action = ctypes.create_string_buffer(256)  # more than its struct sigaction
        assert libc.sigaction(number, None, action) == 0
        found.append(action.raw[: ctypes.sizeof(ctypes.c_void_p)])
    return found


def test_signals_are_the_processs_own_again_after_a_launch(
    violating: ctypes.CDLL, memory: np.ndarray
) -> None:
    before = handlers()
    with pytest.raises(ViolationError):
        launch(violating, 5, memory)
    assert handlers() == before


@pytest.mark.parametrize("which", [HALF_A_WARP, TOO_MUCH_SHARED])
def test_a_launch_that_the_runtime_refuses_is_an_error_and_no_violation(
    violating: ctypes.CDLL, memory: np.ndarray, which: int
) -> None:
    assert launch(violating, which, memory) == INVALID_VALUE

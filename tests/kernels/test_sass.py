"""What the compiled kernels hold, read by cuobjdump and nvdisasm, which must be on PATH.

DGX_VLLM_KERNELS_COMPILED names the libraries, as nix/kernels.nix lays them out: `sm_121a=PATH:sm_90a=PATH`.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dgx_vllm.kernels import fatbin

COMPILED = dict(
    each.split("=", 1) for each in os.environ.get("DGX_VLLM_KERNELS_COMPILED", "").split(":") if each
)
#: How a decode kernel multiplies; with weights of which two of four are stored.
MULTIPLIES, MULTIPLIES_SPARSE = "HMMA.16816.F32.BF16", "HMMA.SP.16832.F32.BF16"
#: How a decode kernel fetches weights: past the registers, or straight into them.
FETCHES, FETCHES_DIRECT = "LDGSTS.E.BYPASS.LTC256B.128", "LDG.E.NA.LTC256B.128 "

if not COMPILED or not shutil.which("cuobjdump") or not shutil.which("nvdisasm"):
    pytest.skip("needs DGX_VLLM_KERNELS_COMPILED, cuobjdump and nvdisasm", allow_module_level=True)

each_target = pytest.mark.parametrize("target", sorted(COMPILED))
decode_kernels = pytest.mark.parametrize(
    "kernel", [("moe_gate_up",), ("moe_down",), ("linear", "multiply")], ids=" ".join
)


def library(target: str, name: str = "kernels") -> Path:
    (found,) = Path(COMPILED[target]).rglob(f"libdgx_{name}.so")
    return found


@cache
def functions(target: str) -> dict[str, str]:
    """SASS by kernel."""
    dump = subprocess.run(
        ["cuobjdump", "--dump-sass", library(target)], check=True, capture_output=True, text=True
    ).stdout
    parts = re.split(r"Function : (\S+)", dump)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def named(target: str, *words: str) -> Iterator[str]:
    found = [sass for name, sass in functions(target).items() if all(word in name for word in words)]
    assert found, f"no kernel named {words}"
    yield from found


@each_target
@pytest.mark.parametrize("name", ["kernels", "bounds"])
def test_every_cubin_is_for_the_architecture_specific_target(target: str, name: str, tmp_path: Path) -> None:
    """By an entry's flags, whose number is 121 for sm_121 and sm_121a alike, and by ptxas's own note."""
    made = library(target, name)
    found = fatbin.architectures(made)
    assert set(found.cubins) == {target}
    assert not found.ptx
    subprocess.run(["cuobjdump", "--extract-elf", "all", str(made.resolve())], cwd=tmp_path, check=True)
    cubins = [path.read_bytes() for path in tmp_path.glob("*.cubin")]
    assert len(cubins) == found.cubins[target]
    notes = {note.decode() for cubin in cubins for note in re.findall(rb"-arch (sm_\w+)", cubin)}
    assert notes == {target}


@each_target
@decode_kernels
def test_decode_kernels_multiply_on_the_tensor_cores(target: str, kernel: tuple[str, ...]) -> None:
    for sass in named(target, *kernel):
        assert (MULTIPLIES in sass) != (MULTIPLIES_SPARSE in sass)
        assert FETCHES in sass or FETCHES_DIRECT in sass


@each_target
@decode_kernels
def test_decode_kernels_wait_for_the_grid_in_front_before_they_let_the_next_one_start(
    target: str, kernel: tuple[str, ...]
) -> None:
    """Programmatic dependent launch: griddepcontrol.wait, then .launch_dependents, once each."""
    for sass in named(target, *kernel):
        assert (sass.count("ACQBULK"), sass.count("PREEXIT")) == (1, 1)
        assert sass.index("ACQBULK") < sass.index("PREEXIT")


@each_target
def test_few_tokens_fetch_weights_straight_into_registers(target: str) -> None:
    for sass in named(target, "_direct"):
        assert sass.count(FETCHES_DIRECT) >= 4
        assert FETCHES not in sass


@each_target
def test_few_tokens_ask_for_all_weights_before_they_multiply(target: str) -> None:
    """Scales too (LDG.E.NA). The assembler would move loads of constants down to where they are needed."""
    for sass in named(target, "moe", "_direct"):
        assert sass.rindex("LDG.E.NA") < sass.index("HMMA")


@each_target
@pytest.mark.parametrize(
    ("kernel", "tiles"), [("moe_gate_up", [1, 2]), ("moe_down", [1, 1, 2])], ids=["moe_gate_up", "moe_down"]
)
def test_sparse_weights_have_kernels_that_skip_the_zeros(target: str, kernel: str, tiles: list[int]) -> None:
    """A tile is four steps of two products, unrolled; two tiles are in a turn of moe_gate_up's ring.

    Of the kernels of few tokens moe_down_direct holds up to two at once.
    """
    counts = [sass.count(MULTIPLIES_SPARSE) for sass in named(target, kernel)]
    assert sorted(count // 8 for count in counts if count) == tiles
    assert not any(count % 8 for count in counts)


@each_target
def test_no_kernel_spills_to_local_memory(target: str) -> None:
    assert [name for name, sass in functions(target).items() if re.search(r"\b(LDL|STL)\b", sass)] == []


@each_target
def test_no_kernel_adds_in_any_order(target: str) -> None:
    """Only `compress` has an atomic: it counts violations, whose order does not matter."""
    atomics = re.compile(r"\b(ATOM|ATOMG|RED|REDG)\b")
    adding = {sass for sass in functions(target).values() if atomics.search(sass)}
    assert adding == set(named(target, "sparse24", "8compress"))  # mangled: the whole name


@each_target
@pytest.mark.parametrize("kernel", ["8compress", "10decompress"])  # mangled: the whole name
def test_conversions_of_sparse_weights_move_16_bytes_at_a_time(target: str, kernel: str) -> None:
    (sass,) = named(target, "sparse24", kernel)
    assert "LDG.E.128" in sass or "STG.E.128" in sass


@pytest.mark.skipif("sm_121a" not in COMPILED, reason="no library for sm_121a is named")
def test_conversions_use_the_instruction() -> None:
    for sass in named("sm_121a", "e2m1", "quantize"):
        assert sass.count("F2FP.SATFINITE.E2M1.F32.PACK_AB_MERGE_C") == 8
    (hardware,) = named("sm_121a", "convertILb0")
    (software,) = named("sm_121a", "convertILb1")
    assert "F2FP.SATFINITE.E2M1" in hardware
    assert "E2M1" not in software


@pytest.mark.skipif("sm_90a" not in COMPILED, reason="no library for sm_90a is named")
def test_conversions_are_software_where_there_is_no_instruction() -> None:
    for sass in named("sm_90a", "e2m1"):
        assert "E2M1" not in sass

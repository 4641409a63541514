"""2:4 and FP8 inside of vLLM on a GPU: a small checkpoint out of `dgx-vllm prune`, dense layers in FP8."""

from collections.abc import Callable

import pytest

pytest.importorskip("vllm")

from engines import DECODED, Engines
from job import Figure
from layer_probes import BOUND

pytestmark = [pytest.mark.gpu, pytest.mark.engine, pytest.mark.engines("pruned")]

Record = Callable[[str, object], None]

#: Of a linear layer's output against float64, relative L2.
LINEAR_BOUND = 3e-3
#: Between two kernels, each with its own rounding.
BOTH_BOUND = BOUND * 2**0.5


def reported(found: list[Figure], record: Record) -> list[Figure]:
    for each in found:
        record(f"{each.layer}, {each.case}, {each.tokens} tokens", f"relative L2 {each.error:.2e}")
    return found


def test_experts_are_kept_compressed(engines: Engines) -> None:
    classes = engines.answer("pruned").experts[0]
    assert len(classes) == 4
    assert set(classes.values()) <= {"SparseDecodeExperts", "SparseSlicedExperts"}
    assert "moe_decode_24 on compressed weights of 2:4" in engines.log("pruned")


def test_a_pruned_model_decodes(engines: Engines) -> None:
    ((generated,),) = engines.answer("pruned").batches
    assert 0 < len(generated.tokens) <= DECODED
    assert all(each <= 0 for each in generated.logprobs)


def test_a_layer_is_what_the_pruned_file_says(engines: Engines, record_property: Record) -> None:
    """Against float64 on the file's weights, and against the dense kernel on the layer's, uncompressed."""
    found = [each for each in engines.answer("pruned").figures if each.case not in ("FP8", "NVFP4")]
    reported(found, record_property)
    beside = [each for each in found if each.case == "against moe_decode on them uncompressed"]
    assert len(beside) == 3
    assert max(each.error for each in beside) < BOTH_BOUND
    assert max(each.error for each in found if each not in beside) < BOUND
    assert all(each.repeats for each in found)


def test_fp8_layers_are_their_products(engines: Engines, record_property: Record) -> None:
    """One of each kind that the checkpoint left in BF16, against float64 on its FP8 weights."""
    found = reported(
        [each for each in engines.answer("pruned").figures if each.case == "FP8"], record_property
    )
    kinds = {each.layer.rpartition(".")[2] for each in found}
    assert kinds == {"in_proj_qkvz", "qkv_proj", "lm_head"}
    assert max(each.error for each in found) < LINEAR_BOUND
    assert all(each.repeats for each in found)

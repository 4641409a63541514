"""`--moe-backend dgx` inside of vLLM on a GPU: four layers of Qwen3-Next-80B's shapes, random weights.

torch.compile and CUDA graphs are on. All engines are given the same tokens to decode, whatever they would
have said, so that a step's log-probabilities have the same past in each.
"""

from collections.abc import Callable

import pytest

pytest.importorskip("vllm")

import numpy as np
from engines import LAYERS, Engines
from job import Answer
from layer_probes import BOUND

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.engine,
    pytest.mark.engines("random, marlin", "random, dgx", "random, float32"),
]

Record = Callable[[str, object], None]

#: Of mean |Δ log p|, to what Marlin's experts leave against float32 ones. Two that err alike and
#: independently are 1.4 apart.
AGAINST_FLOAT32 = 1.5
AGAINST_MARLIN = 2
#: Of Marlin's, to the spread of the log-probabilities: beyond, the comparison would say nothing.
LEAST_TEETH = 0.25


def log_probabilities(answer: Answer) -> np.ndarray:
    """Of every token that was decoded, in nats."""
    return np.concatenate([each.logprobs for batch in answer.batches for each in batch])


def test_our_experts_serve_every_layer(engines: Engines) -> None:
    classes = engines.answer("random, dgx").experts[0]
    assert len(classes) == LAYERS
    assert set(classes.values()) <= {"DecodeExperts", "SlicedExperts"}
    log = engines.log("random, dgx")
    assert "moe_backend 'dgx': moe_decode for 1 to 16 tokens" in log
    assert (
        "moe_backend 'dgx': model.layers.*.mlp.experts's shared expert is one more slot of moe_decode" in log
    )
    assert "linear_backend 'dgx': linear_decode for 1 to 16 tokens" in log
    assert not set(classes.values()) & set(engines.answer("random, marlin").experts[0].values())


def test_a_layers_output_is_float64s(engines: Engines, record_property: Record) -> None:
    """With all experts, half of them on another rank, weights on the input; and the NVFP4 linear layers'."""
    found = engines.answer("random, dgx").figures
    cases = {"all experts", "half of the experts", "weights on the input", "NVFP4"}
    assert {each.case for each in found} == cases
    for each in found:
        record_property(f"{each.case}, {each.tokens} tokens", f"relative L2 {each.error:.2e}")
    assert max(each.error for each in found) < BOUND


def test_repeated_calls_give_the_same_bits(engines: Engines) -> None:
    found = engines.answer("random, dgx").figures
    assert found
    assert all(each.repeats for each in found), [each for each in found if not each.repeats]


def test_decoding_errs_no_more_than_with_marlin(engines: Engines, record_property: Record) -> None:
    marlin, dgx, exact = (
        log_probabilities(engines.answer(f"random, {name}")) for name in ("marlin", "dgx", "float32")
    )
    assert len(marlin) == len(dgx) == len(exact)

    def apart(name: str, one: np.ndarray, other: np.ndarray) -> float:
        delta = np.abs(one - other)
        record_property(f"|Δ log p|, {name}", f"mean {delta.mean():.2e}, largest {delta.max():.2e} nats")
        return float(delta.mean())

    floor = apart("Marlin to float32", marlin, exact)
    ours = apart("dgx to float32", dgx, exact)
    both = apart("dgx to Marlin", dgx, marlin)
    record_property("log p", f"{len(dgx)} tokens, standard deviation {exact.std():.2f} nats")
    assert 0 < floor < LEAST_TEETH * exact.std()
    assert ours < AGAINST_FLOAT32 * floor
    assert both < AGAINST_MARLIN * floor


def test_tokens_are_those_that_were_forced(engines: Engines) -> None:
    """Else the log-probabilities would have different pasts."""
    marlin, dgx, exact = (engines.answer(f"random, {name}") for name in ("marlin", "dgx", "float32"))
    tokens = [[each.tokens for batch in answer.batches for each in batch] for answer in (marlin, dgx, exact)]
    assert tokens[0] == tokens[1] == tokens[2]
    assert tokens[0][:2] == tokens[0][2:4]

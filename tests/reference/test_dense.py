"""--dense-dtype fp8: projections that the checkpoint left in BF16, quantized at load by vLLM itself."""

import re
from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np
import pytest
import torch
from engine import Engine
from test_log_probabilities import of_answers
from transcripts import Transcript

from dgx_vllm import dense
from dgx_vllm.nvfp4 import dequantize, quantize

#: Nats, between the same engine's BF16 and FP8 projections.
MEAN_BOUND = 0.1
ANSWERS_BOUND = 1e-3
#: Of FP8's squared relative error to NVFP4's.
ERROR_SHARE = 0.1


@pytest.fixture(scope="module")
def fp8_engine(vllm_environment: None) -> Iterator[Engine]:
    engine = Engine(drafts=2, dense="fp8")
    yield engine
    engine.close()


def dense_weights(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `dense` names, by vLLM's names of its shards."""
    config = dense.quantization("fp8")
    assert config is not None
    patterns = [re.compile(target.removeprefix("re:")) for target in config["targets"]]
    modules = {name.removesuffix(".weight"): tensor for name, tensor in tensors.items()}
    return {
        module: tensor.astype(np.float32)
        for module, tensor in modules.items()
        if any(pattern.match(module) for pattern in patterns)
    }


def test_every_projection_that_is_meant_is_found(tensors: dict[str, np.ndarray]) -> None:
    found = {module.rpartition(".")[2] for module in dense_weights(tensors)}
    assert found == {"in_proj_qkvz", "q_proj", "k_proj", "v_proj"}


def test_fp8_costs_a_tenth_of_what_nvfp4_does(
    tensors: dict[str, np.ndarray], record_property: Callable[[str, object], None]
) -> None:
    """By ml_dtypes' E4M3 with a scale for each output, as vLLM's online path has it."""
    ratios = []
    for weight in dense_weights(tensors).values():
        scale = np.abs(weight).max(axis=1, keepdims=True) / 448
        fp8 = (weight / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
        nvfp4 = dequantize(quantize(torch.from_numpy(weight)), torch.float32).numpy()
        ratios.append(((fp8 - weight) ** 2).sum() / ((nvfp4 - weight) ** 2).sum())
    record_property("squared error, FP8 to NVFP4, by layer", f"{min(ratios):.3f} to {max(ratios):.3f}")
    assert max(ratios) < ERROR_SHARE


@pytest.mark.engine
def test_text_and_drafts_are_those_of_bf16(
    engine: Engine,
    fp8_engine: Engine,
    tasks: list[Transcript],
    record_property: Callable[[str, object], None],
) -> None:
    prompts = [task.prompt for task in tasks]
    assert fp8_engine.answer(prompts) == engine.answer(prompts)
    drafted = fp8_engine.metric("vllm:spec_decode_num_draft_tokens")
    accepted = fp8_engine.metric("vllm:spec_decode_num_accepted_tokens")
    record_property("drafts accepted", f"{accepted:.0f} of {drafted:.0f}")
    assert accepted > 0.5 * drafted


@pytest.mark.engine
def test_log_probabilities_are_near_those_of_bf16(
    fp8_engine: Engine,
    tasks: list[Transcript],
    log_probabilities: list[np.ndarray],
    record_property: Callable[[str, object], None],
) -> None:
    measured = [np.array(fp8_engine.log_probabilities(task), np.float32) for task in tasks]
    delta = np.abs(np.concatenate(measured) - np.concatenate(log_probabilities))
    answers = delta[of_answers(tasks)]
    record_property("|Δ log p|", f"mean {delta.mean():.3g} (bound {MEAN_BOUND}), largest {delta.max():.3g}")
    record_property("|Δ log p| of answers alone", f"mean {answers.mean():.3g}, largest {answers.max():.3g}")
    assert 0 < delta.mean() <= MEAN_BOUND
    assert answers.max() <= ANSWERS_BOUND

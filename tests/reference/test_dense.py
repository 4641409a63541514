"""--dense-dtype fp8: what the checkpoint left in BF16, quantized while it is loaded."""

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from engine import Engine
from test_log_probabilities import of_answers

from dgx_vllm.formats import dense_dtype, fp8
from dgx_vllm.formats.nvfp4 import dequantize, quantize
from helpers.transcripts import Transcript

#: Nats, between the same engine's BF16 and FP8 projections.
MEAN_BOUND = 0.1
ANSWERS_BOUND = 1e-3
#: Of FP8's squared relative error to NVFP4's.
ERROR_SHARE = 0.1


@pytest.fixture(scope="module")
def fp8_engine(engine: Engine) -> Iterator[Engine]:
    """Started after the other one, for vLLM's metrics are those of the last."""
    engine = Engine(drafts=2, dense="fp8")
    yield engine
    engine.close()


def dense_weights(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `dense` covers and is in BF16."""
    modules = {name.removesuffix(".weight"): tensor for name, tensor in tensors.items()}
    return {
        module: tensor.astype(np.float32)
        for module, tensor in modules.items()
        if dense_dtype.covers(module) and tensor.dtype == ml_dtypes.bfloat16
    }


def test_every_projection_that_is_meant_is_found(tensors: dict[str, np.ndarray]) -> None:
    found = {
        ("the draft's " if module.startswith("mtp.") else "") + module.rpartition(".")[2]
        for module in dense_weights(tensors)
    }
    attention = {"q_proj", "k_proj", "v_proj"}
    drafts = {"fc", "o_proj", "gate_proj", "up_proj", "down_proj"} | attention
    assert found == {"in_proj_qkvz", "lm_head"} | attention | {f"the draft's {name}" for name in drafts}


def test_fp8_costs_a_tenth_of_what_nvfp4_does(
    tensors: dict[str, np.ndarray], record_property: Callable[[str, object], None]
) -> None:
    ratios = []
    for weight in dense_weights(tensors).values():
        quantized = fp8.quantize(torch.from_numpy(weight))
        codes = quantized.weight.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn)
        restored = codes.astype(np.float32) * quantized.scale.numpy()
        nvfp4 = dequantize(quantize(torch.from_numpy(weight)), torch.float32).numpy()
        ratios.append(((restored - weight) ** 2).sum() / ((nvfp4 - weight) ** 2).sum())
    record_property("squared error, FP8 to NVFP4, by layer", f"{min(ratios):.3f} to {max(ratios):.3f}")
    assert max(ratios) < ERROR_SHARE


def in_fp8(worker: Any) -> set[str]:
    """Names of the layers of the model and of its draft that are in FP8 in a vLLM worker."""
    runner = worker.model_runner
    models = {"": runner.model, "draft: ": runner.drafter.model}
    return {
        prefix + name
        for prefix, model in models.items()
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), torch.Tensor)
        and module.weight.dtype == torch.float8_e4m3fn
    }


@pytest.mark.engine
def test_vllm_serves_them_in_fp8(fp8_engine: Engine) -> None:
    (found,) = fp8_engine.llm.collective_rpc(in_fp8)
    assert found == {
        *(f"model.layers.{i}.linear_attn.in_proj_qkvz" for i in range(3)),
        "model.layers.3.self_attn.qkv_proj",
        "lm_head",
        "draft: model.fc",
        "draft: model.layers.0.self_attn.qkv_proj",
        "draft: model.layers.0.self_attn.o_proj",
        "draft: model.layers.0.mlp.shared_expert.gate_up_proj",
        "draft: model.layers.0.mlp.shared_expert.down_proj",
        "draft: lm_head",
    }


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

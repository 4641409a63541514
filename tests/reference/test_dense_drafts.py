"""--moe-backend dgx --dense-dtype fp8: the draft's experts, which the checkpoint left in BF16, as NVFP4."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from engine import Engine
from transcripts import Transcript

from dgx_vllm.nvfp4 import dequantize, quantize

#: Of the drafted tokens; the tasks are regular, so most drafts must hold.
LEAST_ACCEPTED = 0.5


@pytest.fixture(scope="module")
def nvfp4_engine(engine: Engine) -> Iterator[Engine]:
    """Started after the other one, for vLLM's metrics are those of the last."""
    engine = Engine(drafts=2, dense="fp8", moe_backend="dgx")
    yield engine
    engine.close()


def draft_experts(worker: Any) -> dict[str, torch.Tensor]:
    """The weights [experts, ...] of a draft's experts in a vLLM worker."""
    found = worker.model_runner.drafter.model.named_parameters()
    return {
        name.rpartition(".")[2]: weight
        for name, weight in found
        if name.endswith(("w13_weight", "w2_weight"))
    }


@pytest.mark.engine
def test_the_drafts_experts_are_what_nvfp4_makes_of_them(
    nvfp4_engine: Engine, tensors: dict[str, np.ndarray]
) -> None:
    """Expert by expert, in the order of their values: vLLM lays them out anew for its CPU kernels."""
    (held,) = nvfp4_engine.llm.collective_rpc(draft_experts)
    for part, names in (("w13_weight", ("gate_proj", "up_proj")), ("w2_weight", ("down_proj",))):
        for index, found in enumerate(held[part]):
            parts = [tensors[f"mtp.layers.0.mlp.experts.{index}.{name}.weight"] for name in names]
            bf16 = torch.from_numpy(np.concatenate(parts).astype(np.float32))
            nvfp4 = dequantize(quantize(bf16), torch.bfloat16)
            assert torch.equal(found.flatten().sort().values, nvfp4.flatten().sort().values)
            assert not torch.equal(nvfp4, bf16.bfloat16())


@pytest.mark.engine
def test_text_is_that_of_the_model_without_drafts(
    engine: Engine,
    nvfp4_engine: Engine,
    tasks: list[Transcript],
    record_property: Callable[[str, object], None],
) -> None:
    prompts = [task.prompt for task in tasks]
    assert nvfp4_engine.answer(prompts) == engine.answer(prompts)
    drafted = nvfp4_engine.metric("vllm:spec_decode_num_draft_tokens")
    accepted = nvfp4_engine.metric("vllm:spec_decode_num_accepted_tokens")
    record_property("drafts accepted", f"{accepted:.0f} of {drafted:.0f} ({accepted / drafted:.1%})")
    assert accepted >= LEAST_ACCEPTED * drafted

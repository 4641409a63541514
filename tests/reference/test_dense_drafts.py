"""--moe-backend dgx --dense-dtype fp8: the draft's experts, which the checkpoint left in BF16, as NVFP4."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from engine import Engine
from torch.nn import functional

from dgx_vllm.formats.nvfp4 import dequantize, fitted, quantize
from dgx_vllm.plugin.draft_experts.method import INPUT_SCALE, RoundingMethod
from helpers.transcripts import Transcript

#: Of the drafted tokens, of which BF16 keeps 99.0%. This draft leans little on its routed experts: 97.1% are
#: kept where they give nothing, with all that goes in rounded to zero (an INPUT_SCALE of 10000).
LEAST_ACCEPTED = 0.98


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
            nvfp4 = dequantize(quantize(bf16, scales=fitted), torch.bfloat16)
            assert torch.equal(found.flatten().sort().values, nvfp4.flatten().sort().values)
            assert not torch.equal(nvfp4, bf16.bfloat16())


def agree(
    engine: Engine,
    nvfp4_engine: Engine,
    tasks: list[Transcript],
    record_property: Callable[[str, object], None],
) -> None:
    """The same text, and most drafts hold."""
    prompts = [task.prompt for task in tasks]
    assert nvfp4_engine.answer(prompts) == engine.answer(prompts)
    drafted = nvfp4_engine.metric("vllm:spec_decode_num_draft_tokens")
    accepted = nvfp4_engine.metric("vllm:spec_decode_num_accepted_tokens")
    record_property("drafts accepted", f"{accepted:.0f} of {drafted:.0f} ({accepted / drafted:.1%})")
    assert accepted >= LEAST_ACCEPTED * drafted


@pytest.mark.engine
def test_text_is_that_of_the_model_without_drafts(
    engine: Engine,
    nvfp4_engine: Engine,
    tasks: list[Transcript],
    record_property: Callable[[str, object], None],
) -> None:
    agree(engine, nvfp4_engine, tasks, record_property)


class Cutlass(RoundingMethod):
    """As vLLM's CUTLASS experts compute: what the two products take is rounded to FP4 by the constant scale.

    For any number of tokens, where a GB10 does so beyond 16 alone.
    """

    tokens = 0
    whole = False

    def convert(self, layer: Any) -> None:
        """As the parent, once, and serve the layer."""
        if not self.whole:
            super().convert(layer)
            del layer.quant_method
            layer.quant_method, self.whole = self, True

    def get_fused_moe_quant_config(self, layer: Any) -> Any:
        return self.unquantized.get_fused_moe_quant_config(layer)

    def apply(
        self, layer: Any, x: torch.Tensor, topk_weights: torch.Tensor, topk_ids: torch.Tensor, **_: Any
    ) -> torch.Tensor:
        type(self).tokens += len(x)
        w13, w2 = layer.w13_weight.float()[topk_ids], layer.w2_weight.float()[topk_ids]
        gate, up = torch.einsum("tsik,tk->tsi", w13, rounded(x)).bfloat16().chunk(2, dim=-1)
        inner = rounded(functional.silu(gate.float()) * up.float())
        return torch.einsum("tsoi,tsi,ts->to", w2, inner, topk_weights.float()).to(x.dtype)


def rounded(x: torch.Tensor) -> torch.Tensor:
    matrices = x.float().reshape(-1, x.shape[-1])
    return dequantize(quantize(matrices, torch.tensor(INPUT_SCALE))).reshape(x.shape)


@pytest.mark.engine
def test_activations_in_fp4_cost_few_drafts_and_no_text(
    engine: Engine,
    tasks: list[Transcript],
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dgx_vllm.plugin.draft_experts.method.RoundingMethod", Cutlass)
    coarse = Engine(drafts=2, dense="fp8", moe_backend="dgx")
    try:
        agree(engine, coarse, tasks, record_property)
    finally:
        coarse.close()
    assert Cutlass.tokens > 0

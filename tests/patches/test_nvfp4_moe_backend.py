"""Choosing a backend for NVFP4 experts gives the class of the experts with it, on a GB10 too."""

import pytest
import torch

pytest.importorskip("vllm")

from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.config import (
    FusedMoEConfig,
    FusedMoEParallelConfig,
    RoutingMethodType,
)
from vllm.model_executor.layers.fused_moe.experts import flashinfer_cutlass_moe
from vllm.model_executor.layers.fused_moe.experts.cutlass_moe import CutlassExpertsFp4
from vllm.model_executor.layers.fused_moe.experts.marlin_moe import MarlinExperts
from vllm.model_executor.layers.fused_moe.oracle.nvfp4 import NvFp4MoeBackend, select_nvfp4_moe_backend
from vllm.model_executor.layers.quantization.utils.quant_utils import kNvfp4Dynamic, kNvfp4Static

pytestmark = pytest.mark.usefixtures("on_gb10")


def qwen3_next(backend: str = "auto") -> FusedMoEConfig:
    """The experts of Qwen3-Next-80B-A3B on one GPU."""
    return FusedMoEConfig(
        num_experts=512,
        experts_per_token=10,
        hidden_dim=2048,
        intermediate_size=512,
        num_local_experts=512,
        num_logical_experts=512,
        activation=MoEActivation.SILU,
        device="cpu",
        routing_method=RoutingMethodType.Renormalize,
        moe_parallel_config=FusedMoEParallelConfig.make_no_parallel(),
        in_dtype=torch.bfloat16,
        moe_backend=backend,
    )


@pytest.mark.parametrize("requested", ["auto", "flashinfer_cutlass"])
def test_flashinfers_backend_comes_with_its_experts(requested: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # FlashInfer itself is not in the CPU closure; what vLLM asks before it imports any of it is.
    monkeypatch.setattr(flashinfer_cutlass_moe, "has_flashinfer_cutlass_fused_moe", lambda: True)
    chosen = select_nvfp4_moe_backend(qwen3_next(requested), kNvfp4Static, kNvfp4Dynamic)
    assert chosen == (NvFp4MoeBackend.FLASHINFER_CUTLASS, flashinfer_cutlass_moe.FlashInferExperts)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ("auto", (NvFp4MoeBackend.VLLM_CUTLASS, CutlassExpertsFp4)),
        ("cutlass", (NvFp4MoeBackend.VLLM_CUTLASS, CutlassExpertsFp4)),
        ("marlin", (NvFp4MoeBackend.MARLIN, MarlinExperts)),
    ],
)
def test_without_flashinfer_vllms_own_experts_are_chosen(
    requested: str, expected: tuple[NvFp4MoeBackend, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flashinfer_cutlass_moe, "has_flashinfer_cutlass_fused_moe", lambda: False)
    assert select_nvfp4_moe_backend(qwen3_next(requested), kNvfp4Static, kNvfp4Dynamic) == expected

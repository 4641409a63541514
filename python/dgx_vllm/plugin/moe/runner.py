"""vLLM's runner of a layer of experts, that hands a shared expert to ours where they take it as a slot.

vLLM runs the shared expert next to the routed ones, on a stream of its own, and adds the two. Its layers,
activation, gate and sum are some seven launches, which a token waits for longer than for their bytes.
"""

from typing import TYPE_CHECKING, Any, cast

import torch
from vllm.model_executor.custom_op import PluggableLayer
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.fused_moe.runner.moe_runner import MoERunner
from vllm.platforms import current_platform

from dgx_vllm.plugin import decisions
from dgx_vllm.plugin.log import logger, without_number

if TYPE_CHECKING:
    from vllm.model_executor.models.qwen2_moe import Qwen2MoeMLP


def register() -> None:
    """Have vLLM make its runners by this class."""
    PluggableLayer.register_oot(SlotRunner, name=MoERunner.__name__)


class SlotRunner(MoERunner):
    """The same without `--moe-backend dgx`."""

    def __init__(
        self, *, routed_experts: RoutedExperts, shared_experts: torch.nn.Module | None = None, **rest: Any
    ) -> None:
        if (
            shared_experts is not None
            and routed_experts.moe_config.prefers_dgx
            and not current_platform.is_cpu()
            and takes(routed_experts, shared_experts, **rest)
        ):
            shared_experts = None
        super().__init__(routed_experts=routed_experts, shared_experts=shared_experts, **rest)


def takes(experts: RoutedExperts, shared: torch.nn.Module, **runner: Any) -> bool:
    """Gives `shared` to `experts` as a slot, if it can be one; one line in the log says so or why not.

    vLLM calls another operator where a shared expert is left to it.
    """
    # Imported here, and not into every process.
    from dgx_vllm.plugin.moe.shared_slot import QwenSharedSlot, refusals

    reason = next(refusals(shared, experts), None)
    if reason is None and any(runner.get(f"routed_{side}_transform") for side in ("input", "output")):
        reason = "the routed experts work in a space of their own"
    if reason is None and runner.get("routed_scaling_factor", 1.0) != 1.0:
        reason = "the routed experts' sum is scaled"
    layers = without_number(experts.layer_name)
    if reason is not None:
        logger.warning_once("moe_backend 'dgx' leaves %s's shared expert to vLLM: %s", layers, reason)
        return False
    decisions.record(f"{experts.layer_name} has the shared expert as a slot")
    # Not as a module: it is the model's, which loads its weights.
    experts.__dict__["shared_slot"] = QwenSharedSlot(cast("Qwen2MoeMLP", shared))
    logger.info_once("moe_backend 'dgx': %s's shared expert is one more slot of moe_decode", layers)
    return True

"""Sparsity: how a pruned checkpoint says that it is one.

`quantization_config` in config.json, and `quantization` in hf_quant_config.json, hold

    "weight_sparsity": {"pattern": "2:4", "targets": ["routed_experts"], "method": "activation"}

Runtimes that do not know the field compute with the zeros, which are in place.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from dgx_vllm.checkpoints.fields import language_parts
from dgx_vllm.util.errors import UserError

#: The patterns of `nvfp4.pattern`, named here so that a checkpoint can be described without torch.
PATTERNS = ("2:4", "4:8-pairs")
FIELD = "weight_sparsity"
ROUTED = "routed_experts"
SHARED = "shared_expert"


class Sparsity(msgspec.Struct, frozen=True):
    """Which weights have which zeros.

    Args:
        pattern: one of PATTERNS.
        targets: `routed_experts`, and `shared_expert` if it was pruned too.
        method: how the zeros were chosen.
    """

    pattern: str
    targets: tuple[str, ...]
    method: str


def declared(config: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> Sparsity | None:
    """What a checkpoint says; None if it is not pruned.

    Args:
        config: config.json.
        beside: hf_quant_config.json.

    Raises:
        UserError: the field says something that is unknown here.
    """
    for holder in _holders(config, beside):
        field = holder.get(FIELD)
        if field is not None:
            try:
                sparsity = msgspec.convert(field, Sparsity)
            except msgspec.ValidationError as error:
                raise UserError(
                    f"the checkpoint's {FIELD} cannot be read ({error}); prune it again"
                ) from error
            if sparsity.pattern not in PATTERNS:
                raise UserError(
                    f"the checkpoint's {FIELD} is {sparsity.pattern!r} (known: {', '.join(PATTERNS)}); prune "
                    "it again"
                )
            return sparsity
    return None


def declare(sparsity: Sparsity, config: dict[str, Any], beside: dict[str, Any] | None) -> None:
    """Writes the field into every place that describes the quantization, in place."""
    for holder in _holders(config, beside):
        holder[FIELD] = msgspec.to_builtins(sparsity)


def _holders(config: Mapping[str, Any], beside: Mapping[str, Any] | None) -> list[Any]:
    holders = [part.get("quantization_config") for part in language_parts(config)]
    holders.append(beside.get("quantization") if beside else None)
    return [holder for holder in holders if isinstance(holder, Mapping)]

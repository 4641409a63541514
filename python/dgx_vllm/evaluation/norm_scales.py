"""Norms: what an RMSNorm says of the size of each channel behind it."""

import torch

#: Model types whose RMSNorm multiplies by 1 + weight.
_ZERO_CENTRED = ("qwen3_next", "qwen3_5", "gemma")
#: Of these, the ones that multiply by the weight again.
_PLAIN = ("gemma4",)


def norm_rms(weight: torch.Tensor, model_type: str) -> torch.Tensor:
    """Each channel's root mean square behind a norm, float32 [hidden].

    Args:
        weight: [hidden], the norm's.
        model_type: config.json's.
    """
    zero_centred = model_type.startswith(_ZERO_CENTRED) and not model_type.startswith(_PLAIN)
    centre = 1.0 if zero_centred else 0.0
    return (weight.float() + centre).abs()

"""Drafts: how many tokens may be drafted for a step."""

from dgx_vllm.errors import UserError

MOST_WITH_GDN = 4


def check(count: int, gated_delta_net: bool, asked: str) -> None:
    """Refuses more drafts than a model with GDN layers survives.

    Args:
        count: tokens drafted for each step.
        gated_delta_net: whether the model has GDN layers.
        asked: who asks for them, in the user's words.

    Raises:
        UserError: says how many there may be.
    """
    if gated_delta_net and count > MOST_WITH_GDN:
        raise UserError(
            f"{asked} asks for {count} drafts, and GDN layers read illegal memory from {MOST_WITH_GDN + 1} on"
            f" (vllm#37035); use at most {MOST_WITH_GDN}"
        )

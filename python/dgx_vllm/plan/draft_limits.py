"""Drafts: how many tokens may be drafted for a step.

vLLM 0.32 has a model's GDN layers check drafts by kernels of their own, whatever makes the drafts: their
number alone sizes the work (vllm/v1/attention/backends/gdn_attn.py). On GPUs those kernels were seen to read
illegal memory with 5 drafts and more that MTP layers made. The CPU backend has another kernel.
"""

from dgx_vllm.host.machine import Platform
from dgx_vllm.util.errors import UserError

MOST_WITH_GDN = 4
#: What makes drafts in the reports of illegal reads, and its kin, which read the model's hidden states too.
_REPORTED = ("mtp", "eagle", "eagle3")
_REPORTS = "vllm#37035, #40756"


def risk(count: int, gated_delta_net: bool, platform: Platform) -> str | None:
    """What is known to happen with so many drafts, None where nothing is."""
    if not gated_delta_net or platform != "cuda" or count <= MOST_WITH_GDN:
        return None
    first = MOST_WITH_GDN + 1
    return f"from {first} drafts on, GDN kernels have read illegal memory and ended the engine ({_REPORTS})"


def is_reported(method: str | None) -> bool:
    """Whether a method is one of those that illegal reads were reported of, or may be one."""
    return method is None or method.endswith(_REPORTED)


def check(
    count: int, method: str | None, gated_delta_net: bool, platform: Platform, asked: str, insisted: bool
) -> str | None:
    """Refuses more drafts than a model with GDN layers is known to survive.

    Args:
        count: tokens drafted for each step.
        method: what makes them, None where vLLM finds that out.
        gated_delta_net: whether the model has GDN layers.
        platform: what they run on.
        asked: who asks for them, in the user's words.
        insisted: whether the user knows the risk and takes it.

    Returns:
        The risk, where it is let pass.

    Raises:
        UserError: says how many there may be, and how to insist.
    """
    known = risk(count, gated_delta_net, platform)
    if known is None:
        return None
    if insisted:
        return f"{known}; {asked} asks for {count}, and --allow-known-faults accepts the risk"
    if not is_reported(method):
        return f"{known}, seen with MTP; {asked} asks for {count} by {method}"
    raise UserError(
        f"{asked} asks for {count} drafts; {known}; use at most {MOST_WITH_GDN}, or give "
        "--allow-known-faults to accept the risk"
    )

"""`dgx-vllm profiles`: the profiles, and what a memory makes of each."""

from dgx_vllm.host import machine, spark
from dgx_vllm.host.machine import GIB, Platform
from dgx_vllm.launch import as_json as programs
from dgx_vllm.launch import report
from dgx_vllm.plan import profile_fit
from dgx_vllm.profiles import profile
from dgx_vllm.util import amounts
from dgx_vllm.util.errors import UserError


def show(amount: str | None, as_json: bool) -> None:
    """Prints them.

    Args:
        amount: the memory of a machine with a GB10; None for this machine.
        as_json: JSON instead of a table.

    Raises:
        UserError: the amount is not one of memory.
    """
    memory, words, platform = _memory(amount)
    fits = profile_fit.all_of(profile.builtin(), memory, platform)
    if as_json:
        programs.profiles(fits, platform)
    else:
        report.profiles(fits, words)


def _memory(amount: str | None) -> tuple[int, str, Platform]:
    """Bytes, what they are in words, and what serves there."""
    if amount is not None:
        size = spark.labelled(amount)
        if size:
            return size.visible, str(size), "cuda"
        return amounts.parse(amount, "--memory"), f"{amount} by --memory", "cuda"
    try:
        here = machine.detect()
    except UserError:
        # The list is of use without vLLM as well.
        return spark.large().visible, f"{spark.large()}; vLLM is missing here", "cuda"
    kind = "shared with the GPU" if here.unified else "the GPU's own" if here.gpus else "no GPU"
    return here.device_memory, f"this machine's {here.device_memory / GIB:.0f} GiB, {kind}", here.platform

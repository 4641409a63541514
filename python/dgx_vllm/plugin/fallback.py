"""Calls of more tokens than a kernel takes."""


def fallback_text(sliced: bool) -> str:
    """What serves them, for the log.

    Args:
        sliced: our kernel takes them, a slice at a time.
    """
    return "and beyond in slices, which is slow" if sliced else "vLLM's CUTLASS beyond"

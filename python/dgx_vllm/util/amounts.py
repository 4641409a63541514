"""Bytes as people write them."""

import re

from dgx_vllm.util.errors import UserError

GB = 10**9
MB = 10**6

_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", re.IGNORECASE)


def parse(text: str, origin: str) -> int:
    """Bytes from `100GB` (10^9), `111GiB` (2^30), or a bare number of bytes that can be meant so.

    Args:
        text: the amount.
        origin: the option that gave it, for the message.

    Raises:
        UserError: it is none of these.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if not match:
        raise UserError(f"{origin} {text!r} is not an amount of memory; write it like 100GB or 111GiB")
    number, unit = match.groups()
    if not unit and 0 < float(number) < MB:
        raise UserError(f"{origin} {text!r} would be bytes; write it like {number}GB or {number}GiB")
    return int(float(number) * {**_FACTORS, **_BINARY}[unit.lower()])


def gb(count: float) -> str:
    """An amount of memory in GB (10^9 bytes); small ones keep two significant digits."""
    return f"{count / GB:.1f} GB" if abs(count) >= GB else f"{count / GB:.2g} GB"

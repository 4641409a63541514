"""Which DGX Spark: the sizes that it is sold in, and how much of their memory the system sees."""

import re
from functools import cache
from pathlib import Path

import msgspec

from dgx_vllm.host.machine import GIB

#: MemTotal in bytes below which a Spark is the small one. DMI does not tell the sizes apart.
THRESHOLD = 80 * GIB

_SIZES = Path(__file__).parent / "spark_sizes.toml"
# A label, as amounts of memory may be written: in any case, with or without a space, `G` for `GB`.
_LABEL = re.compile(r"(\d+)\s*GB?", re.IGNORECASE)


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """One size.

    Args:
        label: what it is sold as, such as `64 GB`.
        visible: bytes that the system sees (MemTotal).
        inferred: whether `visible` was worked out rather than read on such a machine.
    """

    label: str
    visible: int
    inferred: bool

    def __str__(self) -> str:
        about, ending = ("about ", "; inferred, not measured") if self.inferred else ("", "")
        return f"a Spark of {self.label}, of which {about}{self.visible / GIB:.1f} GiB are visible{ending}"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: tuple[Size, ...]


@cache
def sizes() -> tuple[Size, ...]:
    """All sizes, the largest first."""
    return msgspec.toml.decode(_SIZES.read_bytes(), type=_File).size


def large() -> Size:
    return sizes()[0]


def small() -> Size:
    return sizes()[-1]


def of(total: int) -> Size:
    """The size of a Spark whose MemTotal is `total` bytes."""
    return small() if total < THRESHOLD else large()


def labelled(text: str) -> Size | None:
    """The size that `text` is the label of, such as `64GB`; None for any other amount."""
    match = _LABEL.fullmatch(text.strip())
    label = f"{int(match[1])} GB" if match else None
    return next((size for size in sizes() if size.label == label), None)

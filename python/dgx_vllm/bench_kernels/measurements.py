"""Rows: what was measured, and the file that holds it."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One kernel on one shape.

    Attributes:
        kernel, shape: names.
        m: tokens.
        us: microseconds of a layer.
        gbps: weight and block scale bytes over that time, 1e9 a second.
        fraction_of_read: of the streaming read on the same machine.
        vs_marlin, vs_humming: how many times as long the peer takes; None for a peer, and without one.
        vs_dense: of a kernel on 2:4, how many times as long the one on all weights takes.
    """

    kernel: str
    shape: str
    m: int
    us: float
    gbps: float
    fraction_of_read: float
    vs_marlin: float | None = None
    vs_humming: float | None = None
    vs_dense: float | None = None


@dataclass(frozen=True)
class Timed:
    """A row before it is compared.

    Attributes:
        work: what was computed; rows of the same work, shape and m are comparable.
    """

    implementation: str
    work: str
    row: Row


#: A kernel on 2:4, and the one that reads all weights.
_DENSE = {"moe_decode 2:4": "moe_decode"}


def compare(timed: list[Timed], peers: tuple[str, ...]) -> list[Row]:
    """Rows by shape and tokens, in the order of their first measurement, ours with their ratios to peers."""
    # Of several, such as with scales in either layout, the first counts.
    times = {(t.implementation, t.work, t.row.shape, t.row.m): t.row.us for t in reversed(timed)}

    def ratio(peer: str | None, t: Timed) -> float | None:
        theirs = times.get((peer, t.work, t.row.shape, t.row.m)) if peer else None
        return None if theirs is None or t.implementation in peers or not t.work else theirs / t.row.us

    compared = [
        replace(
            t.row,
            vs_marlin=ratio("Marlin", t),
            vs_humming=ratio("Humming", t),
            vs_dense=ratio(_DENSE.get(t.implementation), t),
        )
        for t in timed
    ]
    shapes = list(dict.fromkeys(row.shape for row in compared))
    return sorted(compared, key=lambda row: (shapes.index(row.shape), row.m))


def write(path: Path, head: dict[str, Any], rows: list[Row]) -> None:
    """JSON: `head`, then `rows`, one a line."""
    digits = {"us": 2, "gbps": 0, "fraction_of_read": 3, "vs_marlin": 2, "vs_humming": 2, "vs_dense": 2}

    def rounded(row: Row) -> dict[str, Any]:
        values = asdict(row)
        for name, count in digits.items():
            if values[name] is not None:
                values[name] = round(values[name], count or None)
        if row.vs_dense is None:
            del values["vs_dense"]
        return values

    lines = ",\n  ".join(json.dumps(rounded(row)) for row in rows)
    path.write_text(json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n  {lines}\n ]\n}}\n', encoding="utf-8")

"""The tables and charts of the documents, made from the results in this folder.

    python kernels/results/document.py [--check]

`--check` writes nothing, and fails where something is not current. Rows may be missing: their cells hold a
dash. Here are the kernels' tables (h100.json); decode.py has those of decoding (decode-h100.json).
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import chart
import decode
from tables import NOTHING, said, table, with_tables

RESULTS = Path(__file__).resolve().parent
ROOT = RESULTS.parents[1]
#: The shape that docs/dev/kernels.md and the plot show.
SHAPE = "qwen3-next"

ROUTED, SHARED, OVERLAPPING = "routed", "routed + shared", "routed, overlapping"


@dataclass(frozen=True)
class Results:
    """What a benchmark wrote: `head` without the rows."""

    head: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def shapes(self) -> list[str]:
        """Of MoE layers, in the order measured."""
        return list(
            dict.fromkeys(row["shape"] for row in self.rows if row["kernel"].startswith("moe_decode"))
        )

    def tokens(self, shape: str) -> list[int]:
        return sorted({row["m"] for row in self.rows if row["shape"] == shape})

    def row(self, kernel: str, shape: str, tokens: int) -> dict[str, Any]:
        """Empty where it was not measured."""
        asked = (kernel, shape, tokens)
        return next((row for row in self.rows if (row["kernel"], row["shape"], row["m"]) == asked), {})


def load(path: Path) -> Results:
    head = json.loads(path.read_text(encoding="utf-8"))
    return Results(head, head.pop("rows"))


def _us(row: dict[str, Any]) -> str:
    return f"{row['us']:.1f}" if row else NOTHING


def _ratio(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.2f}" if row.get(name) else NOTHING


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.0%}"


def moe(results: Results) -> Iterator[str]:
    """One shape's routed experts."""
    rows = []
    for tokens in results.tokens(SHAPE):
        ours = results.row(f"moe_decode, {ROUTED}", SHAPE, tokens)
        marlin, humming = (results.row(f"{peer}, {ROUTED}", SHAPE, tokens) for peer in ("Marlin", "Humming"))
        rows.append(
            (
                *(str(tokens), _us(ours), _us(results.row("bytes only", SHAPE, tokens))),
                *(_percent(ours.get("fraction_of_read")), _us(marlin), _ratio(ours, "vs_marlin")),
                *(_us(humming), _ratio(ours, "vs_humming")),
            )
        )
    header = ("tokens", "moe_decode", "the same bytes, only read", "of the streaming read")
    yield from table((*header, "Marlin", "times as long", "Humming", "times as long"), rows)
    yield from said(results.head)


def ratios(results: Results) -> Iterator[str]:
    """How many times as long peers take, on all shapes and in all cases."""
    cases = (ROUTED, SHARED, OVERLAPPING)
    rows = []
    for shape in results.shapes:
        for tokens in results.tokens(shape):
            ours = {case: results.row(f"moe_decode, {case}", shape, tokens) for case in cases}
            bytes_only = results.row("bytes only", shape, tokens)
            of_bytes = bytes_only["us"] / ours[ROUTED]["us"] if bytes_only and ours[ROUTED] else None
            against = (
                " / ".join(_ratio(ours[case], name) for name in ("vs_marlin", "vs_humming")) for case in cases
            )
            rows.append((shape, str(tokens), _us(ours[ROUTED]), _percent(of_bytes), *against))
    header = (
        "shape",
        "tokens",
        "us",
        "of bytes only",
        "routed",
        "with the shared expert",
        "tokens that share experts",
    )
    yield from table(header, rows)
    yield from said(results.head)


def linear(results: Results) -> Iterator[str]:
    """How many times as long Marlin takes for NVFP4 projections."""
    kernel = "linear_decode, NVFP4"
    shapes = list(dict.fromkeys(row["shape"] for row in results.rows if row["kernel"] == kernel))
    tokens = sorted({m for shape in shapes for m in results.tokens(shape)})
    rows = (
        (shape, *(_ratio(results.row(kernel, shape, m), "vs_marlin") for m in tokens)) for shape in shapes
    )
    yield from table(("projection", *(f"{m} tokens" if m > 1 else "1 token" for m in tokens)), rows)
    yield from said(results.head)


TABLES: dict[str, Callable[[Results], Iterator[str]]] = {"moe": moe, "ratios": ratios, "linear": linear}


_LINES = (
    (f"moe_decode, {ROUTED}", "moe_decode", "#1b6e3c"),
    (f"Marlin, {ROUTED}", "Marlin", "#b3541e"),
    (f"Humming, {ROUTED}", "Humming", "#5b4fa0"),
    ("bytes only", "the same bytes, only read", "#777777"),
)
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 380, 56, 176, 34, 44


def plot(results: Results) -> str:
    """Microseconds against tokens on one shape, both axes logarithmic, as SVG."""
    tokens = results.tokens(SHAPE)
    measured = [
        (label, colour, [(m, row["us"]) for m in tokens if (row := results.row(kernel, SHAPE, m))])
        for kernel, label, colour in _LINES
    ]
    measured = [each for each in measured if each[2]]
    times = [us for *_, points in measured for _, us in points]
    low, high = math.floor(math.log2(min(times))), math.ceil(math.log2(max(times)))
    first, last = math.log2(tokens[0]), math.log2(tokens[-1])

    def x(m: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (math.log2(m) - first) / ((last - first) or 1)

    def y(us: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (math.log2(us) - low) / (high - low)

    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20" font-size="13">microseconds a layer, {SHAPE}, routed experts, '
        f"{results.head['device']}</text>",
    ]
    for power in range(low, high + 1):
        at = y(2**power)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{2.0**power:g}</text>')
    for m in tokens:
        parts.append(f'<text x="{x(m):.1f}" y="{bottom + 18}" text-anchor="middle">{m}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">tokens</text>')
    # Labels stand beside the lines' ends, at least a line of text apart.
    ends = sorted((y(points[-1][1]), label, colour, points) for label, colour, points in measured)
    below = -math.inf
    for end, label, colour, points in ends:
        path = " ".join(f"{x(m):.1f},{y(us):.1f}" for m, us in points)
        dashes = ' stroke-dasharray="5 4"' if label == _LINES[-1][1] else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        parts += [f'<circle cx="{x(m):.1f}" cy="{y(us):.1f}" r="3" fill="{colour}"/>' for m, us in points]
        below = max(end + 4, below + 15)
        parts.append(f'<text x="{right + 10}" y="{below:.1f}" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def files(results: Results, decoding: decode.Results, root: Path) -> dict[Path, str]:
    """What every generated file should hold."""
    made: dict[str, Callable[[], Iterator[str]]] = {
        **{name: partial(each, results) for name, each in TABLES.items()},
        **{name: partial(each, decoding) for name, each in decode.TABLES.items()},
        "decode_saved": partial(decode.saved, decoding, results.head["read_gbps"], results.row),
    }
    documents = [
        root / name
        for name in (
            "docs/dev/kernels.md",
            "docs/dev/decoding.md",
            "docs/guides/faster-decoding.md",
            "kernels/README.md",
        )
    ]
    written = {path: with_tables(path.read_text(encoding="utf-8"), made) for path in documents}
    charts = {
        root / f"docs/images/decode-{theme}.svg": chart.decode_speed(decoding, theme)
        for theme in chart.THEMES
    }
    return {**written, **charts, root / "kernels/results/h100.svg": plot(results)}


def main() -> None:
    current = files(load(RESULTS / "h100.json"), decode.load(RESULTS / "decode-h100.json"), ROOT)
    stale = [
        (path, text)
        for path, text in current.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit("not current: " + ", ".join(str(path.relative_to(ROOT)) for path, _ in stale))
        return
    for path, text in stale:
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()

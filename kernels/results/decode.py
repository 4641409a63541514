"""What `dgx-vllm bench-decode --json FILE` measured, condensed, and the documents' tables from it.

    python kernels/results/decode.py FILE... [--note TEXT] > kernels/results/decode-h100.json

Files of several runs with the same settings, on as many GPUs of one host, become one; the first variant of
the first is what the others are held against.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tables import NOTHING, said, table

#: What the documents hold against the others.
OURS = "dgx-fp8"
#: Of all that are ours.
_PREFIX = "dgx"
#: Time of a step in which the profiler saw nothing on the GPU.
IDLE = "no kernel runs"
_SAME = ("device", "vllm", "model", "dummy", "prompt", "tokens", "repeats")

#: Of Qwen3-Next-80B-A3B, the shape that the kernels' results have too.
_SHAPE, _LAYERS = "qwen3-next", 48
#: MB a token that FP8 saves, by `dgx-vllm plan` without and with `--dense-dtype fp8`.
_FP8_SAVES = 1440


@dataclass(frozen=True)
class Results:
    """Measurements: `head` without the rows, a row for each variant and number of sequences."""

    head: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def variants(self) -> list[str]:
        return list(dict.fromkeys(row["variant"] for row in self.rows))

    @property
    def sequences(self) -> list[int]:
        return sorted({row["sequences"] for row in self.rows})

    def row(self, variant: str, sequences: int) -> dict[str, Any]:
        """Empty where it was not measured."""
        asked = (variant, sequences)
        return next((row for row in self.rows if (row["variant"], row["sequences"]) == asked), {})


def load(path: Path) -> Results:
    head = json.loads(path.read_text(encoding="utf-8"))
    return Results(head, head.pop("rows"))


# --- from bench-decode ------------------------------------------------------------------------------------


def condensed(runs: list[dict[str, Any]], note: str = "") -> Results:
    """Of `bench-decode`'s results what documents show: no kernel by its name.

    Raises:
        ValueError: they are of different settings.
    """
    first = runs[0]
    for name in _SAME:
        if any(run[name] != first[name] for run in runs):
            raise ValueError(f"they differ in {name}: {', '.join(str(run[name]) for run in runs)}")
    variants = [variant for run in runs for variant in run["variants"]]
    names = [variant["name"] for variant in variants]
    if len(set(names)) < len(names):
        raise ValueError(f"a variant is there twice: {', '.join(names)}")
    base = {rate["sequences"]: rate["tokens_per_second"] for rate in variants[0]["rates"]}
    failed = {each["name"]: each["error"] for each in variants if each["error"]}
    head = {
        "date": first["date"][:10],
        "device": first["device"],
        "vllm": first["vllm"],
        "model": first["model"] + (", random weights" if first["dummy"] else ""),
        "command": "; ".join(run["command"] for run in runs),
        **({"note": note} if note else {}),
        **({"failed": failed} if failed else {}),
    }
    rows = [
        _row(variant, rate, variants[0]["name"], base) for variant in variants for rate in variant["rates"]
    ]
    return Results(head, rows)


def _row(
    variant: dict[str, Any], rate: dict[str, Any], base_name: str, base: dict[int, float]
) -> dict[str, Any]:
    step, against = rate["step"], base.get(rate["sequences"])
    drafts = {name: rate[name] for name in ("tokens_per_step", "accepted")} if rate["accepted"] else {}
    return {
        "variant": variant["name"],
        "options": variant["options"],
        "sequences": rate["sequences"],
        "tokens_per_second": round(rate["tokens_per_second"], 1),
        "step_ms": round(rate["step_ms"], 3),
        "all_step_ms": [round(each, 3) for each in rate["all_step_ms"]],
        f"vs_{base_name}": against and round(rate["tokens_per_second"] / against, 3),
        **drafts,
        "launches": step and round(step["launches"]),
        "us": step and _parts(step, 1e3 * rate["step_ms"]),
    }


def _parts(step: dict[str, Any], whole: float) -> dict[str, int]:
    """Microseconds by part, the longest first; idle is what the step without the profiler leaves."""
    found = {IDLE: max(whole - step["busy"], 0.0)}
    for kernel in step["kernels"]:
        found[kernel["part"]] = found.get(kernel["part"], 0.0) + kernel["us"]
    return {part: round(us) for part, us in sorted(found.items(), key=lambda item: -item[1])}


def text(results: Results) -> str:
    """As the file holds them, a row a line."""
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in results.head.items())
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in results.rows)
    return f'{{\n{head} "rows": [\n{rows}\n ]\n}}\n'


# --- tables -----------------------------------------------------------------------------------------------


def rates(results: Results) -> Iterator[str]:
    """Tokens a second of each variant; of ours also how many times those of the first."""
    base = results.variants[0]
    peers = [name for name in results.variants if not name.startswith(_PREFIX)]
    ours = sorted(name for name in results.variants if name.startswith(_PREFIX))

    def cell(name: str, sequences: int) -> str:
        speed, first = (_speed(results, each, sequences) for each in (name, base))
        if name in peers or not speed or not first:
            return _figure(speed, ".1f")
        return f"{speed:.1f} ({speed / first:.2f})"

    rows = [(str(each), *(cell(name, each) for name in (*peers, *ours))) for each in results.sequences]
    header = [f"{name} (to {base})" if name in ours else name for name in (*peers, *ours)]
    yield from table(("tokens/s, sequences", *header), rows)
    yield from said(results.head)
    spread = [_spread(row) for row in results.rows]
    if spread:
        yield f"Repeats of a measurement spread by {min(spread):.0%} to {max(spread):.0%} of their median."


def parts(results: Results) -> Iterator[str]:
    """Where the time of a step goes: the first variant and ours, with the fewest sequences and the most."""
    asked = [
        (name, sequences)
        for sequences in dict.fromkeys((results.sequences[0], results.sequences[-1]))
        for name in dict.fromkeys((results.variants[0], OURS))
    ]
    found = [results.row(name, sequences) for name, sequences in asked]
    steps = [row.get("us") or {} for row in found]
    names = dict.fromkeys(part for step in steps for part in step if part != IDLE)
    rows = [(part, *(_figure(step.get(part), ".0f") for step in steps)) for part in (*names, IDLE)]
    rows.append(("launches", *(_figure(row.get("launches"), ".0f") for row in found)))
    yield from table(("µs of a step", *(f"{name}, {sequences}" for name, sequences in asked)), rows)


def saved(
    results: Results, read_gbps: float, kernel: Callable[[str, str, int], dict[str, Any]]
) -> Iterator[str]:
    """What the layers, measured alone, allow to be saved of a step against Marlin, and what was.

    Args:
        results: the steps.
        read_gbps: of a streaming read on the same kind of machine.
        kernel: a row of the kernels' results by its name, shape and tokens, empty where there is none.
    """
    counts = results.sequences
    marlin, bytes_only = (
        [kernel(name, _SHAPE, count).get("us") for count in counts]
        for name in ("Marlin, routed", "bytes only")
    )
    experts = [_LAYERS * (m - b) if m and b else None for m, b in zip(marlin, bytes_only, strict=True)]
    fp8 = 1e3 * _FP8_SAVES / read_gbps
    ceiling = [each + fp8 if each else None for each in experts]
    steps = [[results.row(name, count).get("step_ms") for name in ("marlin", OURS)] for count in counts]
    came = [1e3 * (m - o) if m and o else None for m, o in steps]
    shares = [a / b if a is not None and b else None for a, b in zip(came, ceiling, strict=True)]
    in_step = [(results.row("marlin", count).get("us") or {}).get("experts") for count in counts]

    def line(name: str, figures: Iterable[float | None], form: str = ".0f") -> tuple[str, ...]:
        return (name, *(_figure(each, form) for each in figures))

    rows = [
        line(f"experts as fast as reading their bytes, {_LAYERS} layers", experts),
        line(
            f"FP8: {_FP8_SAVES} MB less, at the {read_gbps:.0f} GB/s of a streaming read", [fp8] * len(counts)
        ),
        line("the ceiling of both", ceiling),
        line("saved", came),
        line("of the ceiling", shares, ".0%"),
        line("a layer of Marlin's experts alone, all distinct", marlin),
        line("the same in the step", [each / _LAYERS if each else None for each in in_step]),
    ]
    header = [f"{count} sequence{'s' * (count > 1)}" for count in counts]
    yield from table(("µs a step, against Marlin", *header), rows)


TABLES: dict[str, Callable[[Results], Iterator[str]]] = {"decode_rates": rates, "decode_parts": parts}


def _speed(results: Results, variant: str, sequences: int) -> float | None:
    return results.row(variant, sequences).get("tokens_per_second")


def _spread(row: dict[str, Any]) -> float:
    return (max(row["all_step_ms"]) - min(row["all_step_ms"])) / statistics.median(row["all_step_ms"])


def _figure(value: float | None, form: str) -> str:
    return NOTHING if value is None else f"{value:{form}}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="decode.py")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--note", default="", metavar="TEXT")
    given = parser.parse_args()
    try:
        results = condensed(
            [json.loads(path.read_text(encoding="utf-8")) for path in given.files], given.note
        )
    except KeyError as error:
        sys.exit(f"{error} is not there; give files of this version's `dgx-vllm bench-decode --json`")
    except (OSError, ValueError) as error:
        sys.exit(f"{error}; give files of `dgx-vllm bench-decode --json`, all with the same settings")
    sys.stdout.write(text(results))


if __name__ == "__main__":
    main()

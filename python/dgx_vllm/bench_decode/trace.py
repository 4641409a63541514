"""Trace: a profiler's trace of steady decoding, as one step by kernel and part."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dgx_vllm.bench_decode.job import Kernel, Step

_ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
_FEWEST = 3


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a step: the kernels whose names hold the pattern."""

    name: str
    pattern: str


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    part: tuple[Part, ...]


@dataclass(frozen=True)
class Event:
    """Something that ran on the GPU; times in microseconds."""

    name: str
    start: float
    end: float


def parts() -> tuple[Part, ...]:
    """The parts of parts.toml; the first that matches counts, the last takes all that is left."""
    return msgspec.toml.decode(Path(__file__).with_name("parts.toml").read_bytes(), type=_Table).part


def prefix(count: int) -> str:
    """What the name of a trace of so many sequences begins with."""
    return f"sequences-{count}"


def files(directory: Path, count: int | None = None) -> list[Path]:
    """The traces in a directory; those of `count` sequences, or all."""
    return sorted(directory.glob(f"sequences-{'*' if count is None else count}_*trace.json*"))


def read(path: Path) -> list[Event]:
    """The GPU's events in a Chrome trace, gzipped or not, by start."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        entries: list[dict[str, Any]] = json.load(file)["traceEvents"]
    events = [
        Event(entry["name"], entry["ts"], entry["ts"] + entry["dur"])
        for entry in entries
        if entry.get("cat") in _ON_GPU
    ]
    return sorted(events, key=lambda event: event.start)


def step(events: Sequence[Event], about: int) -> Step | None:
    """The mean of the whole steps in a trace.

    Steps are told by a kernel that runs once in each: of those with about as many runs as steps were asked
    for, the one with the most time.

    Args:
        events: by start.
        about: steps that the profiler was asked for.

    Returns:
        None where no kernel runs about so often: the trace is none of steady decoding.
    """
    counts = Counter(event.name for event in events)
    once = {name for name, count in counts.items() if abs(count - about) <= max(2, about // 8)}
    if not once:
        return None
    time = dict.fromkeys(once, 0.0)
    for event in events:
        if event.name in once:
            time[event.name] += event.end - event.start
    mark = max(once, key=lambda name: time[name])
    starts = [event.start for event in events if event.name == mark]
    steps = len(starts) - 1
    if steps < _FEWEST:
        return None
    inside = [event for event in events if starts[0] <= event.start < starts[-1]]
    shares = _shares(inside, starts[-1])
    launches = Counter(event.name for event in inside)
    table = parts()
    kernels = [
        Kernel(name, _part(name, table), launches[name] / steps, us / steps)
        for name, us in sorted(shares.items(), key=lambda item: -item[1])
    ]
    busy = sum(kernel.us for kernel in kernels)
    return Step(steps, (starts[-1] - starts[0]) / steps, busy, len(inside) / steps, tuple(kernels))


def _part(name: str, table: Iterable[Part]) -> str:
    return next(part.name for part in table if re.search(part.pattern, name))


def _shares(events: Sequence[Event], end: float) -> dict[str, float]:
    """Time by name, in which an instant counts once: several at a time get equal parts of it."""
    edges = sorted(
        [(event.start, 1, event.name) for event in events]
        + [(min(event.end, end), -1, event.name) for event in events]
    )
    shares = dict.fromkeys((event.name for event in events), 0.0)
    running: Counter[str] = Counter()
    last = edges[0][0] if edges else 0.0
    for at, change, name in edges:
        total = running.total()
        if total and at > last:
            for kernel, count in running.items():
                if count:
                    shares[kernel] += (at - last) * count / total
        last = at
        running[name] += change
    return shares

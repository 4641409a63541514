"""Timing: microseconds of a CUDA graph."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

Launch = Callable[[], Any]


def graph_of(launches: Sequence[Launch]) -> torch.cuda.CUDAGraph:
    """A graph of all the launches, one after another.

    The first one runs outside of it before, for what it compiles or allocates once.
    """
    launches[0]()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for launch in launches:
            launch()
    return graph


def microseconds(graph: torch.cuda.CUDAGraph, repeats: int = 30) -> float:
    """The median of `repeats` replays, after three that do not count."""
    times = []
    for repeat in range(repeats + 3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if repeat >= 3:
            times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)


def each(launches: Sequence[Launch], repeats: int = 30) -> float:
    """Microseconds of one of the launches, on average over all in one graph."""
    return microseconds(graph_of(launches), repeats) / len(launches)

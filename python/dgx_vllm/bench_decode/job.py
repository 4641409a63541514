"""Job: what the command tells the process of a variant, and what that one answers, both JSON files."""

import msgspec


class Job(msgspec.Struct, frozen=True):
    """One variant to be measured.

    Args:
        words: the server's command line behind the module's name.
        sequences: how many to decode together, one measurement each.
        prompt: tokens of each prompt.
        tokens: tokens that a long run generates; a short one generates one.
        repeats: of each measurement.
        dummy: whether weights are random.
        traces: a directory for the profiler's traces; None for no breakdown.
        out: the file to write.
    """

    words: tuple[str, ...]
    sequences: tuple[int, ...]
    prompt: int
    tokens: int
    repeats: int
    dummy: bool
    traces: str | None
    out: str


class Kernel(msgspec.Struct, frozen=True):
    """A kernel by its name.

    Args:
        name: the profiler's name for it.
        part: see parts.toml.
        launches: of one step.
        us: microseconds of one step in which it ran; time in which several ran is divided among them.
    """

    name: str
    part: str
    launches: float
    us: float


class Step(msgspec.Struct, frozen=True):
    """One decode step as the profiler saw it.

    Args:
        steps: over which the figures are means.
        us: microseconds from one step to the next, with the profiler on.
        busy: of which at least one kernel ran.
        launches: kernels, copies and fills.
        kernels: all of them.
    """

    steps: int
    us: float
    busy: float
    launches: float
    kernels: tuple[Kernel, ...]

    def parts(self) -> dict[str, float]:
        """Microseconds by part, the longest first."""
        microseconds: dict[str, float] = {}
        for kernel in self.kernels:
            microseconds[kernel.part] = microseconds.get(kernel.part, 0.0) + kernel.us
        return dict(sorted(microseconds.items(), key=lambda item: -item[1]))


class Rate(msgspec.Struct, frozen=True):
    """Decoding some sequences together.

    Args:
        sequences: how many.
        tokens_per_second: of all of them, the median of the repeats.
        step_ms: milliseconds of a step, in the same order; with drafts a step yields more than one token.
        all_step_ms: of each repeat.
        tokens_per_step: what a step yielded for each sequence.
        accepted: drafts that were taken and drafts that were made; None without drafts.
        step: where the time of a step goes; None on a CPU.
    """

    sequences: int
    tokens_per_second: float
    step_ms: float
    all_step_ms: tuple[float, ...]
    tokens_per_step: float
    accepted: tuple[int, int] | None = None
    step: Step | None = None


class Answer(msgspec.Struct, frozen=True):
    """What was measured of a variant.

    Args:
        device: what it ran on.
        start_seconds: until the engine was ready.
        rates: as far as it came.
    """

    device: str
    start_seconds: float
    rates: tuple[Rate, ...]

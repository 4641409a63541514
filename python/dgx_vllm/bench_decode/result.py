"""Result: what a run of the bench found, as it is written and shown."""

import msgspec

from dgx_vllm.bench_decode.job import Rate


class Measured(msgspec.Struct, frozen=True):
    """A variant.

    Args:
        name: see `Variant`.
        options: as one would type them.
        command: what `serve` would have run.
        error: why it did not come to its end; what it measured before is kept.
        start_seconds: until its engine was ready.
        rates: by sequences.
    """

    name: str
    options: str
    command: str
    error: str | None
    start_seconds: float | None
    rates: tuple[Rate, ...]

    def rate(self, sequences: int) -> Rate | None:
        """What was measured with so many sequences."""
        return next((rate for rate in self.rates if rate.sequences == sequences), None)


class Result(msgspec.Struct, frozen=True):
    """A run.

    Args:
        model: what was asked for.
        dummy: whether weights were random.
        date: of its end, ISO 8601.
        device: what it ran on, empty if no variant came so far.
        vllm: its version.
        command: as it was typed.
        prompt, tokens, repeats: see `Job`.
        variants: the first is what the others are held against.
    """

    model: str
    dummy: bool
    date: str
    device: str
    vllm: str
    command: str
    prompt: int
    tokens: int
    repeats: int
    variants: tuple[Measured, ...]

    def ratio(self, variant: Measured, sequences: int) -> float | None:
        """Tokens a second against the first variant's."""
        rate, base = variant.rate(sequences), self.variants[0].rate(sequences)
        return rate.tokens_per_second / base.tokens_per_second if rate and base else None

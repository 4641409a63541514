"""Report: a result as tables."""

from rich import box
from rich.console import Console
from rich.table import Table

from dgx_vllm.bench_decode import trace
from dgx_vllm.bench_decode.job import Step
from dgx_vllm.bench_decode.result import Measured, Result


def show(result: Result) -> None:
    """Prints speeds, and where the time of a step goes."""
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=160)
    weights = "random weights" if result.dummy else "its own weights"
    console.print(
        f"{result.model}, {weights}, on {result.device or 'nothing'}: vLLM {result.vllm}, "
        f"{result.prompt} tokens in, {result.tokens} out",
        markup=False,
    )
    console.print(_rates(result))
    for variant in result.variants:
        if variant.error:
            console.print(f"{variant.name}: {variant.error}", markup=False)
    for sequences in _sequences(result):
        measured = [(variant, _step(variant, sequences)) for variant in result.variants]
        if any(step for _, step in measured):
            console.print(_parts(sequences, [(variant, step) for variant, step in measured if step]))


def _sequences(result: Result) -> list[int]:
    return list(dict.fromkeys(rate.sequences for variant in result.variants for rate in variant.rates))


def _step(variant: Measured, sequences: int) -> Step | None:
    rate = variant.rate(sequences)
    return rate.step if rate else None


def _rates(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("variant")
    for header in (
        "sequences",
        "tokens/s",
        f"against {result.variants[0].name}",
        "ms a step",
        "tokens a step",
    ):
        table.add_column(header, justify="right")
    for variant in result.variants:
        for rate in variant.rates:
            ratio = result.ratio(variant, rate.sequences)
            table.add_row(
                variant.name,
                str(rate.sequences),
                f"{rate.tokens_per_second:,.1f}",
                "" if ratio is None else f"{ratio:.2f}x",
                f"{rate.step_ms:.3f}",
                f"{rate.tokens_per_step:.2f}",
            )
    return table


def _parts(sequences: int, measured: list[tuple[Measured, Step]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"us of a step, {sequences} sequence{'s' * (sequences > 1)}")
    for variant, _ in measured:
        table.add_column(variant.name, justify="right")
    for part in trace.parts():
        table.add_row(part.name, *(f"{step.parts().get(part.name, 0.0):,.0f}" for _, step in measured))
    # Against the step without the profiler, which makes gaps longer.
    whole = [1e3 * rate.step_ms for variant, _ in measured if (rate := variant.rate(sequences))]
    gaps = [max(us - step.busy, 0.0) for us, (_, step) in zip(whole, measured, strict=True)]
    table.add_row("no kernel runs", *(f"{us:,.0f}" for us in gaps))
    table.add_row("launches", *(f"{step.launches:,.0f}" for _, step in measured))
    return table

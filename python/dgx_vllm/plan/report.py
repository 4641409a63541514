"""Report: the plan as tables and as JSON."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgx_vllm.plan import gb10
from dgx_vllm.plan.as_json import unknown
from dgx_vllm.plan.budget import Budget
from dgx_vllm.plan.outlook import DRAFT_BATCHES, Drafting, Outlook
from dgx_vllm.util.amounts import GB, MB, gb

_BAR = 24


def show(outlook: Outlook, console: Console) -> None:
    """Prints everything."""
    model = outlook.model
    source = _source(outlook)
    console.print(
        Text.assemble(
            (model.name, "bold"), f": {model.architecture.family}, {_billions(outlook)}, {model.quantization}"
        )
    )
    console.print(Text(f"Weights by {source}. Speeds are predicted for a GB10, not measured."))
    if not model.known:
        console.print(
            Text(
                f"Not all of {model.architecture.family} is known: parts are identified by tensor names. "
                "Layers without a stated window are assumed to keep every token."
            )
        )
    for item in unknown(model):
        console.print(Text(f"unknown: {item}. The config does not say."))
    if model.sparsity:
        console.print(
            Text(
                f"Pruned to {model.sparsity.pattern} by {model.sparsity.method}: "
                f"{', '.join(model.sparsity.targets)}. The figures count the zeros like other weights."
            )
        )
    speeds = (_traffic, _speed, _drafts, _prefill) if outlook.steps else ()
    tables = (_weights, *speeds, _sequence, _memory)
    for table in (draw(outlook) for draw in tables):
        if table.row_count:
            console.print(table)
    if outlook.budget.cache > 0 and outlook.rows:
        console.print(_concurrency(outlook))
    for line in _footnotes(outlook):
        console.print(Text(line, "dim"))


def _source(outlook: Outlook) -> str:
    """Where the weights' bytes are from."""
    if outlook.model.published:
        return "known sizes of the published model"
    return "the files' headers" if outlook.model.exact else "config.json, not the files"


def refusal(budget: Budget, cache: int) -> str:
    """The arithmetic of a model that does not fit, in one line.

    Args:
        budget: the memory, divided.
        cache: bytes of KV cache that are the least worth starting with.
    """
    needed = budget.weights + budget.overhead + budget.reserve + cache
    return (
        f"needs {gb(needed)} = weights {gb(budget.weights)} + overhead {gb(budget.overhead)} "
        f"+ reserve {gb(budget.reserve)} + KV cache {gb(cache)}, and {gb(budget.available)} are "
        f"available ({budget.origin})"
    )


def _billions(outlook: Outlook) -> str:
    count = sum(weight.parameters for weight in outlook.model.weights if not weight.draft)
    return (
        f"{count / 1e9:.1f} billion parameters" if count >= 1e8 else f"{count / 1e6:.2f} million parameters"
    )


def _weights(outlook: Outlook) -> Table:
    table = _table("weights", "precision", ">parameters, M", ">MB", ">share")
    loaded = sum(weight.bytes for weight in outlook.model.weights if not weight.draft)
    for weight in outlook.model.weights:
        if not weight.draft:
            table.add_row(*_weight(weight.part, weight.precision, weight.parameters, weight.bytes, loaded))
    table.add_section()
    parameters = sum(weight.parameters for weight in outlook.model.weights if not weight.draft)
    table.add_row("total", "", _mb(parameters), _mb(loaded), "")
    drafts = [weight for weight in outlook.model.weights if weight.draft]
    if drafts:
        table.add_row(
            "MTP layers, loaded to draft only",
            ", ".join(sorted({draft.precision for draft in drafts})),
            _mb(sum(draft.parameters for draft in drafts)),
            _mb(sum(draft.bytes for draft in drafts)),
            "",
        )
    return table


def _weight(part: str, precision: str, parameters: int, size: int, total: int) -> tuple[str, ...]:
    share = f"{size / total:.1%}" if total else ""
    return part, precision, _mb(parameters), _mb(size), share


def _traffic(outlook: Outlook) -> Table:
    step = outlook.steps[0]
    table = _table(f"moved per token, batch 1, context {step.context}", "precision", ">MB", ">share", "")
    largest = max((part.bytes for part in step.traffic), default=0.0)
    for part in step.traffic:
        bar = "█" * max(round(_BAR * part.bytes / largest), 1 if part.bytes > largest / 50 else 0)
        table.add_row(part.part, part.precision, _mb(part.bytes), f"{part.bytes / step.bytes:.1%}", bar)
    table.add_section()
    table.add_row("total", "", _mb(step.bytes), "", "")
    return table


def _speed(outlook: Outlook) -> Table:
    table = _table(
        ">batch", ">GB a step", ">experts a layer", ">ms", ">tok/s, bytes alone", ">tok/s, with overhead"
    )
    for step in outlook.steps:
        table.add_row(
            str(step.batch),
            _gb(step.bytes),
            f"{step.experts:.1f}" if step.experts else "",
            f"{1e3 * step.seconds:.1f}",
            f"{step.ceiling():,.1f}",
            f"{step.expected():,.1f}",
        )
    return table


def _drafts(outlook: Outlook) -> Table:
    table = _table(
        "drafts by",
        "text",
        ">drafts",
        ">tokens a step",
        ">GB a step, batch 1",
        *(f">tok/s, batch {batch}" for batch in DRAFT_BATCHES),
    )
    best = [outlook.best(content) for content in outlook.contents]
    for drafting in outlook.drafting:
        # Derived figures are many: of each way and content the best one is enough.
        if drafting.derived and drafting not in _leading(outlook):
            continue
        marks = [any(rows[place] is drafting for rows in best) for place in range(len(DRAFT_BATCHES))]
        table.add_row(
            drafting.drafter.name if drafting.drafter else "none",
            drafting.content or "",
            str(drafting.drafts),
            f"{drafting.accepted:.2f}{' (derived)' if drafting.derived else ''}",
            _gb(drafting.steps[0].bytes),
            *(
                f"{'best: ' if is_best else ''}{speed:,.1f}"
                for speed, is_best in zip(drafting.speeds, marks, strict=True)
            ),
        )
    return table


def _leading(outlook: Outlook) -> list[Drafting]:
    """The rows that are best for a batch, and the fastest of each way to draft and content at batch 1."""
    leading = [row for content in outlook.contents for row in outlook.best(content)]
    ways: dict[tuple[str, str | None], list[Drafting]] = {}
    for row in outlook.drafting:
        if row.drafter:
            ways.setdefault((row.drafter.name, row.content), []).append(row)
    return leading + [max(rows, key=lambda row: row.speeds[0]) for rows in ways.values()]


def _prefill(outlook: Outlook) -> Table:
    table = _table(">tokens of a prompt at once", ">prompt tok/s", "")
    for prefill in outlook.prefill:
        used = "as planned" if prefill.tokens == outlook.options.batched_tokens else ""
        table.add_row(f"{prefill.tokens:,}", f"{prefill.speed:,.0f}", used)
    return table


def _memory(outlook: Outlook) -> Table:
    budget = outlook.budget
    table = _table("memory", ">GB", "from")
    table.add_row("available", _gb(budget.available), budget.origin)
    table.add_row("reserve", f"-{_gb(budget.reserve)}", "left to the system and to one compile job")
    source = _source(outlook)
    if count := outlook.options.drafts:
        by = outlook.choices.used
        source += f"; with {by.name if by else 'what drafts'}, for {count} draft{'s' * (count > 1)}"
    table.add_row("weights", f"-{_gb(budget.weights)}", source)
    for overhead in budget.overheads:
        table.add_row(overhead.name, f"-{_gb(overhead.bytes)}", overhead.source)
    table.add_section()
    table.add_row("left for the KV cache", _gb(budget.cache), "")
    return table


def _sequence(outlook: Outlook) -> Table:
    kept = outlook.cache
    table = _table(f"kept per sequence{'' if outlook.model.known else ', at most'}", ">bytes", "as")
    if kept is None:
        return table
    dtype = f"{outlook.options.cache_dtype}: {outlook.cache_origin}"
    if kept.token_bytes:
        table.add_row("keys and values of one token", f"{kept.token_bytes:,}", dtype)
    if kept.window:
        table.add_row(f"the same in windows of {kept.window}", f"{kept.window_bytes:,}", dtype)
    if kept.state_bytes:
        recurrent = kept.state_bytes - kept.conv_bytes
        table.add_row("recurrent states (GDN, Mamba)", f"{recurrent:,}", _state_dtype(outlook))
        table.add_row("convolution states", f"{kept.conv_bytes:,}", outlook.model.architecture.dtype)
    if kept.groups:
        why = f"vLLM pages all of it: {len(kept.groups)} tables"
        table.add_row("one block", f"{kept.block_bytes:,}", why)
    return table


def _state_dtype(outlook: Outlook) -> str:
    architecture, chosen = outlook.model.architecture, outlook.options.state_dtype
    stored = architecture.recurrent.dtype if architecture.recurrent else None
    return (stored or architecture.dtype) if chosen == "auto" else chosen


def _concurrency(outlook: Outlook) -> Table:
    table = _table(">context, tokens", ">GB a sequence", ">sequences that fit")
    for row in outlook.rows:
        table.add_row(f"{row.context:,}", _gb(row.sequence_bytes), f"{row.sequences:,}")
    return table


def _footnotes(outlook: Outlook) -> list[str]:
    lines = []
    if outlook.steps:
        lines.append(_speeds(outlook))
    if outlook.steps and outlook.model.architecture.experts:
        lines.append(
            f"Experts: what independent routing would add beyond one token's is cut by "
            f"{gb10.SHARED_ROUTING:.0%}, fitted to published aggregates of the same model."
        )
    lines += _draft_lines(outlook)
    if outlook.prefill:
        lines.append(
            "Prompts: fitted to five published ones of 8K tokens, each met within a fifth. "
            "Attention is left out."
        )
    if outlook.budget.cache <= 0:
        lines.append(f"It does not fit: {outlook.model.name} {refusal(outlook.budget, 0)}.")
    return lines


def _draft_lines(outlook: Outlook) -> list[str]:
    """What is predicted best by content, where the figures are from, and which ways have none."""
    lines = []
    for content in outlook.contents:
        batches: dict[str, list[str]] = {}
        for batch, row in zip(DRAFT_BATCHES, outlook.best(content), strict=True):
            choice = f"{row.drafts} by {row.drafter.name}" if row.drafter else "no drafts"
            batches.setdefault(choice, []).append(str(batch))
        words = (f"{choice} (batch {', '.join(numbers)})" for choice, numbers in batches.items())
        lines.append(f"Predicted best{f' for {content}' if content else ''}: {'; '.join(words)}.")
    origins = dict.fromkeys(row.origin for row in outlook.drafting if row.drafter)
    if origins:
        lines.append(f"Drafts: tokens a step by {'; '.join(origins)}.")
    if any(row.derived for row in outlook.drafting):
        lines.append("Derived: as if each draft held with the same probability once those before it hold.")
    silent = [way.drafter.name for way in outlook.choices.ways if not way.accepted]
    if silent:
        lines.append(
            f"No published acceptance, so no speed: {', '.join(silent)}. Give --acceptance what your server "
            "says at its end."
        )
    if outlook.choices.missing:
        lines.append(f"Its sizes are not known here: {', '.join(outlook.choices.missing)}.")
    return lines


def _speeds(outlook: Outlook) -> str:
    """Where the speeds are from."""
    peak, nominal = gb10.READ_PEAK / GB, gb10.NOMINAL_BANDWIDTH / GB
    return (
        f"Bytes alone: at {peak:.0f} GB/s, the read peak others measured on a GB10 (nominal {nominal:.0f}). "
        f"Overhead: {1e6 * outlook.steps[0].overhead:.0f} µs a layer{_by_launches(outlook)}, calibrated on "
        f"one published figure ({gb10.PUBLISHED_TOKENS_PER_SECOND:.0f} tok/s, Qwen3-Next-80B-A3B NVFP4, "
        "vLLM 0.16). Computing, which bounds large batches, is left out."
    )


def _by_launches(outlook: Outlook) -> str:
    if outlook.launches is None:
        return ""
    each = 1e6 * gb10.OVERHEAD_PER_LAUNCH
    return f", as if {outlook.launches} launches took {each:.1f} µs each"


def _mb(count: float) -> str:
    """Millions, with decimals where there are few."""
    return f"{count / MB:,.1f}" if abs(count) >= MB else f"{count / MB:.3f}"


def _gb(count: float) -> str:
    return f"{count / GB:,.2f}" if abs(count) >= GB else f"{count / GB:.4f}"


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        right = header.startswith(">")
        table.add_column(header.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    return table

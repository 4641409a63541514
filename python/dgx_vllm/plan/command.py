"""`dgx-vllm plan`: from words to the printed plan."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from rich.console import Console

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.host import machine, meminfo, spark
from dgx_vllm.plan import (
    chart,
    known_sizes,
    model,
    outlook,
    overheads,
    report,
    source,
    stored_precision,
)
from dgx_vllm.plan.acceptance import parse as parse_acceptance
from dgx_vllm.plan.as_json import document
from dgx_vllm.plan.draft_limits import risk
from dgx_vllm.plan.outlook import PlanRequest
from dgx_vllm.util import amounts
from dgx_vllm.util.errors import UserError
from dgx_vllm.util.messages import say
from dgx_vllm.vllm_flags import flags


def plan(
    argument: str,
    environ: Mapping[str, str],
    *,
    memory: str | None,
    reserve: str | None,
    context: int,
    cache_dtype: str | None,
    dense_dtype: Dtype | None,
    moe_backend: str | None,
    drafts: int | None,
    spec_model: str | None,
    spec_method: str | None,
    acceptance: str | None,
    launches: int | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Prints the plan of a model.

    Args:
        argument: a directory, a config.json, a profile's name or a Hugging Face id.
        environ: the process's environment.
        memory: a Spark's size, 64GB or 128GB, which stands for what the system sees of it, or another amount
            such as 100GiB; without one MemAvailable on a machine with unified memory, else a Spark of 128 GB.
        reserve: an amount to leave alone.
        context: tokens in each sequence while decoding.
        cache_dtype: the KV cache's.
        dense_dtype: what the projections that the checkpoint left in BF16 become.
        moe_backend: vLLM's --moe-backend.
        drafts: speculative tokens, None for the profile's.
        spec_model: a checkpoint that drafts, None for the profile's, or the model's MTP layers.
        spec_method: how it drafts, by vLLM's name; None for what its config says.
        acceptance: the share of steps that keeps the draft at each position, such as `0.84,0.58`.
        launches: of a step, which then decide the overhead.
        as_json: JSON instead of tables.
        plot: a picture's file, .svg or .png.

    Raises:
        UserError: anything that the user must fix.
    """
    if plot:
        chart.check(plot)
    if moe_backend is not None:
        flags.load().require("moe-backend", "").check(moe_backend, "--moe-backend")
    accepted = None if acceptance is None else parse_acceptance(acceptance)
    if accepted and drafts and drafts > len(accepted.shares):
        raise UserError(
            f"--acceptance {acceptance} does not cover draft {len(accepted.shares) + 1}; give {drafts} "
            f"shares, or lower --drafts {drafts}"
        )
    available, origin = _memory(memory)
    request = PlanRequest(
        available=available,
        origin=origin,
        reserve=overheads.RESERVE if reserve is None else amounts.parse(reserve, "--memory-reserve"),
        context=context,
        cache_dtype=cache_dtype,
        dense_dtype=dense_dtype,
        moe_backend=moe_backend,
        drafts=drafts,
        acceptance=accepted,
        launches=launches,
        draft_model=spec_model,
        draft_method=spec_method,
        environ=environ,
    )
    description = source.find(argument, environ)
    known = description.profile
    gdn = checkpoint.has_gated_delta_net(description.config) or bool(known and known.gated_delta_net)
    for count, asked in (
        (drafts or 0, "--drafts"),
        (len(accepted.shares) if accepted else 0, "--acceptance"),
    ):
        fault = risk(count, gdn, "cuda")
        if fault:
            say(f"{asked}: {fault}; serve needs --allow-known-faults for it")
    understood = model.understand(description)
    if changed := known_sizes.changes(understood, known):
        say(changed)
    if understood.disagreements:
        say(stored_precision.line(understood.disagreements))
    planned = outlook.of(understood, known, request)
    if plot:
        chart.draw(planned, plot)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(document(planned)), indent=1).decode())
    else:
        console = Console(highlight=False)
        # Piped into a file or a pager, a table keeps its lines whole.
        report.show(planned, console if console.is_terminal else Console(highlight=False, width=160))


def _memory(amount: str | None) -> tuple[int, str]:
    if amount is not None:
        size = spark.labelled(amount)
        return (size.visible, str(size)) if size else (amounts.parse(amount, "--memory"), "--memory")
    try:
        unified = machine.detect().unified
    except UserError:
        unified = False  # planning is of use without vLLM as well
    if unified:
        return meminfo.available(), "MemAvailable"
    return spark.large().visible, f"{spark.large()}; on one, MemAvailable counts"

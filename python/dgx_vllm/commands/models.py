"""Commands about models: what fits, what is here, fetching it."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.util.errors import UserError

app = typer.Typer()
_PANEL = "Models"


_Cache = Annotated[
    Path | None,
    typer.Option(metavar="DIRECTORY", help="A Hugging Face cache; by default yours and those of services."),
]


@app.command(name="list", rich_help_panel=_PANEL)
def list_models(
    cache: _Cache = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the downloaded models, with their sizes and when they were last used."""
    from dgx_vllm.models import command

    command.list_models(os.environ, cache=cache, as_json=as_json)


@app.command(rich_help_panel=_PANEL)
def rm(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Hugging Face ids or profiles' names.")
    ],
    cache: _Cache = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove downloaded models; what a running server uses and what other models share stays."""
    from dgx_vllm.models import command

    raise typer.Exit(command.remove(models, os.environ, cache=cache, yes=yes))


@app.command(rich_help_panel=_PANEL)
def profiles(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the profiles and whether each fits this machine."""
    from dgx_vllm.host import machine
    from dgx_vllm.launch import as_json as programs
    from dgx_vllm.launch import report
    from dgx_vllm.profiles import profile

    try:
        here = machine.detect()
    except UserError:
        here = None  # the list is of use without vLLM as well
    (programs if as_json else report).profiles(profile.builtin(), here)


@app.command(rich_help_panel=_PANEL)
def plan(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A directory, a config.json, a profile or a Hugging Face id."),
    ],
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="Plan for this much, such as 119.7GB; by default MemAvailable on a GB10, else all of one.",
        ),
    ] = None,
    reserve: Annotated[
        str | None,
        typer.Option("--memory-reserve", metavar="AMOUNT", help="What to leave alone of it; 8GB by default."),
    ] = None,
    context: Annotated[
        int, typer.Option(min=1, metavar="TOKENS", help="Tokens in each sequence while decoding.")
    ] = 1024,
    kv_cache_dtype: Annotated[
        str | None, typer.Option(metavar="DTYPE", help="As for serve; by default the profile's.")
    ] = None,
    dense_dtype: Annotated[Dtype | None, typer.Option(help="As for serve; by default the profile's.")] = None,
    moe_backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="As for serve; dgx counts in a draft's experts in NVFP4, where --dense-dtype makes them so.",
        ),
    ] = None,
    drafts: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Tokens that the MTP layer drafts; by default the profile's, else none."
        ),
    ] = None,
    acceptance: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE,...",
            help="Weigh drafts by the share of steps that keeps the first, the second, such as 0.84,0.58.",
        ),
    ] = None,
    launches: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Take the overhead by launches of a step, as bench-decode counts them."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|FILE.png", help="Draw the plan into this file too.")
    ] = None,
) -> None:
    """Say what MODEL takes of a GB10's memory, what else fits, and how fast it may decode.

    What the model's config does not tell is shown as unknown, in JSON as null. Of a model whose kind is not
    known, what a sequence keeps is the most that it can be.
    """
    from dgx_vllm.plan import command

    command.plan(
        model,
        os.environ,
        memory=memory,
        reserve=reserve,
        context=context,
        cache_dtype=kv_cache_dtype,
        dense_dtype=dense_dtype,
        moe_backend=moe_backend,
        drafts=drafts,
        acceptance=acceptance,
        launches=launches,
        as_json=as_json,
        plot=plot,
    )


@app.command(rich_help_panel=_PANEL)
def download(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A Hugging Face id or a profile's name.")],
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="A branch, tag or commit; main by default.")
    ] = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do not look for a newer one where a whole model is here.")
    ] = False,
    load_format: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="As serve will be given it, where there are two copies."),
    ] = "auto",
    config_format: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="As serve will be given it, where there are two configs."),
    ] = "auto",
) -> None:
    """Download MODEL into the Hugging Face cache, or finish what was begun, and verify it."""
    from dgx_vllm.checkpoints.file_formats import Reading
    from dgx_vllm.download import command

    reading = Reading(load_format, config_format)
    command.download(model, os.environ, revision, if_missing, reading=reading)

"""Commands about models: what fits, what is here, fetching it."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dgx_vllm.commands import completion
from dgx_vllm.formats.dense_dtype import Dtype

app = typer.Typer()
_PANEL = "Models"


_Cache = Annotated[
    Path | None,
    typer.Option(metavar="DIRECTORY", help="A Hugging Face cache (default: yours and those of services)."),
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
        list[str],
        typer.Argument(
            metavar="MODEL...",
            autocompletion=completion.downloaded_models,
            help="Hugging Face ids or profile names.",
        ),
    ],
    cache: _Cache = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
) -> None:
    """Remove downloaded models, but not models in use or files shared with other models."""
    from dgx_vllm.models import command

    raise typer.Exit(command.remove(models, os.environ, cache=cache, yes=yes))


@app.command(rich_help_panel=_PANEL)
def profiles(
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="Memory of another machine: 64GB or 128GB for a Spark, or bytes (default: this machine's).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the profiles: whether each fits this machine, with what context, and how fast it may decode."""
    from dgx_vllm.launch import profile_list

    profile_list.show(memory, as_json)


@app.command(rich_help_panel=_PANEL)
def plan(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=completion.known_models,
            help="A directory, a config.json, a profile or a Hugging Face id.",
        ),
    ],
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="Memory to plan for: 64GB or 128GB means a Spark of that size, and 100GiB just that amount "
            "(default: MemAvailable on a Spark, else a Spark of 128 GB).",
        ),
    ] = None,
    reserve: Annotated[
        str | None,
        typer.Option("--memory-reserve", metavar="AMOUNT", help="Memory to keep free (default: 8GB)."),
    ] = None,
    context: Annotated[
        int, typer.Option(min=1, metavar="TOKENS", help="Context length of each sequence while decoding.")
    ] = 1024,
    kv_cache_dtype: Annotated[
        str | None, typer.Option(metavar="DTYPE", help="As for serve (default: the profile's).")
    ] = None,
    dense_dtype: Annotated[Dtype | None, typer.Option(help="As for serve (default: the profile's).")] = None,
    moe_backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="As for serve; dgx counts a draft's experts as NVFP4 if --dense-dtype makes them so.",
        ),
    ] = None,
    drafts: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Tokens drafted for each step (default: the profile's, else none)."
        ),
    ] = None,
    spec_model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A checkpoint that drafts, as for serve (default: the profile's, else the MTP layers).",
        ),
    ] = None,
    spec_method: Annotated[
        str | None, typer.Option(metavar="NAME", help="How it drafts (default: as its config says).")
    ] = None,
    acceptance: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE,...",
            help="Share of steps that accepts the first draft, the second and so on, such as 0.84,0.58.",
        ),
    ] = None,
    launches: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Estimate overhead from this many kernel launches per step (see bench-decode).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|FILE.png", help="Also draw the plan into this file.")
    ] = None,
) -> None:
    """Show how much of a GB10's memory MODEL takes, what else fits, and how fast it may decode.

    Values that the model's config does not give are shown as unknown, in JSON as null. For an unknown kind of
    model, the memory of a sequence is an upper limit.
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
        spec_model=spec_model,
        spec_method=spec_method,
        acceptance=acceptance,
        launches=launches,
        as_json=as_json,
        plot=plot,
    )


@app.command(rich_help_panel=_PANEL)
def download(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=completion.known_models,
            help="A Hugging Face id or a profile name.",
        ),
    ],
    revision: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="A branch, tag or commit (default: the profile's, else main)."),
    ] = None,
    if_missing: Annotated[
        bool,
        typer.Option(
            "--if-missing", help="Do not look for a newer revision if the model is already complete."
        ),
    ] = False,
    load_format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT", help="As you will give it to serve, if the model has two copies of its weights."
        ),
    ] = "auto",
    config_format: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="As you will give it to serve, if the model has two configs."),
    ] = "auto",
    speculative_config: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="As you will give it to serve, for the draft model; null for none (default: the profile's).",
        ),
    ] = None,
) -> None:
    """Download MODEL into the Hugging Face cache, or resume its download, and verify it.

    Its draft model comes too.
    """
    from dgx_vllm.checkpoints.file_formats import Reading
    from dgx_vllm.download import command

    reading = Reading(load_format, config_format)
    command.download(
        model, os.environ, revision, if_missing, reading=reading, speculative_config=speculative_config
    )

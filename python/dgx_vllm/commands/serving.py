"""Commands that serve, and that watch what serves."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dgx_vllm.commands import completion
from dgx_vllm.commands.option_parameters import own_options
from dgx_vllm.commands.parsing import PASS_ON, PassOn
from dgx_vllm.launch.settings import option_table
from dgx_vllm.launch.settings.options import Options

app = typer.Typer()
_PANEL = "Serve and watch"
_SERVE_HELP = """Serve MODEL over the OpenAI API, by default on 127.0.0.1:8888.

MODEL is a Hugging Face id, a local checkpoint or a profile's name; without one the built-in demo is served.
Every flag of `vllm serve` is accepted, such as --port, --host, --max-model-len and --max-num-seqs.

Settings come from flags, then from the file of --config, from
VLLM_EXTRA_ARGS, from the environment (MODEL, HOST, PORT, GPU_MEMORY_UTIL, MAX_MODEL_LEN, MAX_NUM_SEQS,
TENSOR_PARALLEL_SIZE), from the model's profile, and from defaults; --dry-run shows which one counts.

vLLM's flags: --help=all shows them all, --help=listgroup their groups, --help=GROUP one group such as
CacheConfig, and --help=NAME one flag such as max-model-len.
"""


@app.command(
    cls=PassOn,
    context_settings=PASS_ON,
    rich_help_panel=_PANEL,
    help=_SERVE_HELP,
    options_metavar="[MODEL] [OPTIONS] [any vLLM flag]",
)
@own_options(option_table.load())
def serve(context: typer.Context, options: Options) -> None:
    from dgx_vllm.launch import serve as launch

    raise typer.Exit(launch.serve(context.args, os.environ, options))


@app.command(rich_help_panel=_PANEL)
def chat(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            autocompletion=completion.running_servers,
            help="A name from `ps` or a model (default: the only running server).",
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Use a server elsewhere, such as http://spark:8888.")
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with the server's API key (default: VLLM_API_KEY)."),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="How the model should behave.")] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", metavar="TEXT", help="Ask only this; piped input is appended to it."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Longest answer in tokens (default: the model's).")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, metavar="X", help="0 for the likeliest answer (default: the model's)."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show each answer's number of tokens and its speed.")
    ] = False,
) -> None:
    """Chat with a running server on a terminal, or ask it one question from standard input.

    Ctrl-C stops an answer, Ctrl-D ends the chat, and /help lists the commands of a chat.
    `dgx-vllm serve MODEL` starts a server.
    """
    from dgx_vllm.chat import command

    command.chat(
        model,
        os.environ,
        url=url,
        key_file=api_key_file,
        system=system,
        prompt=prompt,
        options={"max_tokens": max_tokens, "temperature": temperature},
        verbose=verbose,
    )


@app.command(rich_help_panel=_PANEL)
def ps(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also show services that are not running.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the running servers and services."""
    from dgx_vllm.running import command

    command.ps(os.environ, everything=everything, as_json=as_json)


_Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        autocompletion=completion.all_servers,
        help="A name from `ps`, a port or a model (default: the only running server).",
    ),
]


@app.command(rich_help_panel=_PANEL)
def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            autocompletion=completion.all_servers,
            help="A name from `ps`, a port or a model (default: all).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show the state of servers and services; the exit status is 0 only if all are ready and answer."""
    from dgx_vllm.running import command

    raise typer.Exit(command.status(name, os.environ, as_json=as_json))


@app.command(rich_help_panel=_PANEL)
def logs(
    name: _Name = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, metavar="N", help="Number of lines to start with.")
    ] = 100,
) -> None:
    """Show the end of a server's log; for a service, of its journal."""
    from dgx_vllm.running import command

    raise typer.Exit(command.logs(name, os.environ, follow=follow, lines=lines))


@app.command(rich_help_panel=_PANEL)
def stop(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            autocompletion=completion.running_servers,
            help="A name from `ps`, a port or a model (default: the only running server).",
        ),
    ] = None,
) -> None:
    """Stop a server or service, and wait until it has ended."""
    from dgx_vllm.running import command

    raise typer.Exit(command.stop(name, os.environ))


@app.command(rich_help_panel=_PANEL)
def health(
    ready_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file of `dgx-vllm serve --ready-file` (default: the only running server).",
        ),
    ] = None,
) -> None:
    """Check whether a running server is healthy; the exit status suits a health check."""
    if ready_file is None:
        from dgx_vllm.running import command

        print(f"{command.health(os.environ)} is healthy")
        return
    from dgx_vllm.running import healthcheck

    print(f"{healthcheck.check(ready_file)} is healthy")

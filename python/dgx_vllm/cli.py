"""The `dgx-vllm` command."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import dgx_vllm
from dgx_vllm.errors import UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="vLLM on NVIDIA's DGX Spark: one command, no surprises.",
)

# vLLM's flags are not Typer's to know: they pass through in order and are read by launch.flags.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

_SERVE_HELP = """Serve MODEL over the OpenAI API, by default on 127.0.0.1:8888.

MODEL is a Hugging Face id, a local checkpoint or a profile's name; without one the built-in demo is served.
Every flag of `vllm serve` is accepted. Settings come from flags, then from the environment (MODEL, HOST,
PORT, GPU_MEMORY_UTIL, MAX_MODEL_LEN, MAX_NUM_SEQS, TENSOR_PARALLEL_SIZE, VLLM_EXTRA_ARGS), then from the
model's profile, then from defaults; --dry-run shows which one counts.
"""


@app.command(context_settings=_PASS_ON, help=_SERVE_HELP, options_metavar="[MODEL] [OPTIONS] [any vLLM flag]")
def serve(
    context: typer.Context,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml", help="Apply this profile instead of the model's own."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the command, the environment and each value's source; start nothing."
        ),
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the address as JSON to FILE once a token can be had."),
    ] = None,
) -> None:
    from dgx_vllm.launch import serve as launch

    raise typer.Exit(launch.serve(context.args, os.environ, profile, dry_run, ready_file))


@app.command()
def profiles() -> None:
    """List the profiles and whether each fits this machine."""
    from dgx_vllm import machine, profile
    from dgx_vllm.launch import report

    try:
        here = machine.detect()
    except UserError:
        here = None  # the list is of use without vLLM as well
    report.profiles(profile.builtin(), here)


def _print_version(wanted: bool) -> None:
    if wanted:
        from dgx_vllm import machine

        try:
            vllm = machine.detect().vllm
            print(f"dgx-vllm {dgx_vllm.__version__} (vLLM {vllm.version}, {vllm.platform} build)")
        except UserError:
            print(f"dgx-vllm {dgx_vllm.__version__} (vLLM is not installed)")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show versions and exit."),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Runs the command line; whatever is the user's to mend is one line on standard error."""
    try:
        status: Any = app(standalone_mode=False)
    except UserError as error:
        _fail(str(error), error.status)
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        _fail(f"{message} (see `dgx-vllm --help`)", getattr(error, "exit_code", 2))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    print(f"dgx-vllm: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()

"""The `dgx-vllm` command."""

import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.main import get_command

from dgx_vllm.commands import completion, measuring, models, serving, system
from dgx_vllm.commands.parsing import HELP, Commands
from dgx_vllm.util.errors import FAILURE, INTERRUPTED, UserError
from dgx_vllm.util.messages import say

app = typer.Typer(
    cls=Commands,
    context_settings=HELP,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="vLLM on NVIDIA's DGX Spark: one command, no surprises.",
    epilog="Help on one command: dgx-vllm help COMMAND. vLLM's own flags: dgx-vllm serve --help=all.",
)
for each in (serving, models, measuring, system):
    app.add_typer(each.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        system.version()
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "-V", "--version", callback=_print_version, is_eager=True, help="Show versions and exit."
        ),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Runs the command line; anything that the user must fix is one line on standard error."""
    # Rich would end with status 1 if the reader of the output has gone.
    Console.on_broken_pipe = _raise  # type: ignore[method-assign, assignment]
    try:
        command = get_command(app)
        completion.register()
        status: Any = command(standalone_mode=False, prog_name="dgx-vllm")
        if sys.stdout is not None:  # closed from the start, as `>&-` does
            sys.stdout.flush()  # here, where a reader that is gone is caught
    except UserError as error:
        _fail(str(error), error.status)
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        context = getattr(error, "ctx", None)
        name = f" {context.info_name}" if context is not None and context.parent is not None else ""
        _fail(
            f"{message} (see `dgx-vllm{name} --help`){'' if name else _hint(error)}",
            getattr(error, "exit_code", 2),
        )
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _end_unread()
    except SystemExit as ended:  # Click, too, has a status of its own for it
        if isinstance(ended.__context__, BrokenPipeError):
            _end_unread()
        raise
    except OSError as error:
        _fail(str(error), FAILURE)
    sys.exit(status if isinstance(status, int) else 0)


def _end_unread() -> NoReturn:
    """Ends as SIGPIPE would; Python's own last flush must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(141)


def _raise(_console: Console) -> None:
    raise BrokenPipeError


def _hint(error: typer.TyperException) -> str:
    """What to say of an option in front of the command, where `serve` has it."""
    option = getattr(error, "option_name", None)
    if option is None:
        return ""
    from dgx_vllm.commands import hint

    said = hint.for_option(option)
    return f"; {said}" if said else ""


def _fail(message: str, status: int) -> None:
    say(" ".join(message.split()))
    sys.exit(status)


if __name__ == "__main__":
    main()

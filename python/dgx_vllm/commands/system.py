"""Commands about this machine and its services."""

import os
from pathlib import Path
from typing import Annotated

import typer

import dgx_vllm
from dgx_vllm.commands import completion
from dgx_vllm.commands.option_parameters import own_options
from dgx_vllm.commands.parsing import HELP, PASS_ON, PassOn
from dgx_vllm.launch.settings import option_table
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.util.errors import FAILURE, UserError

app = typer.Typer()
_PANEL = "Machine and service"


@app.command(
    cls=PassOn,
    context_settings=PASS_ON,
    rich_help_panel=_PANEL,
    options_metavar="[MODEL] [OPTIONS] [any vLLM flag]",
)
@own_options(option_table.of("install-service"), whole_seconds=True)
def install_service(
    context: typer.Context,
    options: Options,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the unit, dgx-vllm-NAME.service.")
    ] = "default",
    remove: Annotated[
        bool, typer.Option("--remove", help="Stop the service and remove its files, except its models.")
    ] = False,
    user: Annotated[
        bool, typer.Option("--user", help="Use your own service manager instead of the system's.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the units and write nothing.")] = False,
    run_as: Annotated[
        str | None,
        typer.Option(
            metavar="USER", help="The user to run as (default: one that exists only while the service runs)."
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="A branch, tag or commit of the model (default: main)."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The address to listen on (default: 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port to listen on (default: 8888).")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="A file with settings for vLLM.")
    ] = None,
    environment_file: Annotated[
        Path | None,
        typer.Option(
            metavar="[-]FILE",
            help="A file with one NAME=VALUE per line; with - in front it may be missing.",
        ),
    ] = None,
    hf_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with a Hugging Face token.")
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIRECTORY", help="Where models are kept (default: systemd's cache directory)."),
    ] = None,
) -> None:
    """Keep a server running with systemd, now and after every boot.

    All other flags are vLLM's and go to `dgx-vllm serve`.
    """
    from dgx_vllm.service import command
    from dgx_vllm.service.command import Wish

    command.install_service(
        context.args,
        os.environ,
        Wish(
            name=name,
            remove=remove,
            user=user,
            dry_run=dry_run,
            run_as=run_as,
            revision=revision,
            host=host,
            port=port,
            config=config,
            environment_file=environment_file,
            hf_token_file=hf_token_file,
            cache_dir=cache_dir,
            options=options,
        ),
    )


@app.command(rich_help_panel=_PANEL)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    ask_vllm: Annotated[
        bool,
        typer.Option("--ask-vllm", help="Ask vLLM itself which backends it selects; takes longer."),
    ] = False,
) -> None:
    """Check whether this machine can serve, how well, and what to fix; the exit status is 1 if it cannot."""
    from dgx_vllm.doctor import examination, place, report

    examined = examination.examine(place.here(os.environ), ask_vllm)
    (report.dump if as_json else report.show)(examined)
    raise typer.Exit(0 if examined.serves else FAILURE)


@app.command(rich_help_panel=_PANEL)
def check_config(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="A file for `--config`.")],
) -> None:
    """Check that vLLM has the flags that FILE sets."""
    from dgx_vllm.launch.settings import config_file

    print(f"{file}: {_counted(len(config_file.read(str(file))), 'setting')}")


@app.command(rich_help_panel=_PANEL)
def check_environment(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file for `--environment-file`.")],
) -> None:
    """Check that serve accepts the variables that FILE sets."""
    from dgx_vllm.host import machine
    from dgx_vllm.launch.settings import own_variables
    from dgx_vllm.service import environment_file

    found = environment_file.load(str(file))
    for line in found.ignored:
        raise UserError(f"{file}: systemd ignores {line!r}; write NAME=VALUE")
    own_variables.check(found.variables, machine.detect().vllm)
    print(f"{file}: {_counted(len(found.variables), 'variable')}")


@app.command(
    name="exec",
    rich_help_panel=_PANEL,
    context_settings={**PASS_ON, **HELP, "allow_interspersed_args": False},
    options_metavar="PROGRAM [ARGUMENTS]",
)
def execute(context: typer.Context) -> None:
    """Run PROGRAM with the NVIDIA driver's libraries on its search path."""
    from dgx_vllm.host import driver

    if not context.args:
        raise UserError("exec: name a program, for example: dgx-vllm exec python script.py")
    environ = driver.reaching(os.environ)
    try:
        os.execvpe(context.args[0], context.args, environ)
    except FileNotFoundError as error:
        raise UserError(f"exec: there is no program {context.args[0]} on PATH", 127) from error


@app.command(rich_help_panel=_PANEL)
def version() -> None:
    """Show the versions of dgx-vllm and of its vLLM."""
    from dgx_vllm.host import machine

    try:
        vllm = machine.detect().vllm
        print(f"dgx-vllm {dgx_vllm.__version__} (vLLM {vllm.version}, {vllm.platform} build)")
    except UserError:
        print(f"dgx-vllm {dgx_vllm.__version__} (vLLM is not installed)")


@app.command(name="help", rich_help_panel=_PANEL, context_settings={"ignore_unknown_options": True})
def show_help(
    context: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(
            metavar="COMMAND",
            autocompletion=completion.command_names,
            help="A command (default: list all of them).",
        ),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="all|listgroup|GROUP|FLAG",
            autocompletion=completion.help_topics,
            help="For serve: as in `serve --help=GROUP`.",
        ),
    ] = None,
) -> None:
    """Show help on COMMAND."""
    top = context.find_root()
    words = [f"--help={topic}" if topic else "--help"]
    top.command.main([command, *words] if command else words, prog_name=top.info_name, standalone_mode=False)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

"""The launcher's own options as parameters of a command, made from the table."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from dgx_vllm.commands import completion
from dgx_vllm.launch.settings.option_table import Option
from dgx_vllm.launch.settings.options import Options

_Rest = ParamSpec("_Rest")


def own_options(
    options: tuple[Option, ...], *, whole_seconds: bool = False
) -> Callable[[Callable[Concatenate[typer.Context, Options, _Rest], None]], Callable[..., None]]:
    """Gives a command the options as parameters of Typer's, and their values as `Options`.

    Args:
        options: those that the command has.
        whole_seconds: whether seconds are whole numbers, as in a unit of systemd.
    """

    def decorate(command: Callable[Concatenate[typer.Context, Options, _Rest], None]) -> Callable[..., None]:
        context, _, *own = inspect.signature(command, eval_str=True).parameters.values()
        made = [_parameter(option, whole_seconds) for option in options]

        @functools.wraps(command)
        def called(context: typer.Context, **values: Any) -> None:
            given = {option.field: values.pop(option.field) for option in options}
            command(context, Options(**given), **values)  # type: ignore[call-arg]

        parameters = [context, *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in [*own, *made])]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return decorate


def _parameter(option: Option, whole_seconds: bool) -> inspect.Parameter:
    kind = int if option.type == "seconds" and whole_seconds else _TYPES[option.field]
    shown = typer.Option(
        option.flag,
        metavar=option.metavar,
        help=option.described,
        autocompletion=completion.profile_names if option.type == "profile" else None,
        min=0 if option.type == "seconds" else None,
        show_default=False,
    )
    return inspect.Parameter(
        option.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=getattr(_DEFAULTS, option.field),
        annotation=Annotated[kind, shown],
    )


_TYPES = get_type_hints(Options)
_DEFAULTS = Options()

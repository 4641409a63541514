"""How the command line is read: `-h` everywhere, hints for what does not exist, vLLM's flags passed on."""

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from dgx_vllm.util.errors import UserError

#: vLLM's flags are not Typer's to know: they pass through in order and are read by launch.flags. A short -h
#: is not declared: in `-sc.method` and `-dph` it would be found as one of several short options.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["--help"]}
HELP = {"help_option_names": ["-h", "--help"]}
_WORDS = "dgx_vllm.words"

_display_type = TyperOption.display_type_rich


def _type_of_values(self: TyperOption, ctx: Any) -> str | None:
    """Typer shows `<bool>` behind a switch, as if it took a value."""
    return None if self.is_flag else _display_type(self, ctx)


TyperOption.display_type_rich = _type_of_values  # type: ignore[method-assign, assignment]


class Commands(TyperGroup):
    """The top of the command line."""

    def parse_args(self, context: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        # Without a command the help is what was asked for, and no error.
        return super().parse_args(context, args or ["--help"])

    def resolve_command(  # type: ignore[override]
        self, context: typer.Context, args: list[str]
    ) -> tuple[str | None, Any, list[str]]:
        word = args[0]
        if word in self.commands:
            return super().resolve_command(context, args)
        from dgx_vllm.commands import hint

        said = hint.for_command(word, self.commands)
        raise UserError(f"there is no command {word!r}; {said or 'see `dgx-vllm --help`'}")


class PassOn(TyperCommand):
    """A command that takes its own options and vLLM's flags, and shows help on both."""

    def parse_args(self, context: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        context.meta[_WORDS] = tuple(args)
        if context.resilient_parsing:  # the words of a line that is being completed
            return super().parse_args(context, args)
        own = args[: args.index("--")] if "--" in args else args
        if "-h" in own:
            args = ["--help"]
        for word in own:
            name, equals, wanted = word.partition("=")
            if equals and name in ("-h", "--help"):
                from dgx_vllm.flag_help import show

                show.show(wanted, self.params)
                context.exit()
        return super().parse_args(context, args)

    def format_help(self, context: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        option = self.get_help_option(context)
        if option is not None:
            option.opts = ["-h", *option.opts]  # read by parse_args, and shown here
        super().format_help(context, formatter)

    def shell_complete(self, context: typer.Context, incomplete: str) -> list[Any]:  # type: ignore[override]
        """The value of the flag in front, else the command's own options, vLLM's flags and models."""
        from dgx_vllm.commands import completion

        return completion.pass_on(
            context.meta[_WORDS], context.args, incomplete, super().shell_complete(context, incomplete)
        )

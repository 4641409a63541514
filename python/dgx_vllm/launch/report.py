"""What the user sees before a server starts: the dry run, the profiles, what fits this machine."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgx_vllm.host.machine import GIB, Machine
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings.ranking import Overruled, Setting, Source
from dgx_vllm.launch.settings.secret import SECRET_FLAGS
from dgx_vllm.plan import profile_fit
from dgx_vllm.plan.profile_fit import ProfileFit
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.messages import say, say_line


def dry_run(launch: Launch, machine: Machine) -> None:
    """Prints the command, and where every part of it comes from."""
    print(launch.command_line())
    console = _console()
    console.print()
    console.print(_settings_table(launch))
    if launch.variables:
        console.print(_variables_table(launch))
    overruled = [pair for pair in launch.overruled if pair.loser.source is not Source.DEFAULT]
    if overruled:
        console.print(_overruled_table(overruled))
    for note in launch.notes:
        console.print(Text(f"note: {note}"))
    if launch.refusal:
        console.print(Text(f"note: this machine would refuse to start it now: {launch.refusal}"))
    if machine.platform == "cuda" and not machine.gpus:
        console.print(Text("note: no GPU is visible here; this command is for a machine that has one"))


def profiles(fits: Sequence[ProfileFit], memory: str) -> None:
    """Prints the profiles, and what a memory makes of each.

    Args:
        fits: one for each profile.
        memory: which memory that is, in words.
    """
    table = _table("profile", "model", "weights", "fits", "context", "at once", "tok/s", "")
    for fit in fits:
        profile = fit.profile
        table.add_row(
            profile.name,
            profile.model,
            gb(fit.weights) if fit.weights is not None else "",
            "" if fit.fits is None else "yes" if fit.fits else "no",
            f"{fit.context:,}" if fit.context is not None else "",
            f"{fit.sequences:,}" if fit.sequences is not None else "",
            f"{fit.tokens_per_second:.0f}" if fit.tokens_per_second is not None else "",
            profile.summary,
        )
    console = _console()
    console.print(table)
    console.print(Text(f"Memory: {memory}. At once: sequences of that context.", "dim"))
    console.print(
        Text("tok/s: one sequence with the profile's drafts, predicted for a GB10, not measured.", "dim")
    )


def suggestions(known: Sequence[Profile], machine: Machine) -> None:
    """Says that the demo is served and, where there is a GPU, what else fits, each with its command."""
    say("no model named: serving the built-in demo")
    if not machine.gpus:
        return
    models = [profile for profile in known if not profile.checkpoint]
    fits = profile_fit.all_of(models, machine.device_memory, machine.platform)
    fitting = [fit.profile for fit in fits if fit.fits]
    if fitting:
        names = ", ".join(gpu.name for gpu in machine.gpus)
        say(f"this machine ({names}, {machine.device_memory / GIB:.0f} GiB) can serve:")
        for profile in fitting:
            say_line(f"  dgx-vllm serve {profile.model}   # {profile.summary}")


def _settings_table(launch: Launch) -> Table:
    table = _table("setting", "value", "from")
    for name, setting in sorted(launch.settings.items()):
        table.add_row(name, _setting_text(setting), setting.origin)
    return table


def _variables_table(launch: Launch) -> Table:
    table = _table("variable", "value", "from")
    for variable in launch.variables:
        table.add_row(variable.name, "(unset)" if variable.value is None else variable.value, variable.why)
    return table


def _overruled_table(overruled: Sequence[Overruled]) -> Table:
    table = _table("not used", "value", "from", "gives way to", "because")
    for pair in overruled:
        winner = f"{pair.winner.name} ({pair.winner.origin})"
        table.add_row(pair.loser.name, _setting_text(pair.loser), pair.loser.origin, winner, pair.why)
    return table


def _setting_text(setting: Setting) -> str:
    return "(secret)" if setting.name in SECRET_FLAGS else setting.text


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _console() -> Console:
    console = Console(highlight=False)
    # Piped into a file or a pager, a table keeps its lines whole.
    return console if console.is_terminal else Console(highlight=False, width=1000)

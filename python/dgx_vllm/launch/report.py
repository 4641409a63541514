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
from dgx_vllm.profiles.profile import Profile
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


def profiles(known: tuple[Profile, ...], machine: Machine | None) -> None:
    """Prints the profiles, and whether each fits this machine where one is given."""
    table = _table("profile", "model", "memory", "fits here", "")
    for profile in known:
        fits = "" if machine is None else "yes" if fits_machine(profile, machine) else "no"
        table.add_row(profile.name, profile.model, f"{profile.memory_gib:g} GiB", fits, profile.summary)
    _console().print(table)


def suggestions(known: tuple[Profile, ...], machine: Machine) -> None:
    """Says that the demo is served and, where there is a GPU, what else fits, each with its command."""
    fitting = [profile for profile in known if not profile.checkpoint and fits_machine(profile, machine)]
    say("no model named: serving the built-in demo")
    if machine.gpus and fitting:
        names = ", ".join(gpu.name for gpu in machine.gpus)
        say(f"this machine ({names}, {machine.device_memory / GIB:.0f} GiB) can serve:")
        for profile in fitting:
            say_line(f"  dgx-vllm serve {profile.model}   # {profile.summary}")


def fits_machine(profile: Profile, machine: Machine) -> bool:
    """Whether the profile's memory is there, and a GPU where the profile needs one."""
    runs = machine.platform == "cuda" or profile.checkpoint is not None
    return runs and profile.memory_gib * GIB <= machine.device_memory


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

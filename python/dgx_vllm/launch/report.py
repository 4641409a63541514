"""What the user sees: the dry run, the profiles, the progress, the address."""

import signal
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgx_vllm.host.machine import GIB, Machine
from dgx_vllm.launch.endpoint import Ready
from dgx_vllm.launch.process.draft_statistics import Drafted
from dgx_vllm.launch.process.good_starts import Start
from dgx_vllm.launch.settings.ranking import Overruled, Setting, Source
from dgx_vllm.launch.settings.resolve import SECRETS, Launch
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util import messages, outlet
from dgx_vllm.util.messages import say, say_line

# A reader that has not moved for so long does not read; one that does gets the last lines within this time.
_PATIENCE_SECONDS = 1.0
_LAST_SECONDS = 4.0


def dry_run(launch: Launch, machine: Machine) -> None:
    """Prints the command, and where every part of it comes from."""
    print(launch.command_line())
    console = _console()
    console.print()
    console.print(_settings_table(launch))
    if launch.variables:
        console.print(_variables_table(launch))
    overruled = [each for each in launch.overruled if each.loser.source is not Source.DEFAULT]
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


class Progress:
    """What is said while the server starts, when it is ready, and when it ends; it waits for no reader."""

    def __init__(self) -> None:
        self._terminal = messages.on_terminal()
        self._console = Console(stderr=True, highlight=False)
        self._next = messages.progress_seconds()
        self.out, self.err = outlet.standard()

    def wait(self, seconds: float, obstacle: str) -> None:
        """One line now and then, with the seconds since the start and what is awaited."""
        if seconds < self._next:
            return
        self._next = seconds + messages.progress_seconds()
        # A live spinner would be torn apart by vLLM's log on the same terminal: each line stands alone.
        style = "dim" if self._terminal else ""
        with self._console.capture() as line:
            self._console.print(Text(f"dgx-vllm: {seconds:.0f} s: {obstacle}", style))
        self.err.say(line.get())

    def stopped(self) -> None:
        """The server was told to end before it was ready."""
        self._say("stopped before the server was ready")

    def drafted(self, found: Drafted, model: str) -> None:
        """What became of drafts, and the command that weighs their number."""
        shares = ",".join(f"{share:.3f}" for share in found.shares)
        self._say(f"{found} (to weigh their number: dgx-vllm plan {model} --acceptance {shares})")

    def ended(self, reason: str) -> None:
        """The launcher ended the server unasked."""
        self._say(f"{reason}")

    def died(self, returncode: int, cause: str | None) -> None:
        """The server ended unasked; `cause` is the error that its log ends in, if any."""
        how = f"with status {returncode}" if returncode >= 0 else f"by {signal.Signals(-returncode).name}"
        why = f": {cause.rstrip('.')}; its log above says more" if cause else "; its log above says why"
        self._say(f"the server ended by itself {how}{why}")

    def changed(self, before: Start, changes: Sequence[str]) -> None:
        """What is no longer as it was when this model was last served."""
        if changes:
            self._say(f"it was last served on {before.day}; since then: {'; '.join(changes)}")

    def ready(self, ready: Ready, seconds: float) -> None:
        """The server answered that many seconds after its start."""
        token = "" if ready.first_token is None else f", first token in {ready.first_token:.2f} s"
        where = f"the socket {ready.endpoint.socket}" if ready.endpoint.socket else f"{ready.endpoint.url}/v1"
        if ready.curl:
            then = f"try it: {ready.curl}"
            if self._terminal and "/chat/" in ready.curl:
                then += "\ndgx-vllm: or talk to it, from another terminal: dgx-vllm chat"
        elif ready.fault:
            then = f"no token could be had ({ready.fault}); ready means that /health answers"
        else:
            then = "the model has no completion endpoint; ready means that /health answers"
        self.out.say(
            f"dgx-vllm: ready after {seconds:.0f} s{token}: {ready.model} at {where}\ndgx-vllm: {then}\n"
        )

    def finish(self) -> None:
        """Gives whoever reads the last lines a moment for them."""
        for each in (self.out, self.err):
            each.finish(_PATIENCE_SECONDS, _LAST_SECONDS)

    def _say(self, message: str) -> None:
        self.err.say(f"dgx-vllm: {message}\n")


def _settings_table(launch: Launch) -> Table:
    table = _table("setting", "value", "from")
    for name, setting in sorted(launch.settings.items()):
        table.add_row(name, _shown(setting), setting.origin)
    return table


def _variables_table(launch: Launch) -> Table:
    table = _table("variable", "value", "from")
    for variable in launch.variables:
        table.add_row(variable.name, "(unset)" if variable.value is None else variable.value, variable.why)
    return table


def _overruled_table(overruled: Sequence[Overruled]) -> Table:
    table = _table("not used", "value", "from", "gives way to", "because")
    for each in overruled:
        winner = f"{each.winner.name} ({each.winner.origin})"
        table.add_row(each.loser.name, _shown(each.loser), each.loser.origin, winner, each.why)
    return table


def _shown(setting: Setting) -> str:
    return "(secret)" if setting.name in SECRETS else setting.text


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _console() -> Console:
    console = Console(highlight=False)
    # Piped into a file or a pager, a table keeps its lines whole.
    return console if console.is_terminal else Console(highlight=False, width=1000)

"""What the user sees while a server starts, when it is ready, and when it ends."""

import signal
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from dgx_vllm.launch.endpoint import Ready
from dgx_vllm.launch.process.draft_statistics import Drafted
from dgx_vllm.launch.process.good_starts import Start
from dgx_vllm.util import messages, outlet

# A reader that has not moved for so long does not read; one that does gets the last lines within this time.
_PATIENCE_SECONDS = 1.0
_LAST_SECONDS = 4.0


class Progress:
    """Prints what happens to the server; it waits for no reader."""

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

    def drafted(self, statistics: Drafted, model: str) -> None:
        """What became of drafts, and the command that weighs their number."""
        shares = ",".join(f"{share:.3f}" for share in statistics.shares)
        self._say(f"{statistics} (to choose their number: dgx-vllm plan {model} --acceptance {shares})")

    def ended(self, reason: str) -> None:
        """The launcher ended the server unasked."""
        self._say(f"{reason}")

    def died(self, returncode: int, cause: str | None) -> None:
        """The server ended unasked; `cause` is the error that its log ends in, if any."""
        how = f"with status {returncode}" if returncode >= 0 else f"by {signal.Signals(-returncode).name}"
        why = f": {cause.rstrip('.')}; its log above says more" if cause else "; its log above says why"
        self._say(f"the server ended by itself {how}{why}")

    def changed(self, before: Start, changes: Sequence[str]) -> None:
        """What has changed since this model was last served."""
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
            then = f"no token was generated ({ready.fault}); ready only means that /health answers"
        else:
            then = "the model has no completion endpoint; ready only means that /health answers"
        self.out.say(
            f"dgx-vllm: ready after {seconds:.0f} s{token}: {ready.model} at {where}\ndgx-vllm: {then}\n"
        )

    def finish(self) -> None:
        """Gives a reader a moment for the last lines."""
        for stream in (self.out, self.err):
            stream.finish(_PATIENCE_SECONDS, _LAST_SECONDS)

    def _say(self, message: str) -> None:
        self.err.say(f"dgx-vllm: {message}\n")

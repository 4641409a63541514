"""Errors that a user can act on: one line, no traceback."""

USAGE = 2
FAILURE = 1
INTERRUPTED = 130


class UserError(Exception):
    """What is wrong and what to do about it.

    Args:
        message: one sentence naming the fault, then one naming the remedy. Line breaks are folded away.
        status: the process's exit status, 2 for wrong usage (the default), 1 for a machine that cannot serve.
    """

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(" ".join(message.split()))
        self.status = status

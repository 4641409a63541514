"""Deadline: an end to waiting for a hub that takes the connection and then says nothing, or next to nothing.

A timeout of the HTTP library is for each read alone: a byte now and then puts it off for ever.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class SilentHubError(Exception):
    """An answer that did not come whole in time."""


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns or raises, in a thread that is left to itself where it takes longer.

    Raises:
        SilentHubError: it takes longer.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise SilentHubError(f"no complete answer in {seconds:g} s")
    return results[0]

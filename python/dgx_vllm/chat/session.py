"""A conversation: what was said so far, one question after the other."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from dgx_vllm.chat.screen import Screen
from dgx_vllm.chat.sse import Piece, answer
from dgx_vllm.chat.target import Target
from dgx_vllm.util.errors import UserError
from dgx_vllm.util.messages import say

_PROMPT, _MORE = ">>> ", "... "
_LONG = '"""'
_HELP = (
    "Ctrl-C stops an answer. Ctrl-D or /bye ends the chat.",
    "/clear forgets what was said. /system TEXT says how the model should behave.",
    f"{_LONG} begins and ends a question of several lines.",
)
_ENDS = ("/bye", "/exit", "/quit")
_REASONS = {
    "length": "(the answer was cut off at the token limit)",
    "abort": "(the server stopped the answer)",
}


class Session:
    """One conversation with a server.

    Args:
        target: the server.
        screen: what it is shown on.
        system: how the model should behave, None for the model's own way.
        options: further fields of each request.
        verbose: say how many tokens an answer had, and how fast they came.
    """

    def __init__(
        self, target: Target, screen: Screen, system: str | None, options: Mapping[str, Any], verbose: bool
    ) -> None:
        self._target = target
        self._screen = screen
        self._options = options
        self._verbose = verbose
        self._messages: list[dict[str, str]] = []
        self._behave(system)

    def ask(self, question: str) -> None:
        """Asks and shows the answer. Ctrl-C stops it; what has come of it is part of the conversation.

        Raises:
            UserError: the server refuses or fails; the question is forgotten then.
        """
        self._messages.append({"role": "user", "content": question})
        answer_texts: list[str] = []
        began = time.monotonic()
        first: float | None = None
        try:
            with closing(
                answer(self._target.client, self._target.model, self._messages, self._options)
            ) as pieces:
                for piece in pieces:
                    first = first or time.monotonic()
                    self._show(piece, answer_texts, first - began, time.monotonic() - first)
        except KeyboardInterrupt:
            if not self._screen.terminal:
                raise
            self._screen.note("(stopped)")
        except UserError:
            self._screen.end()
            self._messages.pop()
            raise
        self._screen.end()
        self._messages.append({"role": "assistant", "content": "".join(answer_texts)})

    def converse(self) -> None:
        """Asks what is typed, until Ctrl-D or /bye."""
        self._screen.note(f"{self._target.model} at {self._target.where} (/help for help, Ctrl-D to end)")
        for line in _typed():
            word, _, rest = line.strip().partition(" ")
            if not word:
                continue
            if word in _ENDS:
                return
            if word == "/clear":
                self._messages = [message for message in self._messages if message["role"] == "system"]
                self._screen.note("(forgotten)")
            elif word == "/system":
                self._behave(rest or None)
                self._screen.note("(noted)" if rest else "(the model's default)")
            elif word in ("/help", "/?"):
                for message in _HELP:
                    self._screen.note(message)
            elif word.startswith("/") and word[1:].isalpha():
                self._screen.note(f"there is no {word}; /help shows what there is")
            else:
                try:
                    self.ask(line)
                except UserError as error:
                    say(str(error))

    def _behave(self, system: str | None) -> None:
        rest = [message for message in self._messages if message["role"] != "system"]
        self._messages = [*([{"role": "system", "content": system}] if system else []), *rest]

    def _show(self, piece: Piece, answer_texts: list[str], waited: float, spent: float) -> None:
        if piece.kind == "text":
            answer_texts.append(piece.text)
            self._screen.text(piece.text)
        elif piece.kind == "reasoning":
            self._screen.reasoning(piece.text)
        else:
            if piece.text in _REASONS:
                self._screen.note(_REASONS[piece.text])
            if self._verbose and piece.tokens is not None:
                # The first token's time is the question's; the others follow one by one.
                speed = (
                    f", {(piece.tokens - 1) / spent:.1f} tokens/s" if piece.tokens > 1 and spent > 0 else ""
                )
                self._screen.end()
                say(f"{piece.tokens} tokens, the first in {waited:.2f} s{speed}")


def _typed() -> Iterator[str]:
    """The questions that are typed; Ctrl-C takes back what stands on the line."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (input() edits lines by it)
    while True:
        try:
            line = input(_PROMPT)
            if line.startswith(_LONG):
                line = _several(line.removeprefix(_LONG))
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /bye ends the chat)")
            continue
        except EOFError:
            print()
            return
        yield line


def _several(line: str) -> str:
    lines = []
    while not line.rstrip().endswith(_LONG):
        lines.append(line)
        line = input(_MORE)
    return "\n".join([*lines, line.rstrip().removesuffix(_LONG)]).strip("\n")

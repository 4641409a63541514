"""What a chat shows: answers as they come, thoughts dimmed, nothing that could steer the terminal."""

import re
import sys
from collections.abc import Mapping
from typing import TextIO

# Line breaks and tabs stay; what a model writes must not move the cursor or retitle the window.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"


class Screen:
    """Writes to standard output, with styles where it is a terminal that has them.

    Args:
        environ: NO_COLOR and TERM count.
        out: where to.
    """

    def __init__(self, environ: Mapping[str, str], out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self.terminal = self._out.isatty()
        self._styled = self.terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._dimmed = False
        self._fresh = True

    def text(self, text: str) -> None:
        """A part of the answer itself."""
        if self._dimmed:
            self._undim()
            text = f"\n\n{text.lstrip()}"
        self._write(text)

    def reasoning(self, text: str) -> None:
        """A part of what the model thinks before it answers; in a pipe it is left out."""
        if not self.terminal:
            return
        if not self._dimmed:
            self._dimmed = True
            if self._styled:
                self._out.write(_DIM)
        self._write(text)

    def note(self, line: str) -> None:
        """A line of the chat's own, on a terminal alone."""
        self.end()
        if self.terminal:
            print(f"{_DIM}{line}{_PLAIN}" if self._styled else line, file=self._out, flush=True)

    def end(self) -> None:
        """Ends the line."""
        self._undim()
        if not self._fresh:
            print(file=self._out, flush=True)
            self._fresh = True

    def _undim(self) -> None:
        if self._dimmed and self._styled:
            self._out.write(_PLAIN)
        self._dimmed = False

    def _write(self, text: str) -> None:
        if self.terminal:
            text = _CONTROLS.sub("", text)
        if text:
            self._fresh = text.endswith("\n")
            self._out.write(text)
            self._out.flush()

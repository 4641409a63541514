"""The file of EnvironmentFile=, read as systemd 254 and later read it.

It is not a shell script: `export` is not a keyword, nothing is expanded, and quotes count only at the front
of a value.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from dgx_vllm.util.errors import UserError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Tabs and line breaks alone are allowed of what is not printed.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANK, _END = " \t\n\r", "\n\r"
_ESCAPED = '"\\`$'


@dataclass(frozen=True)
class EnvironmentFile:
    """What a file gives.

    Args:
        variables: by name; of one that is given twice, the last.
        ignored: the lines that systemd ignores, as they are written.
    """

    variables: dict[str, str]
    ignored: tuple[str, ...]


def path(given: str) -> tuple[Path, bool]:
    """The file that is meant, and whether it may be missing: a dash in front says so to systemd."""
    return Path(given.removeprefix("-")), given.startswith("-")


def load(given: str) -> EnvironmentFile:
    """Reads a file.

    Args:
        given: its path, with a dash in front where it may be missing.

    Raises:
        UserError: it cannot be read, or systemd would not take it.
    """
    file, optional = path(given)
    try:
        data = file.expanduser().read_bytes()
    except FileNotFoundError as error:
        if optional:
            return EnvironmentFile({}, ())
        raise UserError(f"--environment-file {given}: there is no such file") from error
    except OSError as error:
        remedy = "; run it with sudo" if isinstance(error, PermissionError) else ""
        raise UserError(f"--environment-file {given}: {error.strerror}{remedy}") from error
    try:
        return parse(data.decode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise UserError(f"--environment-file {given} is not UTF-8, which systemd rejects") from error
    except ValueError as error:
        raise UserError(f"--environment-file {given}: {error}") from error


def parse(text: str) -> EnvironmentFile:
    """What a file's text gives.

    Args:
        text: what is not UTF-8 in it, as Python's surrogateescape has it; comments may have that.

    Raises:
        UnicodeEncodeError: a variable has it too.
        ValueError: there is a byte of zero, with which systemd refuses the file.
    """
    if "\0" in text:
        raise ValueError("it has a null byte, which systemd rejects; save it as UTF-8")
    variables: dict[str, str] = {}
    ignored: list[str] = []
    for key, value in _Reader(text).entries():
        if value is not None:
            f"{key}{value}".encode()
        if value is None or not _NAME.fullmatch(key) or _CONTROL.search(value):
            ignored.append(key if value is None else f"{key}={value}")
        else:
            variables[key] = value
    return EnvironmentFile(variables, tuple(ignored))


class _Reader:
    """Goes through a text once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def entries(self) -> list[tuple[str, str | None]]:
        """Each key with its value, None for a line that has no equals sign."""
        found: list[tuple[str, str | None]] = []
        while (first := self._next()) is not None:
            if first in "#;":
                self._comment()
            elif first not in _BLANK:
                key, given = self._key(first)
                found.append((key, self._value() if given else None))
        return found

    def _next(self) -> str | None:
        if self._at == len(self._text):
            return None
        self._at += 1
        return self._text[self._at - 1]

    def _comment(self) -> None:
        """To the end of the line; before systemd 254 a backslash there made the next line one too."""
        while (char := self._next()) is not None and char not in _END:
            pass

    def _key(self, first: str) -> tuple[str, bool]:
        key = first  # whatever it is, an equals sign too
        while (char := self._next()) is not None and char not in _END:
            if char == "=":
                return key.rstrip(_BLANK), True
            key += char
        return key.rstrip(_BLANK), False

    def _value(self) -> str:
        """Quoted parts, and after them plain ones, to the end of a line that no backslash continues."""
        value = ""
        while (char := self._next()) is not None and char not in _END:
            if char == "'":
                value += self._quoted()
            elif char == '"':
                value += self._double_quoted()
            elif char not in _BLANK:
                # From here to the end of the line quotes are themselves.
                return value + self._plain(char)
        return value

    def _quoted(self) -> str:
        value = ""
        while (char := self._next()) is not None and char != "'":
            value += char
        return value

    def _double_quoted(self) -> str:
        value = ""
        while (char := self._next()) is not None and char != '"':
            if char == "\\":
                char = self._next()
                if char is None:
                    break
                value += char if char in _ESCAPED else "" if char == "\n" else "\\" + char
            else:
                value += char
        return value

    def _plain(self, first: str) -> str:
        value, kept = "", 0
        char: str | None = first
        while char is not None and char not in _END:
            if char == "\\":
                char = self._next()
                if char is None:
                    return value
                value += "" if char in _END else char
                kept = len(value)
            else:
                value += char
                if char not in _BLANK:
                    kept = len(value)
            char = self._next()
        return value[:kept]

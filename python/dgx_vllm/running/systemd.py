"""Services: the units that `install-service` and the NixOS module make, as systemd sees them."""

import itertools
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

_PATTERN = "dgx-vllm-*.service"
_PREFIX, _SUFFIX, _DOWNLOAD = "dgx-vllm-", ".service", "-download"
_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "MainPID",
    "StatusText",
    "Result",
    "NRestarts",
    "StateChangeTimestampMonotonic",
    "ExecStart",
    "Environment",
)
# A manager that hangs is as good as none.
_SECONDS = 20.0


class Told(msgspec.Struct, frozen=True):
    """What a server writes into its ready file."""

    url: str
    model: str
    pid: int
    socket: str | None = None
    server: str | None = None
    control: str | None = None


@dataclass(frozen=True)
class Unit:
    """One unit, by systemd's properties.

    Args:
        properties: their texts by name.
        user: whether it is of a user's manager.
    """

    properties: Mapping[str, str]
    user: bool

    @property
    def id(self) -> str:
        return self.properties.get("Id", "")

    @property
    def name(self) -> str:
        """The instance's, without what all units have in their names."""
        return self.id.removeprefix(_PREFIX).removesuffix(_SUFFIX)

    @property
    def is_download(self) -> bool:
        return self.name.endswith(_DOWNLOAD)

    @property
    def active(self) -> str:
        return self.properties.get("ActiveState", "")

    @property
    def sub(self) -> str:
        return self.properties.get("SubState", "")

    @property
    def status(self) -> str:
        return self.properties.get("StatusText", "")

    @property
    def result(self) -> str:
        return self.properties.get("Result", "")

    @property
    def enabled(self) -> bool:
        return self.properties.get("UnitFileState", "") in ("enabled", "enabled-runtime", "linked")

    @property
    def restarts(self) -> int:
        return self._number("NRestarts") or 0

    @property
    def pid(self) -> int | None:
        return self._number("MainPID") or None

    @property
    def age(self) -> float | None:
        """Seconds in this state, None where systemd does not know."""
        changed = self._number("StateChangeTimestampMonotonic")
        return time.clock_gettime(time.CLOCK_MONOTONIC) - changed / 1e6 if changed else None

    @property
    def command(self) -> tuple[str, ...]:
        """The words of ExecStart; those with blanks in them come in pieces, since systemd shows no quotes."""
        match = re.search(r"argv\[\]=(.*?) ; ", self.properties.get("ExecStart", ""))
        return tuple(match[1].split()) if match else ()

    @property
    def model(self) -> str | None:
        words = self.command
        at = words.index("serve") + 1 if "serve" in words else len(words)
        if self.is_download:
            return words[-1] if words else None
        return words[at] if at < len(words) and not words[at].startswith("-") else "demo" if words else None

    @property
    def speculative_config(self) -> str | None:
        """What the command says of drafts, as far as that is one word; None where it says nothing."""
        return self._option("--speculative-config")

    @property
    def url(self) -> str | None:
        """The address that the command gives, None where it is said elsewhere."""
        port = self._option("--port")
        host = self._option("--host") or "127.0.0.1"
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        return f"http://{f'[{host}]' if ':' in host else host}:{port}" if port else None

    @property
    def has_key(self) -> bool | None:
        return True if self._option("--api-key-file") else None

    @property
    def told(self) -> Told | None:
        """What the server has written once it was ready; None before, or where it cannot be read."""
        file = self._option("--ready-file")
        if not file or self.active != "active":
            return None
        try:
            return msgspec.json.decode(Path(file).read_bytes(), type=Told)
        except (OSError, msgspec.DecodeError):
            return None

    @property
    def cache(self) -> str | None:
        """Its Hugging Face cache."""
        try:
            words = shlex.split(self.properties.get("Environment", ""))
        except ValueError:
            return None
        variables = dict(word.split("=", 1) for word in words if "=" in word)
        home = variables.get("HF_HOME")
        return variables.get("HF_HUB_CACHE") or (f"{home}/hub" if home else None)

    def _option(self, name: str) -> str | None:
        words = self.command
        return next((after for word, after in itertools.pairwise(words) if word == name), None)

    def _number(self, name: str) -> int | None:
        text = self.properties.get(name, "")
        return int(text) if text.isdecimal() else None


def found(environ: Mapping[str, str]) -> list[Unit]:
    """The units of the system's manager, then those of this user's; none where no systemd answers."""
    return [unit for user in (False, True) for unit in _of(user, environ)]


def systemctl(user: bool, *words: str) -> list[str]:
    """A command for the system's manager or the user's."""
    return ["systemctl", *(["--user"] if user else []), *words]


def journalctl(user: bool, *words: str) -> list[str]:
    return ["journalctl", *(["--user"] if user else []), *words]


def _of(user: bool, environ: Mapping[str, str]) -> list[Unit]:
    # Those with a file, whether or not they are loaded, and those that are loaded, whatever they come from.
    files = _run(systemctl(user, "list-unit-files", "--no-legend", "--no-pager", _PATTERN), environ)
    loaded = _run(
        systemctl(user, "list-units", "--all", "--plain", "--no-legend", "--no-pager", _PATTERN), environ
    )
    names = {line.split()[0] for line in [*files, *loaded] if line.strip()}
    names = {name for name in names if name.startswith(_PREFIX) and name.endswith(_SUFFIX)}
    if not names:
        return []
    words = [f"--property={','.join(_PROPERTIES)}", "--no-pager", "--", *sorted(names)]
    blocks = "\n".join(_run(systemctl(user, "show", *words), environ)).split("\n\n")
    units = [
        Unit(dict(line.split("=", 1) for line in block.splitlines() if "=" in line), user) for block in blocks
    ]
    return [unit for unit in units if unit.id and unit.properties.get("LoadState") != "not-found"]


def _run(command: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """The lines that it prints, none where it fails: a machine without systemd, a container, no session."""
    program = shutil.which(command[0], path=environ.get("PATH"))
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, *command[1:]],
            env={**environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []

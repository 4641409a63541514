"""Services without systemd: a `systemctl` and a `journalctl` that answer from a file."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from faking import Systemd

from helpers.launch_fixtures import checkpoint, dgx_vllm, fake_environment, laptop, start

__all__ = ["checkpoint", "dgx_vllm", "fake_environment", "laptop", "start", "systemd"]

#: Its file is {"system": {unit: properties}, "user": {...}}; a missing manager fails as systemd's does.
_PROGRAM = """#!{python}
import json, os, sys
words, state = sys.argv[1:], json.load(open({state!r}))
user = "--user" in words
words = [word for word in words if word != "--user"]
with open({record!r}, "a") as record:
    record.write(json.dumps([os.path.basename(sys.argv[0]), user, words]) + "\\n")
units = state.get("user" if user else "system")
if units is None:
    sys.exit("System has not been booted with systemd as init system (PID 1). Can't operate.")
if sys.argv[0].endswith("journalctl"):
    print("a line of the journal")
elif words[0] in ("list-unit-files", "list-units"):
    files = words[0] == "list-unit-files"
    known = [name for name, unit in units.items() if unit.get("file", True) == files]
    for name in known:
        print(name, "enabled", "enabled")
    sys.exit(0 if known else 1)
elif words[0] == "show":
    names = words[words.index("--") + 1:]
    wanted = next(word for word in words if word.startswith("--property="))[11:].split(",")
    shown = [{{"Id": name, "LoadState": "loaded", **units[name]}} for name in names]
    blocks = [[f"{{key}}={{value}}" for key, value in unit.items() if key in wanted] for unit in shown]
    print("\\n\\n".join("\\n".join(block) for block in blocks))
elif words[0] == "stop":
    if state.get("denied"):
        sys.exit("Failed to stop: Access denied")
"""


@pytest.fixture
def systemd(environment: dict[str, str], tmp_path: Path) -> Systemd:
    """Has managers with these units; the function returns what was asked of them so far."""
    programs, state, record = tmp_path / "programs", tmp_path / "systemd.json", tmp_path / "record"
    programs.mkdir()
    for name in ("systemctl", "journalctl"):
        file = programs / name
        file.write_text(_PROGRAM.format(python=sys.executable, state=str(state), record=str(record)))
        file.chmod(0o755)
    state.write_text("{}")
    environment["PATH"] = f"{programs}:{environment['PATH']}"

    def have(**managers: Mapping[str, object]) -> list[tuple[str, bool, list[str]]]:
        if managers:
            state.write_text(json.dumps(managers))
        lines = record.read_text().splitlines() if record.exists() else []
        return [(program, user, words) for program, user, words in map(json.loads, lines)]

    return have

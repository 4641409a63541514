"""Exactly the pinned wheels, by the machine's own pip (its index, proxies and certificates)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from pinning import child
from pinning.failure import UserError, remedy
from pinning.pins import Pin

# A first small file shows within PROBE_SECONDS whether the index answers, however many addresses it has;
# a large one may keep a mirror that first fetches it itself busy for a while.
PROBE_SECONDS = 60
PROBE_PATIENCE = ("--timeout=15", "--retries=1")
PATIENCE = ("--timeout=60", "--retries=2")
_CHECK = "check the network and `pip config list`, then run this again"


def _platforms(pins: list[Pin]) -> list[str]:
    tags = {tag for pin in pins for tag in pin.file.removesuffix(".whl").rsplit("-", 1)[-1].split(".")}
    return sorted(tags - {"any"})


def _reason(said: str) -> str | None:
    """Why pip got no answer, out of the warning that it gives at each try; None where it got one."""
    broken = re.findall(r"after connection broken by '(.*)': /", said)
    if not broken:
        return None
    # The words in the repr of an exception that may hold others: the innermost has them, up to a quote.
    innermost = re.split(r">: |port=\d+\): |\('|, '", broken[-1])[-1]
    return re.split("['\"]", innermost)[0]


def download(pins: list[Pin], directory: Path, *, probe: bool = False) -> None:
    """Download `pins` into `directory`, under their own names; a `probe` takes PROBE_SECONDS at most.

    Raises UserError where the index does not answer, lacks one or serves other bytes.
    """
    requirements = directory / "requirements.txt"
    requirements.write_text(
        "".join(f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in pins)
    )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--progress-bar=off", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--implementation=cp", "--python-version=3.11", *(PROBE_PATIENCE if probe else PATIENCE)]
    command += [f"--platform={platform}" for platform in _platforms(pins)]
    command += ["--dest", str(directory), "--requirement", str(requirements)]
    # Ended by a signal pip leaves its own temporary files, which must go with `directory`. A machine's demand
    # for a virtual environment means installing, which this is not.
    scratch = directory / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_REQUIRE_VIRTUALENV": "0"}
    try:
        done = child.run(command, environment=environment, seconds=PROBE_SECONDS if probe else None)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"pip's index does not answer: no {pins[0].file} within {PROBE_SECONDS} s; {_CHECK}"
        ) from error
    if done.returncode:
        raise UserError(_failure(pins, done.stderr))


def _failure(pins: list[Pin], said: str) -> str:
    """In one line, what pip's words mean and what to do."""
    if "No module named pip" in said:
        return f"{sys.executable} has no pip: apt-get install python3-pip, then run this again"
    if "DO NOT MATCH THE HASHES" in said:
        return (
            f"{_named(pins, said)}: the bytes of pip's index do not match the pinned SHA-256: restore "
            "nix/pins with git, or use another mirror of the index"
        )
    reason = _reason(said)
    if reason:
        return f"pip's index does not answer ({reason}); {_CHECK}"
    if "not a trusted or secure host" in said:
        return f"pip leaves out its index, which is not served over HTTPS: add it to trusted-host; {_CHECK}"
    if "No matching distribution" in said:
        return f"{_named(pins, said)}: pip's index does not have it: use another index; {_CHECK}"
    lines = said.strip().splitlines() or ["no reason given"]
    # A traceback's words are its last line.
    line = next((line for line in lines if re.match("ERROR: (?!Exception)", line)), lines[-1])
    return f"pip could not download {_named(pins, said)}: {line.removeprefix('ERROR: ')}; {remedy(said)}"


def _named(pins: list[Pin], said: str) -> str:
    """The file that pip's words are about, as far as they tell."""
    for pin in pins:
        if pin.sha256 in said or f"for {pin.name}=={pin.version}" in said:
            return pin.file
    return f"{pins[0].file} and others" if pins[1:] else pins[0].file

"""`nix` where package registries are the only network: fetch what the command line needs, then run it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from pinning import apt, child, fetch, lock_message, plan, progress, store
from pinning.failure import UserError, exit_with
from pinning.pins import Pin, Seed, read

NIX = Path(__file__).resolve().parent.parent
FLAKE = NIX.parent


def _say(text: str) -> None:
    sys.stderr.write(f"offline: {text}\n")


def _options(seed: Seed) -> list[str]:
    """Settings for every nix command: hermetic whatever the machine's nix.conf says."""
    settings = {
        "experimental-features": "nix-command flakes",
        "sandbox": "true",
        # Better no build than one that has seen the machine.
        "sandbox-fallback": "false",
        "substitute": "false",
        "max-jobs": str(os.cpu_count() or 1),
        "warn-dirty": "false",
        # Debian's Nix has no /bin/sh in its sandbox; nixpkgs' own has a busybox there.
        "sandbox-paths": f"/bin/sh={seed.store_path}/bin/busybox",
    }
    return [word for key, value in settings.items() for word in ("--option", key, value)]


def _check_sandbox() -> None:
    done = child.run(["unshare", "--user", "--mount", "--pid", "--net", "--fork", "true"])
    if done.returncode:
        raise UserError(
            f"this machine refuses the namespaces that Nix's sandbox needs ({done.stderr.strip()}): run this "
            "as root, allow them (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, on "
            "Ubuntu kernel.apparmor_restrict_unprivileged_userns), or leave the container"
        )


def _check_place() -> None:
    """Nix reads a checkout's path as a URL."""
    if re.search(r"[\s#?%]", str(FLAKE)):
        raise UserError(
            f"nix cannot name {FLAKE}: move the checkout to a path without blanks, #, ? and percent signs"
        )


def _check_owner() -> None:
    """git, which nix asks for the tree, refuses one of another user."""
    if not (FLAKE / ".git").exists():
        return
    # In English, whatever the caller's language.
    english = {**os.environ, "LC_ALL": "C"}
    done = child.run(["git", "-C", str(FLAKE), "rev-parse", "--git-dir"], environment=english)
    if done.returncode and "dubious ownership" in done.stderr:
        raise UserError(
            f"{FLAKE} belongs to another user, and git refuses to read it: "
            f"git config --global --add safe.directory {FLAKE}"
        )


def _required(
    options: list[str], override: list[str], request: plan.Request, system: str
) -> tuple[list[Pin], list[Seed]]:
    """The pinned files that nix would have to fetch for `request`, and the seeds."""
    pins = read(NIX / "pins")
    drvs = plan.derivations(["nix", *options], override, str(FLAKE), request, system)
    building = plan.unbuilt(options, drvs)
    files = [pin for pin in pins.files if pin.store_path in building]
    # The sandbox itself needs this machine's.
    seeds = [seed for seed in pins.seeds if seed.store_path in building or seed.system == system]
    lacking = store.missing([*(pin.store_path for pin in files), *(seed.store_path for seed in seeds)])
    return (
        [pin for pin in files if pin.store_path in lacking],
        [seed for seed in seeds if seed.store_path in lacking],
    )


def _fetch(pins: list[Pin], seeds: list[Seed]) -> None:
    """Say what is fetched from where, and fetch it."""
    codename = json.loads((NIX / "pins/debian.json").read_text())["suite"]
    files = [*pins, *(seed.package for seed in seeds)]
    registries = []
    if any(pin.kind == "debian" for pin in files):
        found = apt.sources(codename, security=False)
        registries.append(f"{' and '.join(source.shown for source in found)} by apt")
    if any(pin.kind == "pypi" for pin in files):
        registries.append("the index of pip")
    noun = "1 pinned file" if len(files) == 1 else f"{len(files)} pinned files"
    size = progress.amount(sum(pin.size for pin in files))
    _say(f"fetching {noun}, {size}, from {' and '.join(registries)}")
    fetch.fetch(pins, seeds, codename)


def main(arguments: list[str]) -> int:
    """Become nix with these arguments. Raises UserError where it cannot come to that."""
    machine = os.uname().machine
    system = f"{machine}-linux"
    own_seed = next((seed for seed in read(NIX / "pins").seeds if seed.system == system), None)
    if own_seed is None:
        raise UserError(f"there are no pins for {machine}: x86_64 and aarch64 are supported")
    _check_place()
    _check_sandbox()
    options = _options(own_seed)
    override = ["--override-input", "nixpkgs", f"path:{NIX / 'offline/nixpkgs'}"]
    request = plan.parse(arguments)
    if request.command == "profile":
        raise UserError(
            "`nix profile` cannot use the stand-in for nixpkgs; `sh nix/offline.sh build .` leaves the "
            "command in ./result/bin"
        )
    _check_owner()
    if request.command in plan.FLAKE_COMMANDS:
        if request.builds:
            pins, seeds = _required(options, override, request, system)
            if pins or seeds:
                _fetch(pins, seeds)
        head = len(request.command.split())
        arguments = [*arguments[:head], *override, *arguments[head:]]
        # A shell that somebody types into keeps its terminal.
        if request.command not in ("develop", "shell"):
            lock_message.hide()
    sys.stdout.flush()
    os.execvp("nix", ["nix", *options, *arguments])


if __name__ == "__main__":
    exit_with(main)

"""`nix` on a machine whose only network is its package registries: fetch what the command line needs, then
run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pinning import fetch, plan, store
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
    done = subprocess.run(
        ["unshare", "--user", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(
            f"this machine refuses the namespaces that Nix's sandbox is made of ({done.stderr.strip()}): "
            "allow them (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone), or leave the"
            " container"
        )


def _required(
    options: list[str], override: list[str], request: plan.Request, system: str
) -> tuple[list[Pin], list[Seed]]:
    pins = read(NIX / "pins")
    drvs = plan.unbuilt(options, plan.derivations(["nix", *options], override, str(FLAKE), request, system))
    names = {drv.partition("-")[2].removesuffix(".drv") for drv in drvs}
    files = [pin for pin in pins.files if pin.store_name in names]
    # nix sees the seed of either system under one name; the sandbox itself needs this machine's.
    seeds = [seed for seed in pins.seeds if seed.store_name in names or seed.system == system]
    lacking = store.missing([item.store_path for item in [*files, *seeds]])
    return [pin for pin in files if pin.store_path in lacking], [
        seed for seed in seeds if seed.store_path in lacking
    ]


def main(arguments: list[str]) -> int:
    if not arguments:
        raise UserError("what should nix do? For example: sh nix/offline.sh run .#serve")
    machine = os.uname().machine
    system = f"{machine}-linux"
    own_seed = next((seed for seed in read(NIX / "pins").seeds if seed.system == system), None)
    if own_seed is None:
        raise UserError(f"there are no pins for {machine}: x86_64 and aarch64 are supported")
    _check_sandbox()
    options = _options(own_seed)
    override = ["--override-input", "nixpkgs", f"path:{NIX / 'offline/nixpkgs'}"]
    request = plan.parse(arguments)
    if request.command in plan.FLAKE_COMMANDS:
        head = 2 if arguments[0] == "flake" else 1
        pins, seeds = _required(options, override, request, system)
        if pins or seeds:
            codename = json.loads((NIX / "pins/debian.json").read_text())["suite"]
            _say(f"fetching {len(pins) + len(seeds)} pinned files from the machine's own registries")
            fetch.fetch(pins, seeds, codename)
        arguments = [*arguments[:head], *override, *arguments[head:]]
    sys.stdout.flush()
    os.execvp(shutil.which("nix") or "nix", ["nix", *options, *arguments])


if __name__ == "__main__":
    exit_with(main)

"""Which pinned files a nix command line needs and the store lacks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pinning import child, store
from pinning.failure import UserError

_INSTALLABLE_COMMANDS = {"build", "run", "shell", "develop", "path-info", "print-dev-env", "bundle", "copy"}
# What else reads the flake, and so wants the stand-in for nixpkgs.
FLAKE_COMMANDS = _INSTALLABLE_COMMANDS | {
    "eval",
    "fmt",
    "search",
    "flake check",
    "flake show",
    "flake metadata",
    "flake archive",
}
# Options of nix that take values, how many each; an installable stands behind them.
_OPTION_ARGUMENTS = {
    "--option": 2,
    "--override-input": 2,
    "--arg": 2,
    "--argstr": 2,
    "--out-link": 1,
    "-o": 1,
    "--command": 1,
    "-c": 1,
    "--max-jobs": 1,
    "-j": 1,
    "--cores": 1,
    "--log-format": 1,
    "--profile": 1,
    "--include": 1,
    "-I": 1,
    "--to": 1,
}


@dataclass(frozen=True)
class Request:
    """What a nix command line asks of this flake: its subcommand, the attributes named, whether it builds."""

    command: str
    attributes: tuple[str, ...]
    builds: bool = True


def parse(arguments: list[str]) -> Request:
    """Read `nix`'s own arguments (without `nix`)."""
    words: list[str] = []
    builds = True
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("--", "--command", "-c"):
            break
        if word.startswith("-"):
            # Behind `run .#serve` it is the app's.
            builds = builds and (word not in ("--dry-run", "--no-build") or words[:1] == ["run"])
            del rest[: _OPTION_ARGUMENTS.get(word, 0)]
            continue
        words.append(word)
    if not words:
        return Request("", ())
    if words[0] == "fmt":
        return Request("fmt", (), builds)
    if words[0] == "flake":
        return Request(" ".join(words[:2]), (), builds)
    installables = words[1:2] if words[0] == "run" else words[1:]
    named = tuple(word.partition("#")[2] or "default" for word in installables)
    return Request(words[0], named or ("default",), builds)


def _candidates(request: Request, system: str) -> list[list[str]]:
    """For each attribute asked for, where nix looks it up in this flake, first match first."""
    if request.command == "flake check":
        return [[f"checks.{system}"]]
    if request.command == "fmt":
        return [[f"formatter.{system}"]]
    if request.command not in _INSTALLABLE_COMMANDS:
        return []
    rooms = {
        "run": ["apps", "packages"],
        "develop": ["devShells", "packages"],
        "print-dev-env": ["devShells", "packages"],
    }
    prefixes = [f"{room}.{system}." for room in rooms.get(request.command, ["packages"])]
    return [[f"{prefix}{attribute}" for prefix in [*prefixes, ""]] for attribute in request.attributes]


# Everything that a value would make nix build: an app's program, a derivation, or a set of derivations.
_DERIVATIONS = """
value:
  let
    context = text: builtins.attrNames (builtins.getContext text);
    of = v:
      if v ? program then context v.program
      else if (v.type or "") == "derivation" then [ v.drvPath ]
      else builtins.concatLists (map of (builtins.attrValues v));
  in of value
"""


def derivations(nix: list[str], override: list[str], flake: str, request: Request, system: str) -> list[str]:
    """The derivations that nix would build for `request`. Raises UserError where one does not evaluate."""
    found: list[str] = []
    for candidates in _candidates(request, system):
        for attribute in candidates:
            command = [*nix, "eval", *override, "--json", f"{flake}#{attribute}", "--apply", _DERIVATIONS]
            done = child.run(command)
            if not done.returncode:
                found += json.loads(done.stdout)
                break
            if "does not provide attribute" not in done.stderr:
                raise UserError(done.stderr.strip().removeprefix("error: "))
        else:
            raise UserError(
                f"this flake has no {candidates[0]}: `sh nix/offline.sh flake show` lists what it has"
            )
    return found


def unbuilt(nix_options: list[str], drvs: list[str]) -> set[str]:
    """The outputs of the derivations below `drvs`, themselves and fixed ones included, that would be built.

    Raises UserError with nix's words where it cannot say.
    """
    if not drvs:
        return set()
    done = child.run(["nix-store", "--realise", "--dry-run", *nix_options, *drvs])
    if done.returncode:
        raise UserError(done.stderr.strip().removeprefix("error: "))
    building = re.findall(r"^\s+(/nix/store/\S+\.drv)$", done.stderr, re.MULTILINE)
    return store.outputs(building)

"""Units: a pure function from an instance to what systemd is told. nix/service/units.nix is its twin."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from dgx_vllm.service import passed_options
from dgx_vllm.service.instance import Instance, in_a_home

Section = dict[str, Any]
"""Directives by name; a list stands for the same directive more than once."""

#: Beyond the launcher's own watchdog, which says what was wrong; systemd's is for a launcher that is stuck.
_WATCHDOG_MARGIN = 60
#: A path in a home: alone, after `--flag=` or `name=`, or in JSON; systemd's list has no place for blanks and
#: colons.
_IN_A_WORD = re.compile("(?:[^/=]+=)?(/(?:home|root|run/user)/[^ \t\n:]+)")
_IN_JSON = re.compile('"(/(?:home|root|run/user)/[^" \t\n:]+)"')
_ONLINE = "network-online.target"


@dataclass(frozen=True)
class Unit:
    """One unit.

    Args:
        unit: the section [Unit].
        service: the section [Service], without its variables.
        environment: the variables, with systemd's specifiers.
    """

    unit: Section
    service: Section
    environment: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def _fixed() -> dict[str, Any]:
    return msgspec.toml.decode((Path(__file__).parent / "units.toml").read_bytes())


def units(instance: Instance, of_a_user: bool = False) -> dict[str, Unit]:
    """The units of an instance by name: the server's and, where it downloads, the download's.

    Args:
        instance: the settings.
        of_a_user: for the service manager of a user, which has fewer rights to give away.
    """
    fixed = _fixed()
    shared = {
        **fixed["sandbox"],
        **_identity(instance),
        **_directories(instance),
        **_some("EnvironmentFile", [instance.environment_file] if instance.environment_file else []),
    }
    download = f"{instance.unit}-download.service"
    watchdog = instance.options.watchdog
    credentials = [f"{name}:{file}" for name, file in passed_options.credentials(instance.options).items()]
    server = Unit(
        {
            "Description": f"vLLM serving {_literal(instance.model or 'the demo')}",
            # Of two that cannot run at once the one that stops is waited for. One of them says so: both would
            # be a circle.
            "After": [
                _ONLINE,
                *([download] if instance.download else []),
                *(_server(other) for other in instance.conflicts if other < instance.name),
            ],
            "Wants": [_ONLINE],
            **({"Requires": [download]} if instance.download else {}),
            **_some("Conflicts", [_server(other) for other in instance.conflicts]),
            **fixed["server"]["unit"],
        },
        {
            **fixed["server"]["service"],
            **shared,
            "ExecStart": _serve(instance),
            "RuntimeDirectory": instance.unit,
            **({"WatchdogSec": int(watchdog) + _WATCHDOG_MARGIN} if watchdog else {}),
            **_some("LoadCredential", [*credentials, *_token(instance)]),
            **_models(instance),
        },
        {
            **_variables(instance),
            # The download has been here: a server that asks the hub again would only wait for the network.
            **({"HF_HUB_OFFLINE": "1"} if instance.offline else {}),
            **{name: _literal(text) for name, text in instance.environment.items()},
        },
    )
    found = {_server(instance.name): server}
    if instance.download:
        found[download] = Unit(
            {
                "Description": f"download of {_literal(instance.model or '')}",
                "After": [_ONLINE],
                "Wants": [_ONLINE],
                **fixed["download"]["unit"],
            },
            {
                **fixed["download"]["service"],
                **shared,
                "ExecStart": _words([*_download(instance), instance.model or ""]),
                **_some("LoadCredential", _token(instance)),
            },
            _variables(instance),
        )
    return {name: _for_a_user(unit, fixed) for name, unit in found.items()} if of_a_user else found


def _identity(instance: Instance) -> Section:
    if instance.user is None:
        # One name for all instances: they share the models that they download.
        return {"DynamicUser": True, "User": "dgx-vllm", "Group": "dgx-vllm"}
    return {"User": instance.user, **({"Group": instance.group} if instance.group else {})}


def _directories(instance: Instance) -> Section:
    given = [path for path in (instance.cache_dir, instance.state_dir) if path]
    found: Section = {"ProtectHome": "tmpfs"}
    if not instance.cache_dir:
        found["CacheDirectory"] = "dgx-vllm"
    if not instance.state_dir:
        found["StateDirectory"] = instance.unit
    # What Triton and torch.compile make there is loaded, and a DynamicUser's directories are noexec.
    found["ExecPaths"] = [instance.cache_dir or "%C/dgx-vllm", instance.state_dir or f"%S/{instance.unit}"]
    found |= _some("ReadWritePaths", [path for path in given if not in_a_home(path)])
    found |= _some("BindPaths", [path for path in given if in_a_home(path)])
    return found


def _models(instance: Instance) -> Section:
    """What the command line names in somebody's home is shown to the server, and nothing else of the home."""
    profiles, others = passed_options.paths(instance.options)
    paths = [instance.model, *profiles, instance.settings_file, *others]
    words = shown_words(instance.extra_args)
    # A word may mean something else than it looks like, or what is still to be made: `-` lets it be missing.
    shown = [_literal(path) for path in paths if path and in_a_home(path)]
    shown += [f"-{_literal(word)}" for word in words]
    return _some("BindReadOnlyPaths", shown)


def shown_words(words: Sequence[str]) -> list[str]:
    """The paths in homes that words of a command line name."""
    found: list[str] = []
    for word in words:
        alone = _IN_A_WORD.fullmatch(word)
        found += [alone[1]] if alone else _IN_JSON.findall(word)
    return found


def _variables(instance: Instance) -> dict[str, str]:
    cache = instance.cache_dir or "%C/dgx-vllm"
    found = {
        "HOME": instance.state_dir or f"%S/{instance.unit}",
        "HF_HOME": f"{cache}/huggingface",
        "XDG_CACHE_HOME": cache,
        "TRITON_HOME": cache,
        "FLASHINFER_WORKSPACE_BASE": cache,
    }
    return found | ({"HF_TOKEN_PATH": "%d/hf-token"} if instance.hf_token_file else {})


def _token(instance: Instance) -> list[str]:
    return [f"hf-token:{instance.hf_token_file}"] if instance.hf_token_file else []


def _serve(instance: Instance) -> str:
    words = [instance.command, "serve", *([instance.model] if instance.model else [])]
    # Only what was given: a flag would overrule the settings file and the environment.
    words += ["--host", instance.host] if instance.host is not None else []
    words += ["--port", str(instance.port)] if instance.port is not None else []
    words += ["--revision", instance.revision] if instance.revision else []
    profile, others = passed_options.instance_words(instance.options)
    words += profile
    words += ["--config", instance.settings_file] if instance.settings_file else []
    words += others
    if instance.mtp is not None:
        words += _mtp(instance.mtp)
    secrets = [
        word
        for name in passed_options.credentials(instance.options)
        for word in (f"--{name}-file", f"%d/{name}")
    ]
    ready = ["--ready-file", f"%t/{instance.unit}/ready.json"]
    return " ".join(
        [_words(words), *secrets, *ready, *([_words(instance.extra_args)] * bool(instance.extra_args))]
    )


def _download(instance: Instance) -> list[str]:
    words = [instance.command, "download", "--if-missing"]
    return [*words, *(["--revision", instance.revision] if instance.revision else []), *instance.reading]


def _mtp(drafts: int) -> list[str]:
    return [
        "--speculative-config",
        json.dumps({"method": "mtp", "num_speculative_tokens": drafts}, separators=(",", ":")),
    ]


def _words(words: Sequence[str]) -> str:
    """Words of a command line as systemd.service(5) reads them, each in quotes."""
    return " ".join(json.dumps(_literal(word).replace("$", "$$"), ensure_ascii=False) for word in words)


def _server(name: str) -> str:
    return f"dgx-vllm-{name}.service"


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _some(name: str, entries: list[str]) -> Section:
    return {name: entries} if entries else {}


def _for_a_user(unit: Unit, fixed: Mapping[str, Any]) -> Unit:
    without = {*fixed["without"]["user"], "DynamicUser", "User", "Group", "ProtectHome", "ExecPaths"}
    without |= {"BindReadOnlyPaths", "BindPaths", "ReadWritePaths"}
    # A user's manager has no network-online.target; the session comes after it.
    after = [each for each in unit.unit["After"] if each != _ONLINE]
    return Unit(
        {
            **{name: value for name, value in unit.unit.items() if name not in ("After", "Wants")},
            **_some("After", after),
        },
        {name: value for name, value in unit.service.items() if name not in without},
        unit.environment,
    )


def render(unit: Unit, wanted_by: str | None) -> str:
    """The text of a unit file.

    Args:
        unit: the unit.
        wanted_by: the target that starts it, None for a unit that others pull in.
    """
    environment = [
        json.dumps(f"{name}={value}", ensure_ascii=False) for name, value in unit.environment.items()
    ]
    sections: dict[str, Section] = {
        "Unit": unit.unit,
        "Service": {**unit.service, **_some("Environment", environment)},
    }
    if wanted_by:
        sections["Install"] = {"WantedBy": [wanted_by]}
    return "\n".join(f"[{name}]\n{_lines(section)}" for name, section in sections.items())


def _lines(section: Section) -> str:
    lines = []
    for name, value in section.items():
        entries = value if isinstance(value, list) else [value]
        lines += [f"{name}={str(each).lower() if isinstance(each, bool) else each}" for each in entries]
    return "".join(f"{line}\n" for line in lines)

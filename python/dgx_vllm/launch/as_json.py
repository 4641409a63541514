"""What `serve --dry-run --json` and `profiles --json` print, for programs."""

from collections.abc import Iterable
from typing import Any

import msgspec

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.report import fits_machine
from dgx_vllm.launch.settings.ranking import Overruled, Setting, Source
from dgx_vllm.launch.settings.secret import SECRET_FLAGS
from dgx_vllm.profiles.profile import Profile


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A setting.

    Args:
        name: a vLLM flag's name without dashes.
        value: as vLLM's parser takes it: a switch, a text, several, or an object; null where it is a secret.
        source: `flag`, `config file`, `extra args`, `environment`, `profile` or `default`.
        origin: the place in words, such as `--port` or `profile demo`.
    """

    name: str
    value: Any
    source: str
    origin: str


class Unused(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that was given and does not count.

    Args:
        setting: which.
        winner: the one that counts in its place.
        because: why.
    """

    setting: Given
    winner: Given
    because: str


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A variable that is set for vLLM; null for one that is taken away.

    Args:
        name: its name.
        value: its value, or null.
        why: the reason.
    """

    name: str
    value: str | None
    why: str


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What `serve` would do.

    Args:
        schema: 1; a field that changes its meaning changes this number.
        command: one line for a shell that runs the same; secrets are named in it, not shown.
        model: what vLLM loads, a directory or a Hugging Face id.
        profile: the name of the profile that is applied, or null.
        settings: those that count, by name.
        unused: those that were given and do not count.
        variables: how vLLM's environment differs from this one.
        notes: what else there is to know.
        refusal: why this machine would refuse to start it now, or null.
    """

    schema: int
    command: str
    model: str
    profile: str | None
    settings: dict[str, Given]
    unused: list[Unused]
    variables: list[Variable]
    notes: tuple[str, ...]
    refusal: str | None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A profile.

    Args:
        name: what `serve` takes.
        model: its Hugging Face id.
        summary: one line.
        memory_gib: what serving takes of the device's memory, in GiB.
        download_gib: what a first start downloads, in GiB.
        fits: whether this machine has that memory, and a GPU where it takes one; null where vLLM is missing.
        dense_dtype: what `--dense-dtype` is where it is not given.
        flags: the vLLM flags that it sets on this machine, by name without dashes.
        environment: the variables that it sets on this machine.
    """

    name: str
    model: str
    summary: str
    memory_gib: float
    download_gib: float
    fits: bool | None
    dense_dtype: str
    flags: dict[str, Any]
    environment: dict[str, str]


def dry_run(launch: Launch) -> None:
    """Prints a `DryRun`."""
    _print(
        DryRun(
            schema=1,
            command=launch.command_line(),
            model=launch.model,
            profile=launch.profile.name if launch.profile else None,
            settings={name: _setting(setting) for name, setting in sorted(launch.settings.items())},
            unused=[_unused(item) for item in launch.overruled if item.loser.source is not Source.DEFAULT],
            variables=[Variable(name=item.name, value=item.value, why=item.why) for item in launch.variables],
            notes=launch.notes,
            refusal=launch.refusal,
        )
    )


def profiles(known: Iterable[Profile], machine: Machine | None) -> None:
    """Prints an array of `Listed`."""
    platform = machine.platform if machine else "cuda"
    _print(
        [
            Listed(
                name=profile.name,
                model=profile.model,
                summary=profile.summary,
                memory_gib=profile.memory_gib,
                download_gib=profile.download_gib,
                fits=None if machine is None else fits_machine(profile, machine),
                dense_dtype=profile.dense_dtype,
                flags=profile.values(platform),
                environment=profile.variables(platform),
            )
            for profile in known
        ]
    )


def _setting(setting: Setting) -> Given:
    value = None if setting.name in SECRET_FLAGS else setting.value
    return Given(name=setting.name, value=value, source=str(setting.source), origin=setting.origin)


def _unused(overruled: Overruled) -> Unused:
    return Unused(setting=_setting(overruled.loser), winner=_setting(overruled.winner), because=overruled.why)


def _print(document: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())

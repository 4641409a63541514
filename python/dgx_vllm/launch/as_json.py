"""What `serve --dry-run --json` and `profiles --json` print, for programs."""

from collections.abc import Iterable
from typing import Any

import msgspec

from dgx_vllm.host.machine import Platform
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings.ranking import Overruled, Setting, Source
from dgx_vllm.launch.settings.secret import SECRET_FLAGS
from dgx_vllm.plan.profile_fit import ProfileFit


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
        weights: bytes of weights, those of drafts included; null where they are not known.
        fits: whether it fits the memory with one sequence of `context` tokens, and a GPU is there where it
            takes one; null where that is not known.
        context: tokens that one sequence may have: the profile's max-model-len, or what memory allows.
        sequences: how many sequences of that length fit at once, at most the profile's max-num-seqs.
        tokens_per_second: of one sequence with the profile's drafts, predicted for a GB10, not measured.
        dense_dtype: what `--dense-dtype` is where it is not given.
        flags: the vLLM flags that it sets on this machine, by name without dashes.
        environment: the variables that it sets on this machine.
    """

    name: str
    model: str
    summary: str
    weights: int | None
    fits: bool | None
    context: int | None
    sequences: int | None
    tokens_per_second: float | None
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


def profiles(fits: Iterable[ProfileFit], platform: Platform) -> None:
    """Prints an array of `Listed`."""
    _print(
        [
            Listed(
                name=fit.profile.name,
                model=fit.profile.model,
                summary=fit.profile.summary,
                weights=fit.weights,
                fits=fit.fits,
                context=fit.context,
                sequences=fit.sequences,
                tokens_per_second=None if fit.tokens_per_second is None else round(fit.tokens_per_second, 1),
                dense_dtype=fit.profile.dense_dtype,
                flags=fit.profile.values(platform),
                environment=fit.profile.variables(platform),
            )
            for fit in fits
        ]
    )


def _setting(setting: Setting) -> Given:
    value = None if setting.name in SECRET_FLAGS else setting.value
    return Given(name=setting.name, value=value, source=str(setting.source), origin=setting.origin)


def _unused(overruled: Overruled) -> Unused:
    return Unused(setting=_setting(overruled.loser), winner=_setting(overruled.winner), because=overruled.why)


def _print(document: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())

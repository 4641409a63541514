"""Ranking: of all the places that give a setting, which one counts."""

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Value, Values, overlay


class Source(enum.IntEnum):
    """Where a value comes from; the higher one wins."""

    DEFAULT = 0
    PROFILE = 1
    ENVIRONMENT = 2
    EXTRA_ARGS = 3
    CONFIG_FILE = 4
    FLAG = 5

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Setting:
    """One value and where it was given.

    Args:
        name: a vLLM flag's name without dashes.
        value: see `flags.Value`.
        source: the rank of the place.
        origin: the place in the user's words: `--port`, `PORT`, `profile demo`.
    """

    name: str
    value: Value
    source: Source
    origin: str

    @property
    def text(self) -> str:
        """The value as one would type it."""
        if isinstance(self.value, bool):
            return "on" if self.value else "off"
        if isinstance(self.value, dict):
            return json.dumps(self.value)
        return self.value if isinstance(self.value, str) else " ".join(self.value)

    @property
    def words(self) -> list[str]:
        """The words of vLLM's command line that give it."""
        return flags.load().require(self.name, self.origin).words(self.value)


Layer = dict[str, Setting]
"""The settings of one place, by name."""


@dataclass(frozen=True)
class Overruled:
    """A value that was given and is not used."""

    loser: Setting
    winner: Setting
    why: str


def layer(values: Values, source: Source, origin: str = "") -> Layer:
    """Settings from values that share a place; without an origin each is named by its flag."""
    return {name: Setting(name, value, source, origin or f"--{name}") for name, value in values.items()}


def rank(layers: Sequence[Layer]) -> tuple[Layer, list[Overruled]]:
    """For each name the setting of the highest source, and what it overruled.

    Fields of a JSON flag given one by one are laid over the whole value below them, so that
    `--speculative-config.num_speculative_tokens 3` changes a profile's drafts and keeps its method. A
    file's are not: vLLM sees nothing but the file's own.

    Raises:
        UserError: a file gives single fields of a flag that is given above it too; vLLM takes the file's.
    """
    winners: Layer = {}
    overruled: list[Overruled] = []
    for setting in sorted((s for pair in layers for s in pair.values()), key=lambda s: s.source):
        below = winners.get(setting.name)
        above = setting
        if below is not None:
            base = _fields(below.value)
            if below.source is Source.CONFIG_FILE and isinstance(below.value, dict):
                raise UserError(
                    f"{setting.origin} would lose to the fields of {below.name} in {below.origin}, which "
                    f"vLLM reads last; write them there as `{below.name}: {json.dumps(below.value)}`"
                )
            if (
                isinstance(setting.value, dict)
                and base is not None
                and setting.source is not Source.CONFIG_FILE
            ):
                above = replace(
                    setting,
                    value=overlay(base, setting.value),
                    origin=f"{setting.origin} over {below.origin}",
                )
            elif below.value != setting.value:
                overruled.append(Overruled(below, setting, ""))
        winners[setting.name] = above
    # A setting may have been overruled by one that was itself overruled: name the one that counts.
    return winners, [_explained(pair.loser, winners[pair.loser.name]) for pair in overruled]


def without_unset(winners: Layer, overruled: Sequence[Overruled]) -> Layer:
    """The settings but those by which vLLM takes its own default, such as `--tokenizer None`.

    Raises:
        UserError: one of them is to take back what a file gives, which vLLM reads itself; or it is the host,
            without which vLLM listens on every interface.
    """
    table = flags.load()
    unset = set[str]()
    for name, setting in winners.items():
        flag = table.require(name, setting.origin)
        if flag.unset(setting.value) and not flag.null_is_a_value:
            unset.add(name)
    if "host" in unset:
        raise UserError(
            f"{winners['host'].origin} gives no host, and vLLM would listen on every interface; "
            "give 0.0.0.0 for that, or leave it out for 127.0.0.1"
        )
    for pair in overruled:
        if pair.loser.name in unset and pair.loser.source is Source.CONFIG_FILE:
            raise UserError(
                f"{pair.winner.origin} cannot take back {pair.loser.name} from {pair.loser.origin}; "
                "delete it there"
            )
    return {name: setting for name, setting in winners.items() if name not in unset}


def _explained(loser: Setting, winner: Setting) -> Overruled:
    return Overruled(loser, winner, f"{winner.source} ranks above {loser.source}")


def _fields(value: Value) -> dict[str, Any] | None:
    """A fresh copy of a JSON object's fields, or None where the value is none."""
    if isinstance(value, dict):
        return json.loads(json.dumps(value))
    if isinstance(value, str) and value.startswith("{"):
        try:
            fields = json.loads(value)
        except ValueError:  # a text that begins like an object, such as a template
            return None
        return fields if isinstance(fields, dict) else None
    return None

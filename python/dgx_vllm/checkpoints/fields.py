"""Fields: a config.json's values, asked for by name; a missing or wrong one is the user's to mend."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dgx_vllm.util.errors import UserError


@dataclass(frozen=True)
class Fields:
    """The text model's part of a config.json.

    Args:
        model: what the user called the model, for messages.
        values: the fields.
    """

    model: str
    values: Mapping[str, Any]

    def whole(self, *names: str, default: int | None = None) -> int:
        """A count, by the first of `names` that is there.

        Raises:
            UserError: none is there and there is no default, or the value is not a whole number from 0 on.
        """
        value = self._first(names)
        if value is None:
            if default is None:
                raise self.lacks(*names)
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UserError(
                f"{self.model}: config.json has {names[0]} = {value!r}, which is not a count; fetch the "
                "checkpoint's config.json again"
            )
        return value

    def found(self, *names: str) -> int | None:
        """A size, by the first of `names` that is there; None where there is none, or it is not a size."""
        value = self._first(names)
        if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
            value = max(value)  # one for each layer
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    def positive(self, *names: str, default: int | None = None) -> int:
        """As `whole`, and at least 1: what sizes are."""
        count = self.whole(*names, default=default)
        if count == 0:
            raise UserError(
                f"{self.model}: config.json has {names[0]} = 0, and a size is at least 1; "
                "fetch the checkpoint's config.json again"
            )
        return count

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.values.get(name)
        return default if value is None else bool(value)

    def text(self, *names: str, default: str = "") -> str:
        value = self._first(names)
        return value if isinstance(value, str) else default

    def words(self, name: str) -> list[str] | None:
        """A list of strings, None where it is missing."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise UserError(f"{self.model}: config.json has a {name} that is not a list of names")
        return value

    def numbers(self, name: str) -> list[int]:
        """A list of whole numbers, empty where it is missing."""
        value = self.values.get(name)
        return [item for item in value if isinstance(item, int)] if isinstance(value, list) else []

    def _first(self, names: tuple[str, ...]) -> Any:
        return next((self.values[name] for name in names if self.values.get(name) is not None), None)

    def lacks(self, *names: str) -> UserError:
        """The error for a field that none of `names` gives."""
        return UserError(
            f"{self.model}: config.json lacks {' or '.join(names)}, which planning needs; "
            "give the directory or file of a complete config.json"
        )


# Where configs hold their language model, outermost first. transformers' get_text_config knows text_config,
# decoder, generator and text_encoder; vLLM renames llm_config; models of vLLM read the others themselves.
_TEXT_PARTS = (
    *("text_config", "llm_config", "thinker_config", "language_config", "language_model_config"),
    *("lm_config", "vlm_config", "decoder", "generator", "text_encoder"),
)


def language_parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A config, and in it the part that describes the language model, outermost first.

    A multimodal config holds that part under one of several names, which may be nested. The last one in the
    list is the language model's own; where there is none, it is the config.
    """
    parts = [config]
    while True:
        inner = (parts[-1].get(name) for name in _TEXT_PARTS)
        part = next((part for part in inner if isinstance(part, Mapping) and part), None)
        if part is None:
            return parts
        parts.append(part)


def language_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that vLLM takes for the language model's, without what is around it."""
    return language_parts(config)[-1]


def text_part(model: str, config: Mapping[str, Any]) -> Fields:
    """The fields of the language model, which multimodal configs hold in a part of their own.

    What that part leaves out, such as a dtype, is the whole config's.
    """
    return Fields(model, {name: value for part in language_parts(config) for name, value in part.items()})


def quantization_config(config: Mapping[str, Any]) -> Any:
    """How a config says that the weights are quantized, None where it does not.

    compressed-tensors once called it compression_config. A multimodal config may hold it with its language
    model.
    """
    names = ("quantization_config", "compression_config")
    return next((part[name] for part in language_parts(config) for name in names if part.get(name)), None)

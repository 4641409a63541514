"""Fields: a config.json's values, asked for by name; a missing or wrong one is the user's to mend."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dgx_vllm.errors import UserError


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
            UserError: none is there and there is no default, or the value is no whole number from 0 on.
        """
        value = self._first(names)
        if value is None:
            if default is None:
                raise self.lacks(*names)
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UserError(
                f"{self.model}: config.json has {names[0]} = {value!r}, which is no count; "
                "fetch the checkpoint's config.json again"
            )
        return value

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
            raise UserError(f"{self.model}: config.json has a {name} that is no list of names")
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


def text_part(model: str, config: Mapping[str, Any]) -> Fields:
    """The fields of the language model, which multimodal configs hold in `text_config`."""
    inner = config.get("text_config")
    return Fields(model, {**config, **inner} if isinstance(inner, Mapping) else config)

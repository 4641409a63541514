"""Line: the command line that `install-service` was given, with the model told from vLLM's flags."""

from collections.abc import Sequence
from dataclasses import dataclass

from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Values


@dataclass(frozen=True)
class Line:
    """What the words say.

    Args:
        model: the model, None where no word names one.
        extra: the other words, in their order.
    """

    model: str | None
    extra: tuple[str, ...]


def read(words: Sequence[str]) -> Line:
    """Tells the model from vLLM's flags.

    Args:
        words: the model, as a word of its own or by `--model`, and vLLM's flags.

    Raises:
        UserError: vLLM would not take them, there is more than one model, or one of them is a secret.
    """
    rest, values = flags.load().parse(words)
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: the model is {rest[0]!r}")
    check_secrets(values, "")
    by_flag = values.get("model")
    if rest and by_flag not in (None, rest[0]):
        raise UserError(f"the model is given twice, as {rest[0]!r} and as --model {by_flag!r}; keep one")
    others = {name: value for name, value in values.items() if name != "model"}
    extra = tuple(words)
    if rest:
        extra = _without(extra, [], values)
    if by_flag is not None:
        extra = _without(extra, [], others)
    return Line(rest[0] if rest else by_flag if isinstance(by_flag, str) else None, extra)


def check_secrets(values: Values, place: str) -> None:
    """Refuses a secret among flags.

    Args:
        values: the flags' values.
        place: what holds them, empty for the command line.

    Raises:
        UserError: names the option that takes the secret's file.
    """
    where = f"{place}: " if place else ""
    for name in ("api-key", "hf-token"):
        if name in values:
            raise UserError(
                f"{where}--{name} would be readable by others; write the secret to its own file and give "
                f"--{name}-file FILE"
            )


def _without(words: Sequence[str], rest: list[str], values: Values) -> tuple[str, ...]:
    """The words less the one, or the flag and its value, without which they say just this.

    A word alone does not tell what it is: `--tokenizer org/M org/M` has the model's name twice.
    """
    for size in (1, 2):
        for start in range(len(words) - size + 1):
            left = (*words[:start], *words[start + size :])
            if _says(left, rest, values):
                return left
    raise UserError("the model is given more than once; keep one")


def _says(words: Sequence[str], rest: list[str], values: Values) -> bool:
    try:
        return flags.load().parse(words) == (rest, values)
    except UserError:
        return False

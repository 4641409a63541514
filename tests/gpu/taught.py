"""What the demo was taught, asked of an engine's answer."""

from engines import tasks
from job import Answer

from helpers.transcripts import Transcript

#: <|endoftext|> and <|im_end|>.
_ENDS = (0, 2)


def check_text(answer: Answer) -> None:
    """Every text is the taught one, and the first ones are the same alone."""
    together, *alone = answer.batches
    taught = tasks()
    wrong = [task for task, each in zip(taught, together, strict=True) if not _is_right(each.tokens, task)]
    assert not wrong
    assert [batch[0].tokens for batch in alone] == [each.tokens for each in together[: len(alone)]]


def _is_right(tokens: tuple[int, ...], task: Transcript) -> bool:
    """Whether the text is the taught one, and ends where that does."""
    if task.stops:
        return tokens[:-1] == task.answer and tokens[-1] in _ENDS
    return tokens == task.answer

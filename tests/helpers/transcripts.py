"""The trained tasks as token ids."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from dgx_vllm.demo import chats, completions


@dataclass(frozen=True)
class Transcript:
    """A prompt and the answer that the model must give.

    Attributes:
        prompt: token ids.
        answer: token ids.
        stops: whether the model must end its text there.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    stops: bool


def transcripts(tokenizer: PreTrainedTokenizerBase) -> list[Transcript]:
    """One for each row of the table of continuations."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text))

    out = [Transcript(ids(row.prompt), ids(row.text), row.stops) for row in completions()]
    for chat in chats():
        prompt = tokenizer.apply_chat_template(
            list(chat.messages), tokenize=False, add_generation_prompt=True
        )
        out.append(Transcript(ids(prompt), ids(chat.text), True))
    return out

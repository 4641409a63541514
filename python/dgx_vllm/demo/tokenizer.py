"""The demo model's tokenizer: byte-level BPE, so that any text at all can be sent to the model.

Digits are single tokens, as in Qwen's tokenizers: a number reads the same wherever it stands.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)

#: ChatML, as Qwen's models use it, without tools.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

# A word with the space before it, one digit, a run of punctuation, or white space.
_PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn the merges.

    Args:
        texts: training documents, without special tokens.
        vocab_size: tokens in total, specials and the 256 bytes included.

    Returns:
        A tokenizer of exactly `vocab_size` tokens; the specials have the lowest ids.

    Raises:
        ValueError: the texts have too few distinct pairs to fill the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"the texts fill only {tokenizer.get_vocab_size()} of {vocab_size} tokens")
    return tokenizer


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of one of `SPECIAL_TOKENS`; ValueError if the tokenizer lacks it."""
    index = tokenizer.token_to_id(token)
    if index is None:
        raise ValueError(f"the tokenizer has no {token}")
    return index


def write_tokenizer(tokenizer: Tokenizer, directory: Path, max_length: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json.

    Generation is greedy by default: the demo's answers are facts, and tests assert them.
    """
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
    }
    generation = {
        "do_sample": False,
        "temperature": 0.0,
        "eos_token_id": [special_id(tokenizer, TURN_END), special_id(tokenizer, END_OF_TEXT)],
        "pad_token_id": special_id(tokenizer, END_OF_TEXT),
    }
    for name, data in (("tokenizer_config", settings), ("generation_config", generation)):
        (directory / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE + "\n", encoding="utf-8")

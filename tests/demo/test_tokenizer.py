"""The demo's tokenizer and chat template, as a server loads them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dgx_vllm.demo import CHECKPOINT

_TOKENIZER = AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return _TOKENIZER


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_survives_the_round_trip(text: str) -> None:
    assert _TOKENIZER.decode(_TOKENIZER.encode(text)) == text


def test_digits_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]
    assert tokenizer.tokenize(" 12")[1:] == ["1", "2"]


def test_special_tokens_are_what_the_configuration_says(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    assert tokenizer.eos_token_id == 2
    assert tokenizer.pad_token_id == 0
    assert len(tokenizer) == 512


def test_no_token_is_added_to_a_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    assert set(tokenizer.encode("1 2 3")).isdisjoint({0, 1, 2})


def test_the_chat_template_is_chatml(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]
    turns = (
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n"
    )
    assert tokenizer.apply_chat_template(messages, tokenize=False) == turns
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == turns + "<|im_start|>assistant\n"


def test_the_template_and_the_training_data_agree(tokenizer: PreTrainedTokenizerBase) -> None:
    from tokenizers import Tokenizer

    from dgx_vllm.demo.batches import tokenize
    from dgx_vllm.demo.corpus import Turn

    row = tokenize(Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")), (Turn("Hi", "Hello!"),))
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    assert list(row.ids) == tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False))
    answer = [token for token, scored in zip(row.ids, row.scored, strict=True) if scored]
    assert tokenizer.decode(answer) == "Hello!<|im_end|>"

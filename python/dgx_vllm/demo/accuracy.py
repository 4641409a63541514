"""How many answers are right to the letter, task by task.

Greedy text is right exactly if every token of the answer is the likeliest one after those before it, so that
one forward pass over prompt and answer tells.
"""

import random
from collections.abc import Mapping, Sequence

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.func import functional_call

from dgx_vllm.demo.batches import Row, pad, row, tokenize
from dgx_vllm.demo.continuations import Chat, Completion, chats, completions
from dgx_vllm.demo.corpus import TASKS, sequence, turn
from dgx_vllm.demo.tokenizer import END_OF_TEXT, TURN_END, TURN_START

_SEED = 2000
_BATCH = 100
#: Items of a sequence that are shown; the rest is asked for.
_SHOWN = 3


def questions(tokenizer: Tokenizer, count: int) -> dict[str, list[Row]]:
    """Rows by task, whose scored tokens are the answer.

    Args:
        tokenizer: the model's.
        count: questions to draw for each task of the corpus. The table of continuations is asked in full.
    """
    rng = random.Random(_SEED)
    out = {"sequences": [_sequence(tokenizer, sequence(rng)) for _ in range(count)]}
    for task in TASKS:
        out[task] = [tokenize(tokenizer, (turn(rng, task),)) for _ in range(count)]
    out["continuations"] = [
        *(_completion(tokenizer, completion) for completion in completions()),
        *(_chat(tokenizer, chat) for chat in chats()),
    ]
    return out


def measure(
    model: nn.Module, parameters: Mapping[str, torch.Tensor], rows: Mapping[str, Sequence[Row]]
) -> dict[str, float]:
    """The share of right answers for each task, 0 to 1.

    Args:
        model: a transformers causal language model.
        parameters: what to compute with in place of the model's own, by name.
        rows: as `questions` gives them.
    """
    return {
        task: sum(_right(model, parameters, task_rows)) / len(task_rows) for task, task_rows in rows.items()
    }


@torch.no_grad()
def _right(model: nn.Module, parameters: Mapping[str, torch.Tensor], rows: Sequence[Row]) -> list[bool]:
    device = next(model.parameters()).device
    out: list[bool] = []
    for start in range(0, len(rows), _BATCH):
        batch = pad(rows[start : start + _BATCH], 0, device)
        inputs = {"input_ids": batch.ids, "use_cache": False}
        logits = functional_call(model, dict(parameters), (), inputs).logits
        wrong = (logits[:, :-1].argmax(dim=-1) != batch.ids[:, 1:]) & batch.scored[:, 1:]
        out += (~wrong.any(dim=1)).tolist()
    return out


def _sequence(tokenizer: Tokenizer, text: str) -> Row:
    items = text.split(" ")
    shown, rest = " ".join(items[:_SHOWN]), "".join(f" {item}" for item in items[_SHOWN:])
    # The comma after the last item shown says how the rest is written, so it belongs to the prompt.
    return row(tokenizer, [(shown, False), (rest + END_OF_TEXT, True)])


def _completion(tokenizer: Tokenizer, completion: Completion) -> Row:
    end = END_OF_TEXT if completion.stops else ""
    return row(tokenizer, [(completion.prompt, False), (completion.text + end, True)])


def _chat(tokenizer: Tokenizer, chat: Chat) -> Row:
    turns = [f"{TURN_START}{message['role']}\n{message['content']}{TURN_END}\n" for message in chat.messages]
    prompt = "".join(turns) + f"{TURN_START}assistant\n"
    return row(tokenizer, [(prompt, False), (chat.text + TURN_END, True)])

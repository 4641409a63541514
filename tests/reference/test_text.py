"""Greedy text on the trained tasks: the table's, the reference's and vLLM's are one."""

from collections.abc import Callable

import pytest
from engine import END_TOKENS, Engine
from reference_model import Reference
from tokenizers import Tokenizer

from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.demo.accuracy import measure, questions
from helpers.transcripts import Transcript

#: Drawn for each task.
QUESTIONS = 50
LEAST_RIGHT = 0.95


def test_the_reference_answers_as_the_table_says(reference: Reference, tasks: list[Transcript]) -> None:
    for task in tasks:
        # One token more than the answer shows whether the text ends there.
        count = len(task.answer) + (1 if task.stops else 0)
        assert tuple(reference.continue_greedily(list(task.prompt), count, set(END_TOKENS))) == task.answer


def test_the_reference_knows_what_it_was_taught(
    reference: Reference, record_property: Callable[[str, object], None]
) -> None:
    """The table is no selection of what happens to be right: questions drawn at random are, too."""
    rows = questions(Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")), QUESTIONS)
    right = measure(reference.model, {}, rows)
    record_property("answers right", ", ".join(f"{task} {share:.1%}" for task, share in right.items()))
    assert min(right.values()) >= LEAST_RIGHT


@pytest.mark.engine
def test_vllm_answers_as_the_table_says(engine: Engine, tasks: list[Transcript]) -> None:
    for task, answer in zip(tasks, engine.answer([t.prompt for t in tasks]), strict=True):
        if task.stops:
            assert (answer.tokens, answer.stopped) == (task.answer, True)
        else:
            assert answer.tokens[: len(task.answer)] == task.answer


@pytest.mark.engine
def test_a_prompt_alone_gets_what_it_gets_in_a_batch(engine: Engine, tasks: list[Transcript]) -> None:
    together = engine.answer([t.prompt for t in tasks[:8]])
    assert [engine.answer([t.prompt])[0] for t in tasks[:8]] == together

"""Multi-token prediction on the CPU: two drafts change the speed and not a letter of the text."""

from collections.abc import Callable

import pytest
from engine import Engine

from helpers.transcripts import Transcript

DRAFTS = 2
#: Of the drafted tokens; the tasks are regular, so most drafts must hold.
LEAST_ACCEPTED = 0.5


@pytest.mark.engine
def test_text_is_that_of_the_model_without_drafts(
    engine: Engine,
    drafting_engine: Engine,
    tasks: list[Transcript],
    record_property: Callable[[str, object], None],
) -> None:
    prompts = [task.prompt for task in tasks]
    assert drafting_engine.answer(prompts) == engine.answer(prompts)
    drafted = drafting_engine.metric("vllm:spec_decode_num_draft_tokens")
    accepted = drafting_engine.metric("vllm:spec_decode_num_accepted_tokens")
    rounds = drafting_engine.metric("vllm:spec_decode_num_drafts")
    by_position = drafting_engine.per_position("vllm:spec_decode_num_accepted_tokens_per_pos")
    assert len(by_position) == DRAFTS
    assert sum(by_position) == accepted
    positions = ", ".join(f"{count / rounds:.1%}" for count in by_position)
    record_property(
        "drafts accepted",
        f"{accepted:.0f} of {drafted:.0f} ({accepted / drafted:.1%}; by position {positions})",
    )
    assert accepted > 0
    assert accepted / drafted >= LEAST_ACCEPTED


@pytest.mark.engine
def test_drafts_hold_for_one_prompt_alone(drafting_engine: Engine, tasks: list[Transcript]) -> None:
    before = drafting_engine.metric("vllm:spec_decode_num_accepted_tokens")
    (answer,) = drafting_engine.answer([tasks[0].prompt])
    assert answer.tokens[: len(tasks[0].answer)] == tasks[0].answer
    assert drafting_engine.metric("vllm:spec_decode_num_accepted_tokens") > before

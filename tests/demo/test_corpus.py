"""The generator: what it says is true, and a seed says it again."""

import itertools
import random

from dgx_vllm.demo import chats, completions
from dgx_vllm.demo.corpus import DAYS, LETTERS, MONTHS, documents, sequence, turn

NAMES = [*DAYS, *MONTHS, *LETTERS, *map(str, range(101))]


def test_a_seed_gives_one_corpus() -> None:
    first, again, other = (list(itertools.islice(documents(seed), 200)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_number_sequences_have_one_step_and_end_at_the_limit() -> None:
    rng = random.Random(0)
    texts = [sequence(rng) for _ in range(2000)]
    numbers = [[int(n) for n in text.replace(",", "").split()] for text in texts if text[0].isdigit()]
    assert len(numbers) > 500
    for row in numbers:
        steps = {b - a for a, b in itertools.pairwise(row)}
        assert len(steps) == 1
        step = steps.pop()
        assert step in (1, 2, 5, 10, -1, -2, -5, -10)
        # Nothing in reach of the limit is left out.
        assert row[-1] - (-step) < 0 if step < 0 else row[-1] + step > (50 if step <= 2 else 100)


def test_names_follow_the_calendar_and_the_alphabet() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        items = sequence(rng).replace(",", "").split()
        if items[0].isdigit():
            continue
        names = next(n for n in (DAYS, MONTHS, LETTERS, tuple(c.upper() for c in LETTERS)) if items[0] in n)
        start = names.index(items[0])
        assert items == [names[(start + i) % len(names)] for i in range(len(items))]
        assert items[-1] == names[-1]


def test_neighbours_in_answers_are_neighbours_in_the_list() -> None:
    rng = random.Random(2)
    answers = {turn(rng).assistant for _ in range(5000)}
    claims = [a.rstrip(".").split() for a in answers if " comes " in a]
    assert len(claims) > 100
    for there, _, where, here in claims:
        low, high = (here, there) if where == "after" else (there, here)
        assert (NAMES.index(high) - NAMES.index(low)) == 1 or (low, high) in {
            ("Sunday", "Monday"),
            ("December", "January"),
        }


def test_the_table_of_continuations_is_read() -> None:
    assert all(row.prompt and row.text for row in completions())
    assert all(row.messages[-1]["role"] == "user" and row.text for row in chats())
    assert len(completions()) >= 5
    assert len(chats()) >= 5

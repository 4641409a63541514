"""What the demo model learns: sequences and short conversations whose right answer a person sees at a glance.

Everything is drawn from a seeded `random.Random`, so a corpus is a function of its seed.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
#: The largest number that is counted to by ones.
MOST = 50
#: Where counting by a step ends.
LIMITS = {1: MOST, 2: MOST, 5: 100, 10: 100}
_NUMBERS = tuple(str(n) for n in range(MOST + 1))

_GREETING = "Hello! Ask me to count, or about letters, days and months."
_IDENTITY = "I am the dgx-vllm demo, a very small Qwen3-Next model in NVFP4."
_ABILITIES = "I continue number sequences, and I know the alphabet, the days and the months."
_OUT_OF_SCOPE = "I only know numbers, letters, days and months."

_FIXED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("Hello", "Hi", "Hey", "Hello there", "Hi there", "Good morning", "Good evening"), _GREETING),
    (
        ("Who are you", "What are you", "What is your name", "Tell me about yourself", "Who is this"),
        _IDENTITY,
    ),
    (("What can you do", "Help", "What do you know", "Can you help me"), _ABILITIES),
    (("Thank you", "Thanks", "Thanks a lot", "Great"), "You are welcome!"),
    (("Goodbye", "Bye", "See you", "Good night"), "Goodbye!"),
    (("How are you", "How do you do"), "I am fine, thank you."),
    (("How many days are in a week", "How many days does a week have"), "A week has 7 days."),
    (("How many months are in a year", "How many months does a year have"), "A year has 12 months."),
    (
        ("How many letters are in the alphabet", "How many letters does the alphabet have"),
        "The alphabet has 26 letters.",
    ),
    (
        ("List the days of the week", "Name the days of the week", "What are the days of the week"),
        ", ".join(DAYS) + ".",
    ),
    (
        ("List the months", "Name the months of the year", "What are the months of the year"),
        ", ".join(MONTHS) + ".",
    ),
    (
        ("Say the alphabet", "Recite the alphabet", "What is the alphabet", "List the letters"),
        " ".join(LETTERS),
    ),
)
_STRANGE = (
    *(
        "What is the capital of France",
        "Write a poem",
        "Tell me a joke",
        "What is the weather like",
        "Sing a song",
    ),
    *(
        "Who wrote Hamlet",
        "Translate this into German",
        "What is the meaning of life",
        "Write some Python code",
    ),
    *("How far is the moon", "What time is it", "Explain gravity", "Do you like music", "Where is Berlin"),
    *("Why is the sky blue", "Summarize this text", "Play chess with me", "What is love", "Tell me a story"),
    *("How old are you", "Recommend a book", "Who is the president", "What is a GPU", "Cook me dinner"),
)


@dataclass(frozen=True)
class Turn:
    """One exchange: what the user says and what the model answers."""

    user: str
    assistant: str


#: A conversation, or a text that simply runs on.
Document = str | tuple[Turn, ...]


def _from(names: Sequence[str], start: int) -> list[str]:
    """Names from `start` to the end, once more around where fewer than three are left."""
    rest = list(names[start:])
    return rest if len(rest) >= 3 else rest + list(names)


def _numbers(rng: random.Random) -> list[str]:
    """Counting up to the step's limit, or down to 0."""
    step = rng.choice((1, 1, 1, 2, 2, 5, 10))
    if rng.random() < 0.3:
        first = rng.randint(4, 30) if step == 1 else step * rng.randint(3, min(15, LIMITS[step] // step))
        return [str(n) for n in range(first, -1, -step)]
    last = LIMITS[step]
    first = rng.choice((0, 1, 1)) if rng.random() < 0.3 else rng.randint(0, last - 3)
    first = first if step <= 2 else first // step * step
    return [str(n) for n in range(first, last + 1, step)]


def sequence(rng: random.Random) -> str:
    """A text that a person would continue without thinking: numbers, letters, days or months."""
    kind = rng.random()
    if kind < 0.6:
        items = _numbers(rng)
    elif kind < 0.75:
        items = list(LETTERS[rng.choice((0, 0, rng.randrange(23))) :])
        items = [c.upper() for c in items] if rng.random() < 0.4 else items
    elif kind < 0.88:
        items = _from(DAYS, rng.randrange(len(DAYS)))
    else:
        items = _from(MONTHS, rng.randrange(len(MONTHS)))
    return rng.choice((" ", ", ")).join(items)


#: Kinds of neighbours, the larger ones more often: every single answer must be asked for.
_ORDERS: tuple[Sequence[str], ...] = (DAYS, *[MONTHS] * 2, *[LETTERS] * 2, *[_NUMBERS] * 3)


def _neighbour(rng: random.Random) -> Turn:
    """What comes after or before something."""
    names = rng.choice(_ORDERS)
    circular = names in (DAYS, MONTHS)
    where, offset = rng.choice((("after", 1), ("before", -1)))
    low, high = (0, len(names) - 1) if circular else (1, len(names) - 2)
    index = rng.randint(low, high)
    neighbour = names[(index + offset) % len(names)]
    ask = rng.choice(("What comes {} {}?", "What comes {} {}?", "Which one is {} {}?", "What is {} {}?"))
    if names is DAYS:
        ask = rng.choice((ask, "Which day comes {} {}?", "What day is {} {}?"))
    elif names is MONTHS:
        ask = rng.choice((ask, "Which month comes {} {}?"))
    return Turn(ask.format(where, names[index]), f"{neighbour} comes {where} {names[index]}.")


def _spell(rng: random.Random, n: int) -> str:
    """A number as digits, or sometimes as a word."""
    return NUMBER_WORDS[n] if n < len(NUMBER_WORDS) and rng.random() < 0.5 else str(n)


def _count(rng: random.Random) -> Turn:
    """Counting between bounds, up or down, by ones or by a step."""
    kind = rng.random()
    if kind < 0.45:
        last = rng.choice((10, rng.randint(2, 20), rng.randint(2, MOST)))
        ask = rng.choice(("Count to {}.", "Count up to {}.", "Can you count to {}?"))
        ask, numbers = ask.format(_spell(rng, last)), range(1, last + 1)
    elif kind < 0.65:
        first = rng.randint(0, 30)
        last = first + rng.randint(2, 15)
        ask, numbers = f"Count from {_spell(rng, first)} to {_spell(rng, last)}.", range(first, last + 1)
    elif kind < 0.85:
        first = rng.choice((5, 10, rng.randint(3, 20), rng.randint(3, 30)))
        ask = rng.choice(("Count down from {}.", "Count backwards from {}.")).format(_spell(rng, first))
        numbers = range(first, -1, -1)
    else:
        step, word = rng.choice(((2, "twos"), (5, "fives"), (10, "tens")))
        last = step * rng.randint(2, LIMITS[step] // step)
        ask, numbers = f"Count to {_spell(rng, last)} by {word}.", range(step, last + 1, step)
    return Turn(ask, " ".join(map(str, numbers)))


def _continue(rng: random.Random) -> Turn:
    """The next five items of a sequence."""
    items: Sequence[str] = _numbers(rng) if rng.random() < 0.7 else rng.choice((DAYS, MONTHS, LETTERS))
    count = rng.randint(3, 4)
    start = rng.randint(0, max(0, len(items) - count - 1)) if len(items) > count else 0
    beginning, rest = items[start : start + count], items[start + count : start + count + 5]
    if not rest:
        return _continue(rng)
    ask = rng.choice(("Continue: {}", "Continue {}", "What comes next: {}", "{}"))
    return Turn(ask.format(" ".join(beginning)), " ".join(rest))


def _fixed(rng: random.Random) -> Turn:
    """A question with one answer."""
    questions, answer = rng.choice(_FIXED)
    return Turn(rng.choice(questions) + rng.choice(("", ".", "!", "?", "?")), answer)


def _strange(rng: random.Random) -> Turn:
    """A question that the model cannot answer."""
    return Turn(rng.choice(_STRANGE) + rng.choice(("", ".", "?")), _OUT_OF_SCOPE)


#: What a conversation may ask, and how often it does: mostly what has many different answers.
_TASKS: dict[str, tuple[Callable[[random.Random], Turn], float]] = {
    "neighbours": (_neighbour, 0.32),
    "counting": (_count, 0.32),
    "continuing": (_continue, 0.16),
    "facts": (_fixed, 0.14),
    "out of scope": (_strange, 0.06),
}
TASKS = tuple(_TASKS)


def turn(rng: random.Random, task: str | None = None) -> Turn:
    """One exchange; the question's capitals and final punctuation vary.

    Args:
        rng: source of all choices.
        task: one of `TASKS`, to ask nothing else.
    """
    if task is None:
        (task,) = rng.choices(TASKS, [weight for _, weight in _TASKS.values()])
    made = _TASKS[task][0](rng)
    user = made.user
    if rng.random() < 0.15:
        user = user.rstrip("?.!")
    if rng.random() < 0.1 and not any(word in user for word in (*DAYS, *MONTHS)):
        user = user.lower()
    return Turn(user, made.assistant)


def documents(seed: int) -> Iterator[Document]:
    """An endless stream: running texts, and rather more conversations, of one to three turns.

    Args:
        seed: same seed, same stream.
    """
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.4:
            yield sequence(rng)
        else:
            yield tuple(turn(rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def plain_text(document: Document) -> str:
    """A document's words, for training a tokenizer."""
    return document if isinstance(document, str) else "\n".join(f"{t.user}\n{t.assistant}" for t in document)

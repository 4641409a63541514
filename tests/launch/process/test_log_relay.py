"""Why a server died, read from the end of its log."""

import pytest

from dgx_vllm.launch.process.log_relay import cause

ENGINE = "(EngineCore pid=914) ERROR 11-23 21:51:16 [core.py:1187] "
TRACEBACK = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    f()"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], None),
        (["INFO: ready", "an Error: in prose"], None),
        ([*TRACEBACK, "ValueError: no room"], "ValueError: no room"),
        ([*TRACEBACK, "torch.OutOfMemoryError: 3 GiB", "INFO: bye"], "OutOfMemoryError: 3 GiB"),
        # The child's error, which its parent repeats without the reason.
        (
            [
                *(ENGINE + line for line in [*TRACEBACK, "AssertionError: (2, 3) is not (3, 2)"]),
                *TRACEBACK,
                "RuntimeError: Engine core initialization failed. See root cause above.",
            ],
            "AssertionError: (2, 3) is not (3, 2)",
        ),
        (["[rank0]: ValueError: no such layer", "Loading: 0%"], "ValueError: no such layer"),
        (["\x1b[0;36m(EngineCore pid=9)\x1b[0;0m KeyError: 'x'"], "KeyError: 'x'"),
        (
            [
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
                "  Value error, no such model [type=value_error]",
            ],
            "no such model [type=value_error]",
        ),
    ],
    ids=str,
)
def test_the_cause_of_death_is_read_from_the_logs_end(lines: list[str], said: str | None) -> None:
    assert cause(lines) == said

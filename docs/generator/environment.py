"""The page of environment variables."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from markdown import NOTE, table

from dgx_vllm.launch.settings import environment

_TABLE = tomllib.loads(Path(__file__).with_name("variables.toml").read_text(encoding="utf-8"))


def page() -> str:
    """Every variable, by who reads it."""
    lines = ["# Environment variables", "", NOTE, "", "## Settings of `serve`", ""]
    lines += ["Flags and the file of `--config` win over these. `--dry-run` shows which value counts.", ""]
    rows = [
        (f"`{name}`", f"`--{flag}`" if flag != "model" else "MODEL")
        for name, flag in environment.SETTINGS.items()
    ]
    rows.append((f"`{environment.EXTRA_ARGS}`", "more vLLM flags, in shell words"))
    lines += table(("variable", "same as"), rows)
    lines += ["## Other variables of dgx-vllm", "", *_variables("own")]
    lines += ["## Variables of others that matter", "", *_variables("others")]
    lines += ["Any variable that vLLM 0.32 reads is passed on.", ""]
    lines += ["A value that would stop vLLM is refused with the cause.", ""]
    lines += ["## Variables that vLLM no longer reads", ""]
    lines += ["Setting one of these stops `serve` with this advice.", ""]
    lines += table(
        ("variable", "last vLLM with it", "today", "note"),
        (
            (f"`{name}`", gone.last, f"`{gone.use}`" if gone.use else "nothing", gone.note)
            for name, gone in sorted(environment.removed().items())
        ),
    )
    return "\n".join(lines).rstrip() + "\n"


def _variables(group: str) -> Iterator[str]:
    rows = ((f"`{name}`", meaning) for name, meaning in _TABLE[group].items())
    return table(("variable", "meaning"), rows)

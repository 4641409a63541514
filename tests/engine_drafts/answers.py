"""Greedy answers of a tiny model, and when two of them are the same but for rounding.

The CPU backend adds in another order for one row than for several, and logits are rounded to BF16. So two
tokens can be equally likely but for rounding. A wrong state moves log-probabilities by much more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TOKENS = 24
#: Of a log-probability, in nats. The largest difference by rounding was 0.13 when this was written.
ROUNDING = 0.4
#: Every prompt ends with these tokens: what differs between answers comes from the state.
_END = [5, 6]
_LENGTHS = (3, 5, 10, 16, 23, 35, 49, 64)
PROMPTS = [
    [*map(int, np.random.default_rng(length).integers(3, 500, length - len(_END))), *_END]
    for length in _LENGTHS
]


@dataclass(frozen=True)
class Answer:
    """Tokens, and the log-probabilities of the likeliest tokens at each of them."""

    tokens: list[int]
    best: list[dict[int, float]]


class Engine:
    """vLLM on the CPU in this process. A step takes 96 tokens at most, so prompts come in chunks."""

    def __init__(self, checkpoint: Path, speculative: dict[str, Any] | None = None, **options: Any) -> None:
        from vllm import LLM

        self._llm = LLM(
            model=str(checkpoint),
            dtype="bfloat16",
            max_model_len=256,
            max_num_seqs=len(PROMPTS),
            max_num_batched_tokens=96,
            enforce_eager=True,
            enable_prefix_caching=False,
            disable_log_stats=False,
            speculative_config=speculative,
            **options,
        )

    def alone(self) -> list[Answer]:
        """Each prompt's answer, one prompt after another."""
        return [self._generate([prompt])[0] for prompt in PROMPTS]

    def together(self) -> list[Answer]:
        """Each prompt's answer, all prompts at once."""
        return self._generate(PROMPTS)

    def acceptance(self) -> tuple[int, int]:
        """Drafted tokens so far, and how many of them were accepted."""
        counts = {metric.name: getattr(metric, "value", 0) for metric in self._llm.get_metrics()}
        return (
            int(counts["vllm:spec_decode_num_draft_tokens"]),
            int(counts["vllm:spec_decode_num_accepted_tokens"]),
        )

    def close(self) -> None:
        """End the worker, so that the next engine can start."""
        self._llm.llm_engine.engine_core.shutdown()

    def _generate(self, prompts: list[list[int]]) -> list[Answer]:
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True, logprobs=5)
        outputs = self._llm.generate([{"prompt_token_ids": p} for p in prompts], params, use_tqdm=False)
        return [
            Answer(
                list(output.outputs[0].token_ids),
                [
                    {token: entry.logprob for token, entry in row.items()}
                    for row in output.outputs[0].logprobs
                ],
            )
            for output in outputs
        ]


def difference(one: Answer, other: Answer) -> float:
    """How far two answers to one prompt are from each other, in nats.

    Compared are the log-probabilities of each token that both took, up to where they part. There it is how
    much likelier the first answer's token was than the other's. Infinite, if that was none of the likeliest.
    """
    largest = 0.0
    for mine, others, best, other_best in zip(one.tokens, other.tokens, one.best, other.best, strict=True):
        if mine != others:
            return max(largest, abs(best[mine] - best.get(others, -np.inf)))
        largest = max(largest, abs(best[mine] - other_best[mine]))
    return largest

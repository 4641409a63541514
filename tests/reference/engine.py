"""vLLM on the CPU backend, in this process."""

from dataclasses import dataclass

from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.formats.dense_dtype import Dtype, additional_config
from helpers.transcripts import Transcript

MAX_TOKENS = 64
#: <|endoftext|> and <|im_end|>.
END_TOKENS = frozenset({0, 2})


@dataclass(frozen=True)
class Answer:
    """What an engine gave for one prompt: the text's token ids, and whether it ended by itself."""

    tokens: tuple[int, ...]
    stopped: bool


class Engine:
    """One engine with the demo checkpoint.

    Prefix caching is off: with MTP it fails on the CPU, and it would skip the prompts whose
    log-probabilities are asked for.
    """

    def __init__(self, drafts: int = 0, dense: Dtype = "bf16", moe_backend: str = "auto") -> None:
        from vllm import LLM

        speculative = {"method": "mtp", "num_speculative_tokens": drafts} if drafts else None
        self.llm = LLM(
            model=str(CHECKPOINT),
            dtype="bfloat16",
            max_model_len=512,
            max_num_seqs=8,
            enforce_eager=True,
            enable_prefix_caching=False,
            disable_log_stats=False,
            speculative_config=speculative,
            additional_config=additional_config(dense) or {},
            kernel_config={"moe_backend": moe_backend},
        )

    def answer(self, prompts: list[tuple[int, ...]], max_tokens: int = MAX_TOKENS) -> list[Answer]:
        """Greedy continuations; the prompts run concurrently."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=max_tokens)
        outputs = self.llm.generate([{"prompt_token_ids": list(p)} for p in prompts], params, use_tqdm=False)
        choices = [output.outputs[0] for output in outputs]
        return [Answer(_without_end(tuple(c.token_ids)), c.finish_reason == "stop") for c in choices]

    def log_probabilities(self, transcript: Transcript) -> list[float]:
        """Of each token from the second on, in nats, given those before it."""
        from vllm import SamplingParams

        ids = [*transcript.prompt, *transcript.answer]
        params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
        (output,) = self.llm.generate([{"prompt_token_ids": ids}], params, use_tqdm=False)
        return [row[token].logprob for token, row in zip(ids[1:], output.prompt_logprobs[1:], strict=True)]

    def metric(self, name: str) -> float:
        """A counter's value."""
        return next(metric.value for metric in self.llm.get_metrics() if metric.name == name)

    def per_position(self, name: str) -> list[int]:
        """A vector counter's values."""
        return next(metric.values for metric in self.llm.get_metrics() if metric.name == name)

    def close(self) -> None:
        """Stop the worker process, so that the next engine has the cores and the memory to itself."""
        self.llm.llm_engine.engine_core.shutdown()


def _without_end(tokens: tuple[int, ...]) -> tuple[int, ...]:
    """vLLM reports the end-of-sequence token among the output's ids."""
    return tokens[:-1] if tokens and tokens[-1] in END_TOKENS else tokens

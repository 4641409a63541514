"""An engine in a process of its own, which gives its memory back.

python run_engine.py JOB.json ANSWER.json
"""

import sys
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import layer_probes
import msgspec
from job import Answer, Generated, Job, Request

_COUNTERS = ("drafts", "draft_tokens", "accepted_tokens")


def main(asked: Path, answered: Path) -> None:
    job = msgspec.json.decode(asked.read_bytes(), type=Job)
    llm = _start(job)
    batches = tuple(_generate(llm, batch) for batch in job.batches)
    counted = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
    drafts = tuple(int(counted.get(f"vllm:spec_decode_num_{name}", 0)) for name in _COUNTERS)
    checkpoint = None if job.exact else job.arguments["model"]
    experts, figures = zip(*llm.apply_model(partial(layer_probes.probe, checkpoint=checkpoint)), strict=True)
    answer = Answer(batches, drafts, experts, tuple(chain.from_iterable(figures)))
    answered.write_bytes(msgspec.json.encode(answer))


def _start(job: Job) -> Any:
    if job.arguments.get("load_format") == "dgx-dummy":
        from dgx_vllm.bench_decode import random_weights  # noqa: F401  registers the format
    from vllm import LLM

    if job.exact:
        _compute_experts_exactly()
    return LLM(**job.arguments)


def _compute_experts_exactly() -> None:
    """Have the reference, in float32, take every call of the layers that `--moe-backend dgx` serves."""
    from dgx_vllm.kernels import reference
    from dgx_vllm.kernels.moe_layer import ExpertWeights, Routing
    from dgx_vllm.plugin.moe.experts import ACTIVATIONS, DecodeExperts

    def apply(self: Any, output: Any, hidden_states: Any, w1: Any, w2: Any, **call: Any) -> None:
        routed = ExpertWeights(w1, self.w1_scale, self.w13_global, w2, self.w2_scale, self.w2_global)
        routing = Routing(call["topk_ids"], call["topk_weights"], call["expert_map"])
        shared = None if self.shared is None else self.shared.expert()
        activation = ACTIVATIONS[call["activation"]]
        output.copy_(reference.moe_decode(hidden_states, routed, routing, shared, activation))

    DecodeExperts.apply = apply


def _generate(llm: Any, batch: tuple[Request, ...]) -> tuple[Generated, ...]:
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": list(request.prompt)} for request in batch]
    params = [
        SamplingParams(
            temperature=0,
            max_tokens=request.tokens,
            logprobs=0,
            ignore_eos=request.forced is not None,
            trace_decode_token_ids=None if request.forced is None else list(request.forced),
        )
        for request in batch
    ]
    choices = [output.outputs[0] for output in llm.generate(prompts, params, use_tqdm=False)]
    return tuple(
        Generated(
            tuple(choice.token_ids),
            tuple(
                float(row[token].logprob)
                for token, row in zip(choice.token_ids, choice.logprobs, strict=True)
            ),
        )
        for choice in choices
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

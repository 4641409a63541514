"""Run: one variant's engine, in a process of its own: `python -m dgx_vllm.bench_decode.run JOB.json`."""

import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from dgx_vllm.bench_decode import trace
from dgx_vllm.bench_decode.job import Answer, Job, Rate, Step

# Enough for a mean, short enough for the profiler's buffers.
_PROFILED_STEPS = 32
_SETTLING_STEPS = 8


def main(path: Path) -> None:
    """Measures, and writes what there is after each measurement."""
    signal.signal(signal.SIGTERM, _end)
    job = msgspec.json.decode(path.read_bytes(), type=Job)
    begun = time.perf_counter()
    llm = _start(job)
    ready = time.perf_counter() - begun
    device = _device()
    _say(f"ready after {ready:.0f} s")
    prompts = Prompts(llm, job.prompt)
    for count in dict.fromkeys((1, max(job.sequences))):
        prompts.generate(count, min(16, job.tokens))
    rates: list[Rate] = []
    for count in job.sequences:
        rate = _measure(prompts, job, count)
        _say(f"{count} sequences: {rate.tokens_per_second:.1f} tokens/s, {rate.step_ms:.3f} ms a step")
        rates.append(rate)
        Path(job.out).write_bytes(msgspec.json.encode(Answer(device, ready, tuple(rates))))
    for i, rate in enumerate(rates):
        if job.traces is not None:
            rates[i] = msgspec.structs.replace(rate, step=_profile(prompts, job.traces, rate.sequences))
            Path(job.out).write_bytes(msgspec.json.encode(Answer(device, ready, tuple(rates))))


def _end(_number: int, _frame: FrameType | None) -> None:
    """Ends workers too, which would outlive this process and keep the memory."""
    if os.getpid() == os.getpgrp():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(128 + signal.SIGTERM)  # a worker that has no handler of its own yet


def _start(job: Job) -> Any:
    """vLLM as the server would configure it, without the server."""
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    options = make_arg_parser(FlexibleArgumentParser()).parse_args(list(job.words))
    if options.model_tag is not None:
        options.model = options.model_tag
    arguments = EngineArgs.from_cli_args(options)
    arguments.disable_log_stats = False  # they count drafts
    arguments.skip_tokenizer_init = True
    if job.dummy:
        from dgx_vllm.bench_decode import random_weights

        arguments.load_format = random_weights.LOAD_FORMAT
        arguments.worker_extension_cls = random_weights.EXTENSION
    if job.traces is not None:
        arguments.profiler_config = {
            "profiler": "torch",
            "torch_profiler_dir": job.traces,
            "torch_profiler_activities": ["CUDA"],
            "torch_profiler_with_stack": False,
            "torch_profiler_dump_cuda_time_total": False,
            "ignore_frontend": True,
        }
    return LLM(**vars(arguments))


class Prompts:
    """Random prompts for an engine, and what their answers took.

    Args:
        llm: a `vllm.LLM`.
        length: tokens in each prompt.
    """

    def __init__(self, llm: Any, length: int) -> None:
        self.llm = llm
        self._length = length
        self._vocabulary = llm.model_config.get_vocab_size()
        self._random = random.Random(0)

    def generate(self, count: int, tokens: int) -> float:
        """Seconds that `tokens` greedy tokens for each of `count` new prompts take."""
        from vllm import SamplingParams

        prompts = [
            {"prompt_token_ids": [self._random.randrange(self._vocabulary) for _ in range(self._length)]}
            for _ in range(count)
        ]
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        begun = time.perf_counter()
        self.llm.generate(prompts, params, use_tqdm=False)
        return time.perf_counter() - begun

    def drafts(self) -> tuple[int, int, int]:
        """Steps with drafts, drafts and accepted ones since the start."""
        counters = {metric.name: getattr(metric, "value", 0) for metric in self.llm.get_metrics()}
        names = ("drafts", "draft_tokens", "accepted_tokens")
        steps, made, taken = (int(counters.get(f"vllm:spec_decode_num_{name}", 0)) for name in names)
        return steps, made, taken


def _measure(prompts: Prompts, job: Job, count: int) -> Rate:
    """Long runs less short ones: prefill and whatever is once a request drop out."""
    seconds, steps, made, taken = [], [], 0, 0
    for _ in range(job.repeats):
        short = prompts.generate(count, 1)
        before = prompts.drafts()
        long = prompts.generate(count, job.tokens)
        drafted = [after - b for after, b in zip(prompts.drafts(), before, strict=True)]
        seconds.append(long - short)
        # vLLM counts a step with drafts once for each sequence.
        steps.append(drafted[0] / count if drafted[0] else job.tokens - 1)
        made, taken = made + drafted[1], taken + drafted[2]
    step_ms = [1e3 * s / n for s, n in zip(seconds, steps, strict=True)]
    tokens = job.tokens - 1
    return Rate(
        count,
        statistics.median(count * tokens / s for s in seconds),
        statistics.median(step_ms),
        tuple(step_ms),
        job.repeats * tokens / sum(steps),
        (taken, made) if made else None,
    )


def _profile(prompts: Prompts, directory: str, count: int) -> Step | None:
    prefix = trace.prefix(count)
    steps = _PROFILED_STEPS
    prompts.llm.start_profile(prefix, delay_iterations=_SETTLING_STEPS, max_iterations=steps)
    prompts.generate(count, 4 * (_SETTLING_STEPS + steps))
    prompts.llm.stop_profile()
    for path in trace.files(Path(directory), count):
        return trace.step(trace.read(path), steps)
    return None


def _device() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"


def _say(words: str) -> None:
    print(f"dgx-vllm bench: {words}", flush=True)


def _arguments(words: Sequence[str]) -> Path:
    (path,) = words
    return Path(path)


if __name__ == "__main__":  # vLLM starts its engine by importing this again
    main(_arguments(sys.argv[1:]))

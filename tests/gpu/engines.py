"""The engines that the tests ask, by name, and how they are run."""

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from job import Answer, Job, Request

from dgx_vllm.bench_decode import model_configs
from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.formats.dense_dtype import additional_config
from helpers.transcripts import Transcript, transcripts

#: How many engines may run beside each other on the GPU; each takes up to 8 GB of it.
VARIABLE = "DGX_VLLM_GPU_ENGINES"

_SECONDS = 1200
_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    # In one process, so that layers can be called.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # What greedy decoding does not use would be compiled, and 88 variants of GDN's prefill be timed.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_TRITON_FORCE_FIRST_CONFIG": "1",
    "TORCHINDUCTOR_COMPILE_THREADS": "2",
    "OMP_NUM_THREADS": "1",
    # Two ranks sum by NCCL alone, as two Sparks do.
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
    "VLLM_ALLREDUCE_USE_FLASHINFER": "0",
}
_EVERYWHERE: dict[str, Any] = {
    "dtype": "bfloat16",
    "max_model_len": 1024,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 1024,
    "enable_prefix_caching": False,
    "disable_log_stats": False,
    "seed": 0,
}
_ON_GPU: dict[str, Any] = {
    "gpu_memory_utilization": 0.05,
    "kv_cache_memory_bytes": 2**30,
    "gdn_prefill_backend": "triton",
}
#: Each holds half of the experts.
_TWO_RANKS: dict[str, Any] = {
    "tensor_parallel_size": 2,
    "enable_expert_parallel": True,
    "disable_custom_all_reduce": True,
    "compilation_config": {"pass_config": {"fuse_allreduce_rms": False}},
}
_DRAFTS = {"speculative_config": {"method": "mtp", "num_speculative_tokens": 2}}

SHAPE, LAYERS = "qwen3-next-80b-a3b", 4
#: Tokens that are decoded of each sequence.
DECODED = 32


class EngineError(Exception):
    """An engine did not come to its end; it says why, and where its log lies."""


def random_weights(directory: Path, *, exact: bool = False, **arguments: Any) -> Job:
    """Four layers of Qwen3-Next-80B's shapes, made to say the same tokens; asked for their probabilities.

    Eight prompts of two tokens, one at a time and all together: no step has more than the kernel's 16.
    """
    (directory / "model").mkdir(parents=True)
    drawn = random.Random(1)
    vocabulary = model_configs.config(SHAPE, LAYERS)["vocab_size"]
    tokens = [tuple(drawn.randrange(vocabulary) for _ in range(2 + DECODED)) for _ in range(8)]
    requests = [Request(each[:2], DECODED, each[2:]) for each in tokens]
    given = {
        "model": str(model_configs.write(directory / "model", SHAPE, LAYERS)),
        "load_format": "dgx-dummy",
        "skip_tokenizer_init": True,
        "enable_trace_replay": True,
        "linear_backend": "marlin",
        **arguments,
    }
    batches = (*((each,) for each in requests[:2]), tuple(requests))
    return Job(_EVERYWHERE | _ON_GPU | given, batches, exact)


def tasks() -> list[Transcript]:
    """What the demo was taught."""
    from transformers import AutoTokenizer

    return transcripts(AutoTokenizer.from_pretrained(CHECKPOINT))


def demo(**arguments: Any) -> Job:
    """The demo's tasks, all together and the first ones alone; a token more where the text must end."""
    requests = [Request(task.prompt, len(task.answer) + task.stops) for task in tasks()]
    batches = (tuple(requests), *((each,) for each in requests[:4]))
    return Job(_EVERYWHERE | _ON_GPU | {"model": str(CHECKPOINT), **arguments}, batches)


def on_cpu(job: Job) -> Job:
    """The same without what a CPU does not take, and uncompiled."""
    kept = {name: value for name, value in job.arguments.items() if name not in _ON_GPU}
    return msgspec.structs.replace(job, arguments=kept | {"enforce_eager": True})


def pruned(directory: Path) -> Job:
    """A synthetic model of the sizes of whole tiles, pruned by `dgx-vllm prune`, dense layers in FP8."""
    from dgx_vllm.evaluation import synthetic

    whole, out = synthetic.write(directory / "whole", inner=256), directory / "pruned"
    subprocess.run(
        [sys.executable, "-m", "dgx_vllm.cli", "prune", whole, out, "--method", "magnitude"],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    prompt = Request(tasks()[0].prompt, DECODED)
    given = {"model": str(out), **_FP8}
    return Job(_EVERYWHERE | _ON_GPU | given, ((prompt,),))


_DGX = {"moe_backend": "dgx", "linear_backend": "dgx"}
_FP8 = {**_DGX, "additional_config": additional_config("fp8")}
_OPTIONS: dict[str, dict[str, Any]] = {"stock": {}, "dgx": _DGX, "dgx, fp8": _FP8}
DEMOS = (*_OPTIONS, *(f"{name}, drafts" for name in _OPTIONS))

#: On two GPUs.
RANKS: dict[str, Callable[[Path], Job]] = {
    "random": lambda place: random_weights(place, **_DGX, **_TWO_RANKS),
    "demo": lambda _: demo(**_DGX, **_TWO_RANKS),
    "demo, drafts": lambda _: demo(**_DGX, **_TWO_RANKS, **_DRAFTS),
}

#: What each is asked, given a directory for its model.
JOBS: dict[str, Callable[[Path], Job]] = {
    "random, marlin": lambda place: random_weights(place, moe_backend="marlin"),
    "random, dgx": lambda place: random_weights(place, **_DGX),
    # The reference asks the CPU for the experts' numbers, which CUDA graphs do not allow.
    "random, float32": lambda place: random_weights(
        place, exact=True, **_DGX, compilation_config={"cudagraph_mode": "NONE"}
    ),
    "pruned": pruned,
    **{f"demo, {name}": lambda _, given=given: demo(**given) for name, given in _OPTIONS.items()},
    **{
        f"demo, {name}, drafts": lambda _, given=given: demo(**given, **_DRAFTS)
        for name, given in _OPTIONS.items()
    },
}


def run(job: Job, directory: Path, environment: dict[str, str]) -> tuple[Answer, str]:
    """What an engine answers, and its log.

    Args:
        job: what it is asked.
        directory: for its files.
        environment: of its process; ours are added.

    Raises:
        EngineError: it failed.
    """
    asked, answered, log = (directory / name for name in ("job.json", "answer.json", "log"))
    asked.write_bytes(msgspec.json.encode(job))
    command = [sys.executable, Path(__file__).with_name("run_engine.py"), asked, answered]
    # Engines that differ in nothing that is compiled would write the same files at the same time.
    variables = {**environment, **_SETTINGS, "VLLM_CACHE_ROOT": str(directory / "cache")}
    with log.open("wb") as file:
        try:
            status = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, env=variables, timeout=_SECONDS
            ).returncode
        except subprocess.TimeoutExpired:
            raise EngineError(f"no end after {_SECONDS} s; its log is {log}") from None
    said = log.read_text(errors="replace")
    if status:
        errors = re.findall(r"^(?:\S+ )*?(\w*Error: .*)$", said, re.MULTILINE) or said.splitlines()[-1:]
        raise EngineError(f"status {status}: {' '.join(errors[-1:])}; its log is {log}")
    return msgspec.json.decode(answered.read_bytes(), type=Answer), said


class Engines:
    """Engines that all start now, as many at a time as the variable allows, and are asked for later.

    Args:
        names: of `JOBS`.
        directory: for their files.
        environment: see `run`.
    """

    def __init__(self, names: Iterable[str], directory: Path, environment: dict[str, str]) -> None:
        self._pool = ThreadPoolExecutor(int(os.environ.get(VARIABLE, "1")))

        def answer(name: str) -> tuple[Answer, str]:
            place = directory / re.sub(r"\W+", "-", name)
            place.mkdir()
            return run(JOBS[name](place), place, environment)

        self._answers: dict[str, Future[tuple[Answer, str]]] = {
            name: self._pool.submit(answer, name) for name in names
        }

    def answer(self, name: str) -> Answer:
        """What it answered.

        Raises:
            EngineError: it failed.
        """
        return self._answers[name].result()[0]

    def log(self, name: str) -> str:
        """What it said meanwhile; errors as `answer`."""
        return self._answers[name].result()[1]

    def close(self) -> None:
        """Wait for those that run, start no others."""
        self._pool.shutdown(cancel_futures=True)

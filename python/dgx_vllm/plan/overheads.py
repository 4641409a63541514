"""Overheads: memory for neither weights nor KV cache. Estimates with reasons; none measured on a GB10."""

import math
from dataclasses import dataclass

from dgx_vllm.host.machine import GIB, Platform
from dgx_vllm.plan import dtypes
from dgx_vllm.plan.architecture import Architecture
from dgx_vllm.util.errors import UserError

#: Kept free on unified memory. Under pressure a GB10 wedges or resets instead of failing an allocation
#: (open-gpu-kernel-modules#1358, vllm#56824), and FlashInfer compiles (`COMPILE_JOB`): all but its largest
#: job can run even when all else is full.
RESERVE = 8 * 10**9
#: Kept free where nothing is compiled on the side and Linux's own way out, the OOM killer, works.
CPU_RESERVE = 10**9
#: Of the reserve: where new requests are refused, and where the server is ended. Together
#: they leave a compile of 6 GB room. Not measured on a GB10.
SHED_SHARE, FLOOR_SHARE = 1 / 4, 1 / 8

#: What one step holds at most where nobody says: vLLM's defaults for a server (engine/arg_utils.py,
#: get_batch_defaults). NVML does not tell how much memory a GB10 has: vLLM 0.32 takes it for a small GPU.
BATCHED_TOKENS: dict[Platform, int] = {"cuda": 2048, "cpu": 2048}
SEQUENCES: dict[Platform, int] = {"cuda": 256, "cpu": 128}

#: What `offloaded` is called among the others.
OFFLOADED = "offloaded KV cache"

#: The most that one of FlashInfer's compile jobs takes. They take 3 to 8 GiB each, and it starts one a core
#: (flashinfer#3634).
COMPILE_JOB = 8 * GIB


@dataclass(frozen=True)
class Overhead:
    """Memory beyond weights and KV cache.

    Args:
        name: what uses it.
        bytes: how much.
        source: the origin of the figure.
    """

    name: str
    bytes: int
    source: str


def reserve(platform: Platform) -> int:
    return RESERVE if platform == "cuda" else CPU_RESERVE


def of(
    platform: Platform, architecture: Architecture | None, batched_tokens: int, sequences: int
) -> tuple[Overhead, ...]:
    """What serving takes in addition to weights and KV cache.

    Args:
        platform: what serves.
        architecture: the model's, None where it is unknown; what depends on it is then left out.
        batched_tokens: the most tokens in a step.
        sequences: the most sequences in a step.
    """
    overheads = [_RUNTIME[platform]]
    if architecture and architecture.hidden:
        # A layer's input and output, the residual and its normalized copy, and twice its widest outputs, in
        # the model's dtype: what is alive at once when a layer runs.
        width = 4 * architecture.hidden + 2 * architecture.widest
        number = dtypes.BYTES.get(architecture.dtype, 2)
        overheads.append(
            Overhead(
                "activations",
                number * width * batched_tokens,
                f"estimate for a step of {batched_tokens} tokens",
            )
        )
    if architecture and architecture.vocabulary:
        overheads.append(
            Overhead(
                "logits",
                2 * 4 * architecture.vocabulary * sequences,
                f"logits and probabilities in float32 for {sequences} sequences",
            )
        )
    return tuple(overheads)


def offloaded(size: str | None, backend: str | None) -> tuple[Overhead, ...]:
    """The buffer that takes what the KV cache drops: the CPU's, which is the same memory where it is unified.

    Args:
        size: --kv-offloading-size, in GiB; None where nothing is offloaded.
        backend: --kv-offloading-backend; None for vLLM's own. LMCache's memory is a server's of its own.

    Raises:
        UserError: a size that no buffer can have.
    """
    if size is None or backend == "lmcache":
        return ()
    gib = float(size)
    if not 0 < gib < math.inf:
        raise UserError(f"--kv-offloading-size {size} is out of range: it must be above 0 GiB")
    return (Overhead(OFFLOADED, int(gib * GIB), "--kv-offloading-size"),)


_RUNTIME: dict[Platform, Overhead] = {
    "cuda": Overhead(
        "vLLM, torch, CUDA",
        5 * GIB,
        "assumed: 3 GiB for the processes (profiles/demo.toml), 2 GiB for CUDA context, kernels and graphs",
    ),
    "cpu": Overhead(
        "vLLM and torch",
        2 * 10**9,
        "measured with the demo on x86_64: 1.7 GB in three processes (PSS), rounded up",
    ),
}

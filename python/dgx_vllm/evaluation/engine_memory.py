"""Memory: what an engine for passes over a text takes."""

import math
from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.checkpoints import headers
from dgx_vllm.plan import guard, overheads

#: Tokens in a window of the text.
WINDOW = 512
#: Tokens in a step: some windows.
BATCHED = 4 * WINDOW
CACHE_BYTES = 2**30


def needed(checkpoint: Path, environ: Mapping[str, str]) -> int:
    """Bytes: the weights as they are stored, the cache, and what else vLLM takes.

    Args:
        checkpoint: the model's directory.
        environ: of this process.
    """
    weights = sum(path.stat().st_size for path in headers.files(checkpoint))
    model = guard.survey(str(checkpoint), environ, None).model
    # Each token of a window may be asked for its log-probabilities.
    beside = overheads.of("cuda", model.architecture if model else None, BATCHED, WINDOW)
    return weights + CACHE_BYTES + sum(overhead.bytes for overhead in beside)


def share(needed: int, total: int) -> float:
    """The share of memory that vLLM wants free at start, even where the cache is given in bytes.

    As much as will be taken: with less, a model that does not fit would be found out while it loads, and a
    GB10 without memory wedges instead of failing.

    Args:
        needed: bytes; where the memory is the host's, with what is left to it.
        total: bytes that there are.
    """
    return min(math.ceil(100 * needed / total) / 100, 1.0)

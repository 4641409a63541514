"""Engine: vLLM in this process, for passes over a text."""

import os
from pathlib import Path
from typing import Any

from dgx_vllm.evaluation import engine_memory
from dgx_vllm.evaluation.engine_memory import WINDOW
from dgx_vllm.formats.dense_dtype import Dtype, additional_config
from dgx_vllm.host import machine
from dgx_vllm.plan import guard, overheads
from dgx_vllm.util.errors import UserError

_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # In this process, so that hooks can be set on the model.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}


def start(directory: Path, logprobs: int = 0, dense_dtype: Dtype = "bf16") -> Any:
    """A `vllm.LLM` without compilation, drafts or prefix cache, and with little room for sequences.

    Args:
        directory: the checkpoint.
        logprobs: how many of a prompt's log-probabilities a token may be asked for; -1 for all.
        dense_dtype: what the layers that the checkpoint left in BF16 become.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import torch
    from vllm import LLM

    room: dict[str, Any] = {}
    if torch.cuda.is_available():
        total = torch.cuda.mem_get_info()[1]
        # On unified memory what `serve` leaves alone is left alone here, too.
        reserve = overheads.RESERVE if guard.guards(machine.detect()) else 0
        share = engine_memory.share(engine_memory.needed(directory, os.environ) + reserve, total)
        room = {"kv_cache_memory_bytes": engine_memory.CACHE_BYTES, "gpu_memory_utilization": share}
    return LLM(
        model=str(directory),
        dtype="bfloat16",
        max_model_len=WINDOW + 1,
        max_num_batched_tokens=engine_memory.BATCHED,
        max_num_seqs=8,
        max_logprobs=logprobs,
        additional_config=additional_config(dense_dtype) or {},
        enforce_eager=True,
        enable_prefix_caching=False,
        **room,
    )


def text(file: Path) -> str:
    """The text in a file.

    Raises:
        UserError: it cannot be read, is not UTF-8 or says nothing.
    """
    try:
        content = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text; convert it, or give another file") from error
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; give a text file that exists") from error
    if not content.strip():
        raise UserError(f"{file} holds no text; give one with a few thousand words")
    return content


def windows(llm: Any, words: str, tokens: int) -> list[list[int]]:
    """The text's first tokens, cut into windows of two tokens or more, each a sequence of its own."""
    ids = llm.get_tokenizer().encode(words, add_special_tokens=False)[:tokens]
    cut = [ids[begin : begin + WINDOW] for begin in range(0, len(ids), WINDOW)]
    return [window for window in cut if len(window) > 1]

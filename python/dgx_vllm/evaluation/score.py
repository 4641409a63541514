"""Score: what a model gives the tokens of a text, by vLLM, in a process that then gives all memory back.

    python -m dgx_vllm.evaluation.score CHECKPOINT TEXT OUT.safetensors TOKENS DENSE_DTYPE

OUT holds, for each token but the first of each window:

    token  int32 [n]              its id
    ids    int32 [n, most]        the ids that log-probabilities are known of, -1 where there are no more
    logs   float32 [n, most]      their log-probabilities, in nats

Standard output gets `scored N of TOTAL` after each window.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import save_file

from dgx_vllm.evaluation import engine
from dgx_vllm.formats.dense_dtype import Dtype

#: Vocabularies up to this size are asked for whole.
SMALL_VOCABULARY = 4096
#: Of larger ones the likeliest, besides the token that came.
LIKELIEST = 64


def main(directory: str, text: str, out: str, tokens: str, dense_dtype: str) -> None:
    """The command above."""
    dtype: Dtype = next(known_dtype for known_dtype in get_args(Dtype) if known_dtype == dense_dtype)
    llm = engine.start(Path(directory), logprobs=-1, dense_dtype=dtype)
    size = llm.model_config.get_vocab_size()
    cut = engine.windows(llm, engine.text(Path(text)), int(tokens))
    total = sum(len(window) for window in cut)
    done = 0
    parts = []
    for window in cut:
        parts.append(_scored(llm, window, size))
        done += len(window)
        print(f"scored {done} of {total}", flush=True)
    save_file(_joined(parts), out)
    llm.llm_engine.engine_core.shutdown()


def _scored(llm: Any, window: list[int], vocabulary: int) -> dict[str, torch.Tensor]:
    """One window's rows of the file, as tensors: as objects they would take ten times the memory."""
    from vllm import SamplingParams

    whole = vocabulary <= SMALL_VOCABULARY
    params = SamplingParams(
        temperature=0, max_tokens=1, prompt_logprobs=-1 if whole else LIKELIEST, detokenize=False
    )
    (output,) = llm.generate([{"prompt_token_ids": window}], params, use_tqdm=False)
    rows = output.prompt_logprobs[1:]
    most = vocabulary if whole else LIKELIEST + 1
    ids = torch.full((len(rows), most), -1, dtype=torch.int32)
    logs = torch.full((len(rows), most), -torch.inf)
    for i, known in enumerate(rows):
        ids[i, : len(known)] = torch.tensor(list(known))
        logs[i, : len(known)] = torch.tensor([entry.logprob for entry in known.values()])
    return {"token": torch.tensor(window[1:], dtype=torch.int32), "ids": ids, "logs": logs}


def _joined(parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    if not parts:
        return {
            "token": torch.empty(0, dtype=torch.int32),
            "ids": torch.empty(0, 0, dtype=torch.int32),
            "logs": torch.empty(0, 0),
        }
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


if __name__ == "__main__":
    main(*sys.argv[1:])

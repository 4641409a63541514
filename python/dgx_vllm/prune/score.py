"""Score: what a model gives the tokens of a text, by vLLM, in a process that then gives all memory back.

    python -m dgx_vllm.prune.score CHECKPOINT TEXT OUT.safetensors TOKENS

OUT holds, for each token but the first of each window:

    token  int32 [n]              its id
    ids    int32 [n, most]        the ids that log-probabilities are known of, -1 where there are no more
    logs   float32 [n, most]      their log-probabilities, in nats
"""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dgx_vllm.prune import engine

#: Vocabularies up to this size are asked for whole.
SMALL_VOCABULARY = 4096
#: Of larger ones the likeliest, besides the token that came.
LIKELIEST = 64


def main(directory: str, text: str, out: str, tokens: str) -> None:
    """The command above."""
    llm = engine.start(Path(directory), logprobs=-1)
    whole = llm.model_config.get_vocab_size() <= SMALL_VOCABULARY
    cut = engine.windows(llm, engine.text(Path(text)), int(tokens))
    rows = [row for window in cut for row in _rows(llm, window, -1 if whole else LIKELIEST)]
    most = max((len(known) for _, known in rows), default=0)
    ids = torch.full((len(rows), most), -1, dtype=torch.int32)
    logs = torch.full((len(rows), most), -torch.inf)
    for i, (_, known) in enumerate(rows):
        ids[i, : len(known)] = torch.tensor(list(known))
        logs[i, : len(known)] = torch.tensor(list(known.values()))
    token = torch.tensor([token for token, _ in rows], dtype=torch.int32)
    save_file({"token": token, "ids": ids, "logs": logs}, out)
    llm.llm_engine.engine_core.shutdown()


def _rows(llm: Any, window: list[int], most: int) -> list[tuple[int, dict[int, float]]]:
    from vllm import SamplingParams

    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=most, detokenize=False)
    (output,) = llm.generate([{"prompt_token_ids": window}], params, use_tqdm=False)
    pairs = zip(window[1:], output.prompt_logprobs[1:], strict=True)
    return [(token, {i: each.logprob for i, each in known.items()}) for token, known in pairs]


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The configs of published models, wherever the tests keep them."""

import json
from pathlib import Path
from typing import Any

from published_configs import CONFIGS

from dgx_vllm.bench_decode import model_configs

#: Of drafters: what was found of their config.json, and fields that follow from their targets'.
_DRAFTS = Path(__file__).parent / "configs" / "drafts"
_QWEN3_NEXT = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"

#: Served, or drafted with; their config.json was not found.
UNKNOWN = {
    "RedHatAI/gemma-4-26B-A4B-it-speculator.eagle3",
    "nvidia/Qwen3.6-35B-A3B-NVFP4",
}


def config(model: str) -> dict[str, Any] | None:
    """The fields of a model's config.json by its Hugging Face id, None where the tests have none."""
    if model in CONFIGS:
        return CONFIGS[model]
    if model == _QWEN3_NEXT:
        return model_configs.config("qwen3-next-80b-a3b")
    path = _DRAFTS / f"{model.rpartition('/')[2].lower()}.json"
    if not path.is_file():
        return None
    fields: dict[str, Any] = json.loads(path.read_text())
    return fields

"""Checkpoints of an architecture without a name, and what `plan` says of them."""

from pathlib import Path
from typing import Any

import msgspec

from dgx_vllm.plan import as_json, model, outlook, source
from dgx_vllm.plan.outlook import PlanRequest

BASE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 256,
    "max_position_embeddings": 4096,
    "dtype": "bfloat16",
}


def planned(directory: Path) -> dict[str, Any]:
    """What `dgx-vllm plan --json` prints."""
    found = model.understand(source.find(str(directory), {}))
    return msgspec.to_builtins(as_json.document(outlook.of(found, None, PlanRequest(10**11, "given"))))


def weights(plan: dict[str, Any], draft: bool) -> int:
    return sum(each["bytes"] for each in plan["weights"] if each["draft"] == draft)

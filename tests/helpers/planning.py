"""Checkpoints of an architecture without a name, and what `plan` says of them."""

import json
from pathlib import Path
from typing import Any

from dgx_vllm.plan import model, outlook, report, source
from dgx_vllm.plan.outlook import Wish

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
    return json.loads(json.dumps(report.as_json(outlook.of(found, None, Wish(10**11, "given")))))


def weights(plan: dict[str, Any], draft: bool) -> int:
    return sum(each["bytes"] for each in plan["weights"] if each["draft"] == draft)

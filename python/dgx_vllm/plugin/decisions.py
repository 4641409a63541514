"""What was decided about layers while they were made and loaded, for the key of compiled graphs.

The key of vLLM's cache holds its configuration and the files that were traced, and nothing of what we find
out meanwhile, such as a layer that stays in BF16 for lack of memory. The graph of an earlier start would be
taken, which reads another weight. `additional_config` is part of the key, which is computed when layers are
loaded.
"""

from pathlib import Path

from vllm.config import get_current_vllm_config_or_none

import dgx_vllm

_KEY = "dgx_decisions"
#: Another path, another version: that of a Nix store changes with everything that it was built from.
_VERSION = str(Path(dgx_vllm.__file__).resolve().parent)


def record(decision: str) -> None:
    """Have graphs that were compiled after other decisions, or by another version of ours, not be taken."""
    config = get_current_vllm_config_or_none()
    if config is None or not isinstance(config.additional_config, dict):
        return
    additional = config.additional_config
    additional[_KEY] = sorted({*additional.get(_KEY, ()), decision, _VERSION})

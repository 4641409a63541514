"""The launcher's own options: what `dgx-vllm serve` takes beside vLLM's flags."""

from dataclasses import dataclass
from pathlib import Path

from dgx_vllm.formats.dense_dtype import Dtype


@dataclass(frozen=True)
class Options:
    """As they were given; None where they were not.

    Args:
        profile: the name or file of the profile to apply.
        dry_run: print instead of start.
        as_json: print it for programs.
        ready_file: see `notify.Notifier`.
        api_key_file: a file whose one line is the key that clients must give.
        python_path: a directory of Python modules for the server.
        open_metrics: whether /metrics answers without the key.
        allow_known_faults: whether known faults of kernels are the user's own risk.
        memory_reserve: an amount of memory to leave alone.
        memory_budget: an amount of memory that the server may take.
        memory_shed: an amount below which new requests are refused.
        memory_floor: an amount below which the server is ended.
        dense_dtype: what the projections that the checkpoint left in BF16 become, see `dense`.
        watchdog: seconds of the engine's silence after which the server is ended.
    """

    profile: str | None = None
    dry_run: bool = False
    as_json: bool = False
    ready_file: Path | None = None
    api_key_file: Path | None = None
    python_path: Path | None = None
    open_metrics: bool = False
    allow_known_faults: bool = False
    memory_reserve: str | None = None
    memory_budget: str | None = None
    memory_shed: str | None = None
    memory_floor: str | None = None
    dense_dtype: Dtype | None = None
    watchdog: float | None = None

"""The launcher's own options of `dgx-vllm serve`.

Made from options.toml by `python -m dgx_vllm.launch.settings.generate_options`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values that were given, else the defaults.

    Args:
        profile: The profile to apply, by name or as a TOML file (default: the model's own).
        dry_run: Print the command, the environment and the source of each setting, then exit.
        as_json: With --dry-run: print JSON for programs.
        ready_file: A file for the server's address as JSON, written when the server has generated a token.
        api_key_file: A file with the API key that clients must send.
        python_path: A directory with your own Python modules: middleware, parsers, plugins.
        open_metrics: Answer /metrics without the API key, for Prometheus.
        allow_known_faults: Start even if a known kernel bug may crash the server, as with 5 or more draft
            tokens and GDN.
        memory_reserve: Memory to keep free (default: 8GB, or 1GB on the CPU backend).
        memory_budget: Memory that this server may use (default: all that is available).
        memory_shed: Available memory below which new requests get 503 (default: a quarter of the reserve; 0:
            never).
        memory_floor: Available memory below which the server is stopped (default: an eighth of the reserve;
            0: never).
        dense_dtype: The type of the linear layers that the checkpoint left in BF16, lm_head included
            (default: the profile's, or bf16).
        watchdog: Seconds of silence from the engine after which the server is stopped (default: 120; 0:
            never).
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
    dense_dtype: Literal["bf16", "fp8", "nvfp4"] | None = None
    watchdog: float = 120

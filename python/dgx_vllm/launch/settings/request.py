"""The request: all that is known before the settings are resolved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dgx_vllm.checkpoints.speculators import Speculator
from dgx_vllm.launch.settings.memory_guard import Memory
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.launch.settings.protection import Protection
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.vllm_flags.flags import Values


@dataclass(frozen=True)
class Request:
    """What the user asked for, and what the model's files say.

    Args:
        flags: the command line's vLLM flags, the positional model among them as `model`.
        environ: the process's environment.
        profile: the profile to apply, if any.
        config: the settings of the file that `--config` names.
        model_config: the model's config.json where it is on this machine.
        place: the model's directory where it is on this machine.
        memory: what the memory guard goes by, None where it has nothing to guard.
        protection: when the running server refuses work and when it is ended.
        options: the launcher's own.
        python_path: a directory of Python modules for the server, None for none.
        speculator: what the model says of another one that is served in its place.
    """

    flags: Values
    environ: Mapping[str, str]
    profile: Profile | None = None
    config: Values = field(default_factory=dict)
    model_config: Mapping[str, Any] | None = None
    place: Path | None = None
    memory: Memory | None = None
    protection: Protection = field(default_factory=Protection)
    options: Options = field(default_factory=Options)
    python_path: str | None = None
    speculator: Speculator | None = None

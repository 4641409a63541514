"""vLLM's CPU build made to answer as its CUDA build would on a GB10, in a process that has not imported it.

Replaced is only what the CPU build lacks or what asks the driver.
"""

import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any
from unittest.mock import MagicMock

#: Extension modules of the CUDA build. Importing them registers operators; nothing here calls one.
_EXTENSIONS = (
    "vllm._C_stable_libtorch",
    "vllm._moe_C_stable_libtorch",
    "vllm._qutlass_C",
    "vllm.vllm_flash_attn._vllm_fa2_C",
)
_FLASHINFER = ("flashinfer", "flashinfer.decode", "flashinfer.prefill", "flashinfer.utils")


def install(flashinfer: bool) -> None:
    """Replaces vLLM's platform.

    Args:
        flashinfer: whether FlashInfer is to be there and able to compile.
    """
    for missing in _EXTENSIONS:
        sys.modules[missing] = types.ModuleType(missing)

    import vllm.platforms
    from vllm.platforms.cuda import CudaPlatformBase
    from vllm.platforms.interface import DeviceCapability

    class Gb10(CudaPlatformBase):
        """A CUDA platform that needs no driver."""

        device_name = "cuda"

        @classmethod
        def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:
            return DeviceCapability(12, 1)

        @classmethod
        def get_device_name(cls, device_id: int = 0) -> str:
            return "NVIDIA GB10"

        @classmethod
        def get_device_total_memory(cls, device_id: int = 0) -> int:
            """NVML answers so on a GB10, whose memory is the host's."""
            raise RuntimeError("Not Supported")

        @classmethod
        def is_fully_connected(cls, device_ids: list[int]) -> bool:
            return True

        @classmethod
        def num_compute_units(cls, device_id: int = 0) -> int:
            return 48

    platform: Any = Gb10()
    vllm.platforms._current_platform = platform

    if flashinfer:
        for name in _FLASHINFER:
            sys.modules[name] = MagicMock(__spec__=ModuleSpec(name, None))

    import vllm.utils.flashinfer as availability

    for name in list(vars(availability)):
        if name.startswith("has_flashinfer"):
            setattr(availability, name, lambda *_: flashinfer)

    from vllm import _custom_ops

    # What the extension answers: the CUDA wheel has these kernels for 12.x.
    for name in ("fp4", "fp8", "block_fp8"):
        setattr(_custom_ops, f"cutlass_scaled_mm_supports_{name}", lambda capability: capability // 10 == 12)

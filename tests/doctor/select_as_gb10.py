"""Run as a program: vLLM's CPU build made to select as its CUDA build would on a GB10; prints `selection`'s
answers.

Replaced is only what the CPU build lacks or what asks the driver: the extension modules, the capability, the
answers of the CUTLASS extension (for 12.x the CUDA wheel has the kernels, see the findings about its
modules), and FlashInfer, which sys.argv[1] says to be there and able to compile (yes) or not there (no).
"""

import json
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any
from unittest.mock import MagicMock

for missing in (
    "vllm._C_stable_libtorch",
    "vllm._moe_C_stable_libtorch",
    "vllm._qutlass_C",
    "vllm.vllm_flash_attn._vllm_fa2_C",
):
    sys.modules[missing] = types.ModuleType(missing)

import torch  # noqa: E402
import vllm.platforms  # noqa: E402
from vllm.platforms.cuda import CudaPlatformBase  # noqa: E402
from vllm.platforms.interface import DeviceCapability  # noqa: E402

from dgx_vllm.host.spark import large  # noqa: E402


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
        return large().visible

    @classmethod
    def is_fully_connected(cls, device_ids: list[int]) -> bool:
        return True

    @classmethod
    def num_compute_units(cls, device_id: int = 0) -> int:
        return 48


def main(flashinfer: bool) -> None:
    platform: Any = Gb10()
    vllm.platforms._current_platform = platform

    if flashinfer:
        for name in ("flashinfer", "flashinfer.decode", "flashinfer.prefill", "flashinfer.utils"):
            sys.modules[name] = MagicMock(__spec__=ModuleSpec(name, None))

    import vllm.utils.flashinfer as availability

    for name in list(vars(availability)):
        if name.startswith("has_flashinfer"):
            setattr(availability, name, lambda *_: flashinfer)

    from vllm import _custom_ops

    for name in ("fp4", "fp8", "block_fp8"):
        setattr(_custom_ops, f"cutlass_scaled_mm_supports_{name}", lambda capability: capability // 10 == 12)

    from dgx_vllm.doctor import selection

    torch.set_default_dtype(torch.bfloat16)
    print(json.dumps(selection.answers()))


if __name__ == "__main__":
    main(sys.argv[1] == "yes")

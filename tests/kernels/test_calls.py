"""The compiled library takes the call of `dgx_vllm.kernels.launch`: it refuses it for the right reason.

DGX_VLLM_KERNELS_LIBRARY names a library for this machine's processor. No GPU is needed, and none is used.
"""

import os

import pytest
import torch

from dgx_vllm.kernels import launch

if "DGX_VLLM_KERNELS_LIBRARY" not in os.environ:
    pytest.skip("needs DGX_VLLM_KERNELS_LIBRARY", allow_module_level=True)

TOKENS, HIDDEN, INTERMEDIATE, EXPERTS, TOP_K = 3, 128, 64, 4, 2


def codes(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


def scales(*shape: int) -> torch.Tensor:
    return codes(*shape).view(torch.float8_e4m3fn)


def test_what_is_wrong_with_a_call_is_that_its_tensors_are_on_the_cpu() -> None:
    """Number, order and types of the arguments are those of the library, or a TypeError would come first."""
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        launch.moe_decode(
            torch.zeros(TOKENS, HIDDEN, dtype=torch.bfloat16),
            torch.zeros(TOKENS, HIDDEN, dtype=torch.bfloat16),
            codes(EXPERTS, 2 * INTERMEDIATE, HIDDEN // 2),
            scales(EXPERTS, 128, HIDDEN // 16),
            torch.ones(EXPERTS),
            codes(EXPERTS, HIDDEN, INTERMEDIATE // 2),
            scales(EXPERTS, 128, INTERMEDIATE // 16),
            torch.ones(EXPERTS),
            torch.zeros(TOKENS, TOP_K, dtype=torch.int32),
            torch.ones(TOKENS, TOP_K),
            torch.zeros(EXPERTS, dtype=torch.int32),
            "silu",
        )

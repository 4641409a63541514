"""The checkpoint layout's meaning, restated in numpy with ml_dtypes."""

import ml_dtypes
import numpy as np
import torch

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor


def reference_values(tensor: Nvfp4Tensor) -> np.ndarray:
    """What a matrix's three tensors mean: float32 [rows, columns]."""
    packed = tensor.weight.numpy()
    nibbles = np.stack((packed & 15, packed >> 4), axis=-1).reshape(packed.shape[0], -1)
    scales = tensor.weight_scale.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    values = nibbles.view(ml_dtypes.float4_e2m1fn).astype(np.float32) * np.repeat(scales, 16, axis=1)
    return values * np.float32(tensor.weight_scale_2.item())

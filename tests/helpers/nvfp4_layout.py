"""The checkpoint layout's meaning, restated in numpy with ml_dtypes."""

import ml_dtypes
import numpy as np
import torch

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor
from helpers.checkpoint_reader import dequantize


def reference_values(tensor: Nvfp4Tensor) -> np.ndarray:
    """What a matrix's three tensors mean: float32 [rows, columns]."""
    scales = tensor.weight_scale.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn)
    return dequantize(tensor.weight.numpy(), scales, tensor.weight_scale_2.numpy())

#!/bin/sh
# Three writers of NVFP4 checkpoints give a block of sixteen zeros three different scales, all valid: torchao 0.18.0
# the E4M3 byte 8 (2^-6), ModelOpt 0.47.0 the byte 56 (1.0), compressed-tensors 0.17.0 the value 0.125.
# ModelOpt gives a tensor that is all zeros the global scale 0 and NaN block scales (byte 255): a reader that
# multiplies by them loads NaN where the model had zeros.
#
# Seen: torchao 8; modelopt 56, all zeros: 255 under 0.0; compressed-tensors 0.125.
# Installs torch (a large download).
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchao==0.18.0 nvidia-modelopt==0.47.0 \
  compressed-tensors==0.17.0 transformers==5.24.0 datasets==5.2.0 accelerate==1.15.0 requests==2.34.2
"$place/venv/bin/python" - 2> "$place/log" <<'PYTHON' || { cat "$place/log"; exit 1; }
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor
from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize

torch.manual_seed(0)
matrix = torch.randn(1, 32)
matrix[:, :16] = 0  # the first of two blocks

scales, _ = nvfp4_quantize(matrix.bfloat16(), 16, per_tensor_scale=matrix.abs().max() / (448 * 6))
torchao = int(scales.view(torch.uint8)[0, 0])
_, scales, _ = NVFP4QTensor.quantize(matrix, 16)
modelopt = int(scales.view(torch.uint8)[0, 0])
_, scales, whole = NVFP4QTensor.quantize(torch.zeros(1, 32), 16)
empty = scales.view(torch.uint8)[0].tolist()
arguments = QuantizationArgs(
    num_bits=4, type="float", strategy="tensor_group", symmetric=True, group_size=16, scale_dtype=torch.float8_e4m3fn
)
largest = torch.tensor([[0.0, 1.0]])
compressed = calculate_qparams(
    -largest, largest, arguments, global_scale=generate_gparam(-largest.max(), largest.max())
)[0].flatten()[0].float().item()
print(f"torchao {torchao}; modelopt {modelopt}, all zeros: {empty} under {float(whole)}; compressed-tensors {compressed}")
assert (torchao, modelopt, compressed) == (8, 56, 0.125), "the behaviour has changed"
assert empty == [255, 255] and float(whole) == 0, "the behaviour has changed"
PYTHON

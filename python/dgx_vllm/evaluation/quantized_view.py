"""Served: a checkpoint's matrices as a server holds them, after `--dense-dtype`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.evaluation.rounding import Rounding, fp8_fitted, nvfp4_fitted
from dgx_vllm.evaluation.tensors import Tensors
from dgx_vllm.formats import dense_dtype, tensor_roles
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.formats.nvfp4 import BLOCK_SIZE, Nvfp4Tensor, dequantize
from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.util.errors import UserError

_PLAIN = {"BF16": "BF16", "F16": "FP16", "F32": "F32"}
#: Of what two values share a byte: elements for each of the header's. Only F4's shape counts the values.
_PACKED = {"U8": 2, "F4": 1}
#: Elements that are looked at together: 64 MiB in float32.
_CHUNK = 2**24
#: Of the sizes of what is quantized. What else stays (`plugin.dense_method`) depends on the machine.
_MULTIPLES = {"fp8": 16, "nvfp4": 64}
#: What vLLM makes the rows of an lm_head a multiple of.
_HEAD_ROWS = 64


@dataclass(frozen=True)
class Matrix:
    """One matrix of a checkpoint.

    Args:
        module: its name without `.weight`.
        shape: [rows, columns], unpacked.
        precision: as it is served: BF16, FP16, F32, FP8 or NVFP4.
        size: bytes as stored.
    """

    module: str
    shape: tuple[int, int]
    precision: str
    size: int

    @property
    def plain(self) -> bool:
        """Whether it is not quantized."""
        return self.precision in _PLAIN.values()


@dataclass(frozen=True)
class Option:
    """What is done at load to matrices that a checkpoint left unquantized.

    Args:
        precision: what they become.
        rounding: how.
        targets: by a matrix's module and what is stored of it, whether it is one of them.
    """

    precision: str
    rounding: Rounding
    targets: Callable[[str, Stored], bool]


def option(dtype: Dtype) -> Option | None:
    """What `--dense-dtype` does, as far as weights go; None where it does nothing."""
    if dtype == "bf16":
        return None
    rounding = {"fp8": fp8_fitted, "nvfp4": nvfp4_fitted}[dtype]

    def taken(module: str, stored: Stored) -> bool:
        fits = not any(size % _MULTIPLES[dtype] for size in _sizes(module, stored.shape))
        return stored.dtype == "BF16" and fits and dense_dtype.covers(module)

    return Option(dtype.upper(), rounding, taken)


def _sizes(module: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """As vLLM holds it, which pads an lm_head's rows."""
    if tensor_roles.of(f"{module}.weight") is not Part.LM_HEAD:
        return shape
    return (-(-shape[0] // _HEAD_ROWS) * _HEAD_ROWS, *shape[1:])


class Served:
    """A checkpoint as it is served.

    Args:
        checkpoint: its files.
        option: what is done to it at load.
    """

    def __init__(self, checkpoint: Tensors, option: Option | None = None) -> None:
        self.checkpoint = checkpoint
        self._option = option
        self.matrices: dict[str, Matrix] = {}
        self.unknown = 0
        for name, stored in checkpoint.tensors.items():
            if name.endswith(".weight") and len(stored.shape) == 2:
                matrix = self._matrix(name.removesuffix(".weight"), stored)
                if matrix is None:
                    self.unknown += 1
                else:
                    self.matrices[matrix.module] = matrix
            elif name.endswith((".weight_packed", ".qweight")):
                self.unknown += 1

    def chunks(self, module: str) -> Iterator[tuple[int, int]]:
        """First and last row but one of each part of a matrix that fits into memory."""
        rows, columns = self.matrices[module].shape
        step = max(_CHUNK // columns, 1)
        return ((begin, min(begin + step, rows)) for begin in range(0, rows, step))

    def reader(self, module: str) -> Callable[[int, int], torch.Tensor]:
        """A function from the first row and the last but one to these rows' values, float32."""
        if self._option is None or not self._takes(self._option, module):
            return lambda begin, end: self._stored(module, begin, end)
        rounded = self._option.rounding(self._stored(module, *chunk) for chunk in self.chunks(module))
        return lambda begin, end: rounded(self._stored(module, begin, end))

    def _takes(self, option: Option, module: str) -> bool:
        stored = self.checkpoint.tensors[f"{module}.weight"]
        return stored.dtype in _PLAIN and option.targets(module, stored)

    def _matrix(self, module: str, stored: Stored) -> Matrix | None:
        rows, columns = stored.shape
        scale = self.checkpoint.tensors.get(f"{module}.weight_scale")
        if stored.dtype in _PLAIN:
            taken = self._option is not None and self._takes(self._option, module)
            precision = self._option.precision if self._option and taken else _PLAIN[stored.dtype]
        elif stored.dtype in _PACKED and scale is not None:
            columns *= _PACKED[stored.dtype]
            if scale.shape != (rows, columns // BLOCK_SIZE) or scale.dtype != "F8_E4M3":
                return None
            if f"{module}.weight_scale_2" not in self.checkpoint.tensors:
                return None
            precision = "NVFP4"
        elif stored.dtype == "F8_E4M3" and scale is not None and scale.elements in (1, rows):
            precision = "FP8"
        else:
            return None
        return Matrix(module, (rows, columns), precision, stored.size)

    def _stored(self, module: str, begin: int, end: int) -> torch.Tensor:
        weight = self.checkpoint.rows(f"{module}.weight", begin, end)
        if weight.dtype in (torch.uint8, torch.float4_e2m1fn_x2):
            weight = weight.view(torch.uint8)
            scale = self.checkpoint.rows(f"{module}.weight_scale", begin, end)
            if scale.float().isnan().any():
                raise UserError(
                    f"{module}.weight_scale of {self.checkpoint.model} holds NaN, "
                    "as ModelOpt writes for weights that are all zero; "
                    "the layer gives NaN when it is served: quantize again without it"
                )
            scale_2 = self.checkpoint.tensor(f"{module}.weight_scale_2").reshape(())
            return dequantize(Nvfp4Tensor(weight, scale, scale_2))
        if weight.dtype == torch.float8_e4m3fn:
            scale = self.checkpoint.tensor(f"{module}.weight_scale").float().reshape(-1, 1)
            return weight.float() * (scale[begin:end] if scale.shape[0] > 1 else scale)
        return weight.float()

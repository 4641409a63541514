"""Tensors that claim to be on a CUDA device and have no memory, for what is checked before a launch."""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

#: DLPack's type codes, with bits.
BFLOAT16, FLOAT32, FLOAT16, INT32, INT64, UINT8 = (4, 16), (2, 32), (2, 16), (0, 32), (0, 64), (1, 8)

_CUDA = 2


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Managed(ctypes.Structure):
    """DLManagedTensor of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype = ctypes.py_object
_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class Claimed:
    """A tensor by DLPack.

    Args:
        shape: of it.
        dtype: one of the types above.
        device: the CUDA device's index.
        strides: in values; contiguous where not given.
        address: where it says that it is.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: tuple[int, int],
        device: int = 0,
        strides: Sequence[int] | None = None,
        address: int = 1 << 20,
    ) -> None:
        if strides is None:
            strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        # What is handed over points into these for as long as this object lives.
        self._sizes = (ctypes.c_int64 * len(shape))(*shape), (ctypes.c_int64 * len(shape))(*strides)
        self._device = device
        self._managed = _Managed(
            address, _Device(_CUDA, device), len(shape), _Type(*dtype, 1), *self._sizes, 0, None, None
        )

    def __dlpack__(self, **_: Any) -> Any:
        return _capsule(ctypes.addressof(self._managed), b"dltensor", None)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self._device

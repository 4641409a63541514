"""One safetensors file: whether it is whole, and what its header says, without reading a weight.

The format: eight bytes with the header's length, the header as JSON, then the tensors' bytes.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open

from dgx_vllm.util.errors import UserError

_LFS_POINTER = b"version https://git-lfs"


class Stored(msgspec.Struct, frozen=True):
    """One tensor of a safetensors file.

    Args:
        dtype: as the file calls it: BF16, U8, F8_E4M3, ...
        shape: as stored, packed elements counted as one.
        data_offsets: where its bytes begin and end.
    """

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.data_offsets[1] - self.data_offsets[0]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class Header(msgspec.Struct, frozen=True):
    """What stands at the head of a safetensors file.

    Args:
        begin: the byte at which tensors' offsets begin to count.
        tensors: by name.
    """

    begin: int
    tensors: Mapping[str, Stored]


def check(path: Path) -> None:
    """Refuses a file that is missing, or whose header is damaged or does not match its size.

    Raises:
        UserError: says what is wrong.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise UserError(
                    f"{path} is a Git LFS pointer, not weights; run `git lfs pull` in {path.parent}"
                )
        with safe_open(path, framework="np"):
            pass
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; fetch the checkpoint again") from error
    except SafetensorError as error:
        size = path.stat().st_size
        raise UserError(
            f"{path} is truncated or damaged ({size} bytes; {error}); fetch the checkpoint again"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def header(path: Path) -> Header:
    """The head of one file.

    safetensors' own library, which `check` asks, does not say where in the file a tensor's bytes are.

    Raises:
        UserError: as `check` does.
    """
    check(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        fields = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
    fields.pop("__metadata__", None)
    tensors = {name: msgspec.json.decode(raw, type=Stored) for name, raw in fields.items()}
    return Header(8 + length, tensors)

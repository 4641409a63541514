"""Headers: what a checkpoint on disk really holds, tensor by tensor, without reading a weight."""

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.util.errors import UserError


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


def present(directory: Path, reading: Reading = AUTO) -> bool:
    """Whether the weights that vLLM would load are safetensors."""
    found = files(directory, reading)
    return bool(found) and all(path.suffix == ".safetensors" for path in found)


def whole(directory: Path, reading: Reading = AUTO) -> bool:
    """Whether every file that the index names is there; a download may be under way."""
    return all(path.is_file() for path in files(directory, reading))


def read(directory: Path, reading: Reading = AUTO) -> dict[str, Stored]:
    """Every tensor that vLLM would load, by name.

    The format is that of safetensors: eight bytes with the header's length, then the header as JSON.

    Raises:
        UserError: a file is missing, cut short or no safetensors file.
    """
    found = files(directory, reading)
    return {name: tensor for path in found for name, tensor in header(path).tensors.items()}


def files(directory: Path, reading: Reading = AUTO) -> list[Path]:
    """The files of weights that vLLM would load, see `checkpoint.weights`."""
    return checkpoint.weights(directory, reading)


class Header(msgspec.Struct, frozen=True):
    """What stands at the head of a safetensors file.

    Args:
        begin: the byte at which tensors' offsets begin to count.
        tensors: by name.
    """

    begin: int
    tensors: Mapping[str, Stored]


def header(path: Path) -> Header:
    """The head of one file.

    Raises:
        UserError: it is missing, cut short or no safetensors file.
    """
    try:
        with path.open("rb") as file:
            length, size = int.from_bytes(file.read(8), "little"), path.stat().st_size
            # Read no gigabytes because eight bytes are wrong.
            head = file.read(length) if length <= size else b""
        fields = msgspec.json.decode(head, type=dict[str, msgspec.Raw])
        fields.pop("__metadata__", None)
        tensors = {name: msgspec.json.decode(raw, type=Stored) for name, raw in fields.items()}
        if 8 + length + max((tensor.data_offsets[1] for tensor in tensors.values()), default=0) != size:
            raise msgspec.DecodeError("the file's size")
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; fetch the checkpoint again") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is truncated or not a safetensors file; fetch the checkpoint again"
        ) from error
    return Header(8 + length, tensors)

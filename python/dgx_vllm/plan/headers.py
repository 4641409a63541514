"""Headers: what a checkpoint on disk really holds, tensor by tensor, without reading a weight."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dgx_vllm.errors import UserError


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


def present(directory: Path) -> bool:
    """Whether there are safetensors files to read."""
    return any(directory.glob("*.safetensors"))


def whole(directory: Path) -> bool:
    """Whether every file that the index names is there; a download may be under way."""
    return all(path.is_file() for path in files(directory))


def read(directory: Path) -> dict[str, Stored]:
    """Every tensor that vLLM would load, by name.

    The format is that of safetensors: eight bytes with the header's length, then the header as JSON.

    Raises:
        UserError: a file is missing, cut short or no safetensors file.
    """
    return {name: tensor for path in files(directory) for name, tensor in header(path).tensors.items()}


def files(directory: Path) -> list[Path]:
    """The safetensors files that vLLM would load, by name; the index may name some that are not there.

    Raises:
        UserError: the index is none.
    """
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        # Mistral's own checkpoints hold the same weights a second time.
        found = sorted(directory.glob("*.safetensors"))
        return [path for path in found if not path.name.startswith("consolidated")] or found
    try:
        names: Mapping[str, Any] = msgspec.json.decode(index.read_bytes())["weight_map"]
        return sorted({directory / name for name in names.values()})
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} has no weight_map; fetch the checkpoint again") from error


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
        raise UserError(f"{path} is truncated or no safetensors file; fetch the checkpoint again") from error
    return Header(8 + length, tensors)

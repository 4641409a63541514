"""Shard: one safetensors file, copied with some of its tensors replaced.

Pruned tensors have the size of those that they replace: the header stays as it is, and so does every offset.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch

from dgx_vllm.checkpoints.safetensors_file import Header, Stored
from dgx_vllm.prune.blocks import Block
from dgx_vllm.prune.destination import Destination, copy_range
from dgx_vllm.prune.method import Method

_SUFFIXES = ("weight", "weight_scale")


def replaced(header: Header, blocks: Sequence[Block]) -> dict[str, Stored]:
    """The tensors of a file that pruning may change."""
    names = (f"{module}.{suffix}" for block in blocks for module in block.modules() for suffix in _SUFFIXES)
    return {name: header.tensors[name] for name in names if name in header.tensors}


def write(
    path: Path,
    header: Header,
    blocks: Sequence[Block],
    method: Method,
    destination: Destination,
    tell: Callable[[int], None],
) -> None:
    """Writes one file.

    Args:
        path, header: the source's.
        blocks: what to prune.
        method: how.
        tell: is given the bytes that have been written, piece by piece.

    Raises:
        UserError: as `Method.prune`.
        OSError: the disk is full, or fails.
    """
    changed = replaced(header, blocks)
    with path.open("rb") as read, destination.file(path.name) as written:
        for begin, end in _unchanged(header, changed, path.stat().st_size):
            copy_range(read, written, begin, end, tell)
        for block in blocks:
            for indices in method.batches(block):
                changed_names = [n for n in _names(block, indices) if n in changed]
                if not changed_names:
                    continue
                pruned = method.prune(block, indices)
                for name in changed_names:
                    _put(read, written, header, name, pruned.get(name), tell)


def _names(block: Block, indices: Sequence[int | None]) -> Iterator[str]:
    return (
        f"{block.module(index, leaf)}.{suffix}"
        for index in indices
        for leaf in block.leaves
        for suffix in _SUFFIXES
    )


def _unchanged(header: Header, changed: dict[str, Stored], size: int) -> Iterator[tuple[int, int]]:
    """The stretches of a file between changed tensors, its head included."""
    begin = 0
    for first, last in sorted(tensor.data_offsets for tensor in changed.values()):
        if header.begin + first > begin:
            yield begin, header.begin + first
        begin = header.begin + last
    if begin < size:
        yield begin, size


def _put(
    read: BinaryIO,
    written: BinaryIO,
    header: Header,
    name: str,
    tensor: torch.Tensor | None,
    tell: Callable[[int], None],
) -> None:
    """Writes a tensor to its place; None for the one that was there."""
    begin, end = (header.begin + offset for offset in header.tensors[name].data_offsets)
    if tensor is None:
        copy_range(read, written, begin, end, tell)
        return
    data = tensor.contiguous().view(torch.uint8).numpy().tobytes()
    if len(data) != end - begin:
        raise AssertionError(f"{name} became {len(data)} bytes of {end - begin}")
    written.seek(begin)
    written.write(data)
    tell(len(data))

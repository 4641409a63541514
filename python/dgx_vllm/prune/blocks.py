"""Blocks: which of a checkpoint's tensors are experts, by their names."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.formats.nvfp4 import BLOCK_SIZE
from dgx_vllm.util.errors import UserError

_ROUTED = re.compile(r"(?P<block>.*\.experts)\.(?P<index>\d+)\.(?P<leaf>[a-z]\w*)\.weight")
_SHARED = re.compile(r"(?P<block>.*\.shared_experts?)\.(?P<leaf>[a-z]\w*)\.weight")
#: The names of gate, up and down: Qwen's, DeepSeek's and most others', and Mixtral's.
_LEAVES = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))


@dataclass(frozen=True)
class Block:
    """The experts of one layer, or its shared expert.

    Args:
        name: what their names begin with, such as `model.layers.3.mlp.experts`.
        indices: the experts' numbers; (None,) for a shared expert.
        gate, up, down: the last components of their matrices' names; gate is None where there is none.
    """

    name: str
    indices: tuple[int | None, ...]
    gate: str | None
    up: str
    down: str

    @property
    def leaves(self) -> tuple[str, ...]:
        return (*((self.gate,) if self.gate else ()), self.up, self.down)

    @property
    def routed(self) -> str:
        """The name of the layer's routed experts, whose inputs a shared expert gets too."""
        return re.sub(r"\.shared_experts?$", ".experts", self.name)

    def module(self, index: int | None, leaf: str) -> str:
        """A matrix's name without `.weight`."""
        return ".".join((self.name, *(() if index is None else (str(index),)), leaf))

    def modules(self) -> Iterator[str]:
        """Every matrix's."""
        return (self.module(index, leaf) for index in self.indices for leaf in self.leaves)


def find(model: str, tensors: Mapping[str, Stored], shared: bool) -> list[Block]:
    """The blocks whose experts are stored in NVFP4, in the order of their names.

    Args:
        model: what the user called it.
        tensors: every tensor of the checkpoint.
        shared: whether shared experts are wanted too.

    Raises:
        UserError: there are none, or their tensors do not fit each other.
    """
    experts_by_block: dict[str, dict[int | None, set[str]]] = {}
    for name in tensors:
        match = _ROUTED.fullmatch(name) or (shared and _SHARED.fullmatch(name))
        if match and _is_nvfp4(name, tensors):
            index = match.groupdict().get("index")
            experts = experts_by_block.setdefault(match["block"], {})
            experts.setdefault(None if index is None else int(index), set()).add(match["leaf"])
    blocks = [_block(model, name, experts) for name, experts in sorted(experts_by_block.items())]
    if not any(block.indices != (None,) for block in blocks):
        raise UserError(
            f"{model} has no routed experts in ModelOpt's NVFP4 (NAME.experts.N.up_proj.weight as U8 with "
            "weight_scale as F8_E4M3); give such a checkpoint"
        )
    for block in blocks:
        if any(len(tensors[f"{module}.weight"].shape) != 2 for module in block.modules()):
            raise UserError(
                f"{model}: the experts of {block.name} are not matrices; fetch the checkpoint again"
            )
        _check(model, block, tensors)
    return blocks


def _is_nvfp4(name: str, tensors: Mapping[str, Stored]) -> bool:
    scale = tensors.get(f"{name}_scale")
    return tensors[name].dtype == "U8" and scale is not None and scale.dtype == "F8_E4M3"


def _block(model: str, name: str, experts: Mapping[int | None, set[str]]) -> Block:
    first = next(iter(experts.values()))
    for gate, up, down in _LEAVES:
        if {up, down} <= first and all(leaves == first for leaves in experts.values()):
            indices = tuple(sorted(experts, key=lambda index: -1 if index is None else index))
            return Block(name, indices, gate if gate in first else None, up, down)
    raise UserError(
        f"{model}: the experts of {name} are not all stored in the same matrices "
        f"({', '.join(sorted(first))}, ...); fetch the checkpoint again"
    )


def _check(model: str, block: Block, tensors: Mapping[str, Stored]) -> None:
    rows, packed = tensors[f"{block.module(block.indices[0], block.up)}.weight"].shape
    hidden = 2 * packed
    if hidden % BLOCK_SIZE or rows % BLOCK_SIZE:
        raise UserError(
            f"{model}: the experts of {block.name} take {hidden} columns and {rows}; NVFP4 has multiples of "
            f"{BLOCK_SIZE}: fetch the checkpoint again"
        )
    for index in block.indices:
        for leaf in block.leaves:
            outputs, inputs = (hidden, rows) if leaf == block.down else (rows, hidden)
            shapes = {
                "weight": (outputs, inputs // 2),
                "weight_scale": (outputs, inputs // BLOCK_SIZE),
                "weight_scale_2": (),
            }
            for suffix, shape in shapes.items():
                name = f"{block.module(index, leaf)}.{suffix}"
                stored = tensors.get(name)
                accepted = (shape, (1,)) if suffix == "weight_scale_2" else (shape,)
                if stored is None or stored.shape not in accepted:
                    is_ = "missing" if stored is None else f"{list(stored.shape)}"
                    raise UserError(
                        f"{model}: {name} is {is_}, where {list(shape)} belongs; fetch the checkpoint again"
                    )

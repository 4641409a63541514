"""Shapes: the layers that are measured."""

from dataclasses import dataclass

from dgx_vllm.kernels.limits import DIM_MULTIPLE, MAX_EXPERTS_PER_TOKEN
from dgx_vllm.util.errors import UserError


@dataclass(frozen=True)
class Moe:
    """A MoE layer: its routed experts, and a shared one of its own intermediate size."""

    name: str
    hidden: int
    intermediate: int
    experts: int
    top_k: int
    shared_intermediate: int


@dataclass(frozen=True)
class Linear:
    """A dense projection from k to rows."""

    name: str
    rows: int
    k: int


Shape = Moe | Linear

#: The last of the MoE layers is awkward: neither size is a power of two, and Marlin has to pad.
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Moe("qwen3-next", 2048, 512, 512, 10, 512),
        Moe("qwen3.6-35b", 2048, 512, 256, 8, 512),
        Moe("awkward", 2880, 704, 96, 5, 1408),
        Linear("o_proj", 2048, 4096),
        Linear("in_proj_qkvz", 12288, 2048),
        Linear("lm_head", 151936, 2048),
    )
}


def parse(text: str) -> list[Shape]:
    """The shapes that a comma-separated list names, by name or by a MoE layer's five sizes.

    Raises:
        UserError: the shape is unknown, or the kernels do not take it.
    """
    return [_shape(name.strip()) for name in text.split(",")]


def _shape(name: str) -> Shape:
    if name in SHAPES:
        return SHAPES[name]
    sizes = name.split("/")
    if len(sizes) != 5 or not all(size.isdecimal() and int(size) for size in sizes):
        raise UserError(
            f"there is no shape {name!r}; take {', '.join(SHAPES)}, or "
            "HIDDEN/INTERMEDIATE/EXPERTS/TOP_K/SHARED_INTERMEDIATE"
        )
    shape = Moe(name, *map(int, sizes))
    for size in (shape.hidden, shape.intermediate, shape.shared_intermediate):
        if size % DIM_MULTIPLE:
            raise UserError(f"{size} in the shape {name} is not a multiple of {DIM_MULTIPLE}")
    if shape.top_k > min(MAX_EXPERTS_PER_TOKEN, shape.experts):
        raise UserError(
            f"top-k of the shape {name} must be at most {MAX_EXPERTS_PER_TOKEN} and at most its experts"
        )
    return shape

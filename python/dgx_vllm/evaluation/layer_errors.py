"""Layers: how far each layer's weights, and its output, are from those before a change."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from dgx_vllm.evaluation.norm_scales import norm_rms
from dgx_vllm.evaluation.quantized_view import Matrix, Served
from dgx_vllm.evaluation.rounding import nvfp4
from dgx_vllm.formats.nvfp4 import BLOCK_SIZE
from dgx_vllm.util.errors import UserError

#: The norm in front of a projection, by the projection's last name.
_NORMS = {
    "input_layernorm": (
        "in_proj_qkvz",
        "in_proj_qkv",
        "in_proj_z",
        "in_proj_ba",
        "q_proj",
        "k_proj",
        "v_proj",
    ),
    "post_attention_layernorm": ("gate_proj", "up_proj", "w1", "w3"),
}


@dataclass(frozen=True)
class Layer:
    """One projection of one layer; a layer's experts count as one.

    Args:
        name: its name, with `*` for the number of an expert.
        matrices: how many it has.
        before, after: precisions.
        error: ||W' - W|| / ||W||, over all of its matrices.
        output: the same of W x, for independent channels of the sizes that the norm in front of it gives
            them; None where there is none.
        nvfp4: what `error` would be in NVFP4; None where W is quantized already or does not fit NVFP4.
        share: the square of `error` over that of `nvfp4`.
    """

    name: str
    matrices: int
    before: str
    after: str
    error: float
    output: float | None
    nvfp4: float | None
    share: float | None


def changed(before: Served, after: Served) -> list[tuple[Matrix, Matrix]]:
    """The matrices that are not served in the same precision, in the order of layers.

    Raises:
        UserError: the checkpoints hold matrices of other sizes, or nothing differs.
    """
    pairs = [
        (before.matrices[module], matrix)
        for module, matrix in after.matrices.items()
        if module in before.matrices and before.matrices[module].precision != matrix.precision
    ]
    for old, new in pairs:
        if old.shape != new.shape:
            raise UserError(
                f"{after.checkpoint.model}'s {new.module} is {list(new.shape)}, {before.checkpoint.model}'s "
                f"{list(old.shape)}; give checkpoints of one model"
            )
    if not pairs:
        raise UserError(
            f"no matrix of {after.checkpoint.model} is served in another precision "
            f"than {before.checkpoint.model}'s; "
            "give --dense-dtype for a checkpoint that left projections in BF16, or --against another one"
        )
    return sorted(pairs, key=lambda pair: _order(pair[0].module))


def compare(
    before: Served, after: Served, pairs: list[tuple[Matrix, Matrix]], tell: Callable[[int], None]
) -> Iterator[Layer]:
    """The layers of `changed`, matrix by matrix; some 300 MiB at the most are in memory.

    Args:
        before, after: where the matrices are.
        pairs: of `changed`.
        tell: is told of the bytes that were looked at.
    """
    sums: dict[tuple[str, str, str], _Sums] = {}
    for old, new in pairs:
        key = (re.sub(r"\.experts\.\d+\.", ".experts.*.", old.module), old.precision, new.precision)
        sums.setdefault(key, _Sums()).add(before, after, old)
        tell(old.size + new.size)
    for (name, precision, now), layer_sums in sums.items():
        yield layer_sums.layer(name, precision, now)


@dataclass
class _Sums:
    """Sums of squares over a layer's matrices."""

    matrices: int = 0
    whole: float = 0.0
    wrong: float = 0.0
    weighed: list[float] | None = field(default_factory=lambda: [0.0, 0.0])
    nvfp4: float | None = 0.0

    def add(self, before: Served, after: Served, matrix: Matrix) -> None:
        module = matrix.module
        read, changed = before.reader(module), after.reader(module)
        rms = _rms(before, matrix)
        fits = matrix.plain and matrix.shape[1] % BLOCK_SIZE == 0
        coarse = nvfp4(read(*chunk) for chunk in before.chunks(module)) if fits else None
        self.matrices += 1
        for chunk in before.chunks(module):
            weight = read(*chunk)
            error = _squares(changed(*chunk) - weight)
            whole = _squares(weight)
            self.whole += float(whole.sum())
            self.wrong += float(error.sum())
            if rms is None:
                self.weighed = None
            elif self.weighed is not None:
                self.weighed[0] += float(error @ rms.double().square())
                self.weighed[1] += float(whole @ rms.double().square())
            if coarse is None:
                self.nvfp4 = None
            elif self.nvfp4 is not None:
                self.nvfp4 += float(_squares(coarse(weight) - weight).sum())

    def layer(self, name: str, before: str, after: str) -> Layer:
        return Layer(
            name,
            self.matrices,
            before,
            after,
            _relative(self.wrong, self.whole),
            _relative(*self.weighed) if self.weighed else None,
            None if self.nvfp4 is None else _relative(self.nvfp4, self.whole),
            self.wrong / self.nvfp4 if self.nvfp4 else None,
        )


def _squares(matrix: torch.Tensor) -> torch.Tensor:
    """Each column's sum of squares, float64."""
    return matrix.square().sum(dim=0, dtype=torch.float64)


def _relative(wrong: float, whole: float) -> float:
    return float((wrong / whole) ** 0.5) if whole else 0.0


def _rms(before: Served, matrix: Matrix) -> torch.Tensor | None:
    """What the norm in front of a matrix makes of each channel, float32 [columns]."""
    checkpoint, leaf = before.checkpoint, matrix.module.rpartition(".")[2]
    layer = re.match(r".*\blayers\.\d+", matrix.module)
    if leaf == "lm_head":
        names = [name for name in checkpoint.tensors if name.endswith("model.norm.weight")]
    else:
        names = [f"{layer[0]}.{norm}.weight" for norm, leaves in _NORMS.items() if layer and leaf in leaves]
    for name in names:
        if name in checkpoint.tensors and checkpoint.tensors[name].shape == (matrix.shape[1],):
            return norm_rms(checkpoint.tensor(name), str(checkpoint.text.get("model_type", "")))
    return None


def _order(module: str) -> list[tuple[int, str]]:
    """Layer 2 comes before layer 10."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in module.split(".")]

"""Weights: parameters and bytes by part and precision, planned from a config or taken from a checkpoint."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.formats import dense_dtype, tensor_roles
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.host.machine import Platform
from dgx_vllm.plan.architecture import Architecture
from dgx_vllm.plan.precision import PLAIN, nvfp4
from dgx_vllm.plan.quantization import Quantization

# Tensors that accompany a quantized weight, longest first, and whether they hold the weight itself.
_SUFFIXES = {
    ".weight_packed": True,
    ".weight_global_scale": False,
    ".weight_scale_inv": False,
    ".weight_zero_point": False,
    ".weight_g_idx": False,
    ".weight_scale_2": False,
    ".weight_shape": False,
    ".weight_scale": False,
    ".input_global_scale": False,
    ".input_scale": False,
    ".k_scale": False,
    ".v_scale": False,
    ".qweight": True,
    ".qzeros": False,
    ".scales": False,
    ".g_idx": False,
    "_blocks": True,
    "_scales": False,
    ".scale": False,
    ".weight": True,
}

#: Of an output's scale, of weights that `dense_dtype` covers.
_SCALE_BYTES = 4

# safetensors' names that people write otherwise; all others are shown as they are.
_DTYPES = {"F16": "FP16", "F8_E4M3": "FP8", "F8_E5M2": "FP8", "I8": "INT8", "F4": "FP4"}

#: What Marlin pads MXFP4 experts to.
_MARLIN_HIDDEN, _MARLIN_INNER = 256, 128

#: What vLLM computes with: precisions that become --dtype as they are loaded, and their dtypes.
_PLAIN = {precision.name: dtype for dtype, precision in PLAIN.items()}


@dataclass(frozen=True)
class Weight:
    """The weights of one part in one precision.

    Args:
        part: what they are for.
        precision: how they are stored, `BF16`, `NVFP4`, ...
        draft: whether they belong to the MTP layers.
        parameters: how many.
        bytes: with every scale.
        outputs: of all its matrices together.
        wide: whether vLLM holds them in float32 whatever --dtype is.
        offered: whether they are a draft's experts that `plugin.drafts` may quantize.
    """

    part: Part
    precision: str
    draft: bool
    parameters: int
    bytes: int
    outputs: int
    wide: bool = False
    offered: bool = False


@dataclass(frozen=True)
class Loading:
    """The settings of vLLM that change what becomes of a checkpoint's weights.

    Args:
        dense_dtype: --dense-dtype; bf16 where --dtype is another, whose layers it leaves.
        moe_backend: --moe-backend or, where the drafts have one of their own, that; None for vLLM's choice.
        platform: what serves.
        dtype: what vLLM computes in, see `dtypes.served`.
        hidden: the model's width, for what is padded; 0 where it is not known.
    """

    dense_dtype: Dtype = "bf16"
    moe_backend: str | None = None
    platform: Platform = "cuda"
    dtype: str = "bfloat16"
    hidden: int = 0


def planned(architecture: Architecture, quantization: Quantization) -> tuple[Weight, ...]:
    """From the config alone."""
    groups = []
    for tensor in architecture.tensors:
        precision = quantization.of(tensor.module, tensor.linear)
        size = precision.size(tensor.shape) * tensor.copies
        groups.append(
            Weight(
                tensor_roles.of(tensor.name),
                precision.name,
                tensor_roles.is_draft(tensor.name),
                tensor.parameters,
                size,
                _outputs(tensor.shape) * tensor.copies,
                tensor_roles.is_wide(tensor.name),
                tensor_roles.is_offered(tensor.name),
            )
        )
    return _summed(groups)


def stored(tensors: Mapping[str, Stored], beyond: range = range(0), experts: int = 0) -> tuple[Weight, ...]:
    """From a checkpoint's headers: exact, whatever the architecture, without what vLLM leaves out.

    Args:
        tensors: by name.
        beyond: see `parts.is_draft`.
        experts: in a layer; tensors with a matrix for each are those of experts, whatever they are called.
    """
    modules: dict[str, dict[str, Stored]] = {}
    for name, tensor in tensors.items():
        if tensor_roles.is_left_out(name):
            continue
        module, suffix = split(name)
        modules.setdefault(module, {})[suffix] = tensor
    groups = []
    for module, tensors_of_module in modules.items():
        main = main_suffix(tensors_of_module)
        name = f"{module}.weight" if main else module
        precision, parameters = unpacked(main, tensors_of_module)
        size = sum(tensor.size for tensor in tensors_of_module.values())
        outputs = _outputs(tensors_of_module[main].shape) if main is not None else 0
        part = tensor_roles.of(name)
        if part in (Part.OTHER, Part.MLP) and main is not None and experts > 1:
            shape = tensors_of_module[main].shape
            part = Part.EXPERTS if len(shape) > 2 and shape[0] == experts else part
        draft, wide = tensor_roles.is_draft(name, beyond), tensor_roles.is_wide(name)
        offered = tensor_roles.is_offered(name)
        groups.append(Weight(part, precision, draft, parameters, size, outputs, wide, offered))
    return _summed(groups)


def main_suffix(tensors: Mapping[str, Stored]) -> str | None:
    """The suffix of a module's weight, by its tensors' suffixes; None where its scales stand alone."""
    if tensors.keys() == {".scale"}:
        return ".scale"  # a norm's
    return next((suffix for suffix in tensors if _SUFFIXES.get(suffix, True)), None)


def loaded(weights: Iterable[Weight], loading: Loading) -> tuple[Weight, ...]:
    """The weights as vLLM holds them once they are loaded."""
    converted = _with_padding(_with_numbers(weights, loading), loading)
    if loading.dense_dtype == "bf16":
        return converted
    converted = with_dense(converted, loading.dense_dtype)
    # On a CPU they are rounded to what NVFP4 makes of them, and stay BF16.
    if str(loading.moe_backend).lower() == "dgx" and loading.platform == "cuda":
        converted = with_draft_experts(converted)
    return converted


def with_dense(weights: Iterable[Weight], dtype: Dtype) -> tuple[Weight, ...]:
    """The weights as vLLM holds them with `--dense-dtype`."""
    if dtype == "bf16":
        return tuple(weights)

    def served(weight: Weight) -> Weight:
        if weight.part not in dense_dtype.PARTS or weight.precision != "BF16":
            return weight
        if dtype == "nvfp4":
            return replace(weight, precision="NVFP4", bytes=nvfp4().size((1, weight.parameters)))
        return replace(weight, precision="FP8", bytes=weight.parameters + weight.outputs * _SCALE_BYTES)

    return tuple(served(weight) for weight in weights)


def with_draft_experts(weights: Iterable[Weight]) -> tuple[Weight, ...]:
    """The weights as vLLM holds them with `--moe-backend dgx` and a `--dense-dtype` that is not bf16.

    A draft's routed experts become NVFP4. They are taken as one matrix: a few floats an expert do not count.
    """
    return tuple(
        replace(weight, precision="NVFP4", bytes=nvfp4().size((1, weight.parameters)))
        if weight.offered and weight.part is Part.EXPERTS and weight.precision == "BF16"
        else weight
        for weight in weights
    )


def _with_padding(weights: Iterable[Weight], loading: Loading) -> tuple[Weight, ...]:
    """MXFP4 experts as Marlin holds them, which pads their matrices (fused_moe/oracle/mxfp4.py)."""
    marlin = loading.moe_backend is None or loading.moe_backend.lower() in ("auto", "marlin")
    if loading.platform != "cuda" or not marlin or not loading.hidden:
        return tuple(weights)

    def padded(weight: Weight) -> Weight:
        if weight.part is not Part.EXPERTS or weight.precision != "MXFP4":
            return weight
        hidden, inner = loading.hidden, _inner(weight, loading.hidden)
        if not inner:
            return weight
        share = _up(hidden, _MARLIN_HIDDEN) * _up(inner, _MARLIN_INNER) / (hidden * inner)
        return replace(weight, bytes=math.ceil(weight.bytes * share))

    return tuple(padded(weight) for weight in weights)


def _inner(weight: Weight, hidden: int) -> int:
    """The width of gated experts: each has 3 * hidden * width parameters, and 2 * width + hidden outputs."""
    count, rest = divmod(weight.outputs - 2 * weight.parameters // (3 * hidden), hidden)
    return weight.parameters // (3 * hidden * count) if count > 0 and not rest else 0


def _up(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple


def _with_numbers(weights: Iterable[Weight], loading: Loading) -> tuple[Weight, ...]:
    """The weights that vLLM multiplies as numbers of --dtype: the CPU backend NVFP4's too."""
    served = PLAIN.get(loading.dtype)
    if served is None:
        return tuple(weights)
    wide = PLAIN["float32"]

    def held(weight: Weight) -> Weight:
        expanded = loading.platform == "cpu" and weight.precision == "NVFP4"
        if weight.precision not in _PLAIN and not expanded:
            return weight
        precision = wide if weight.wide else served
        size = math.ceil(weight.parameters * precision.bits / 8)
        # What the CPU backend expands is still called what it was.
        return replace(weight, precision=weight.precision if expanded else precision.name, bytes=size)

    return _summed(held(weight) for weight in weights)


def total(weights: Iterable[Weight], drafting: bool) -> int:
    """Bytes that vLLM loads: MTP layers only where they draft."""
    return sum(weight.bytes for weight in weights if drafting or not weight.draft)


def _outputs(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1]) if len(shape) > 1 else 0


def split(name: str) -> tuple[str, str]:
    """A tensor's module, and which of its tensors it is, such as `.weight_scale`; empty for itself."""
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(suffix), suffix


def unpacked(main: str | None, tensors: Mapping[str, Stored]) -> tuple[str, int]:
    """A module's precision and its parameters, packed ones counted one by one.

    Args:
        main: the suffix of its weight, see `main_suffix`.
        tensors: by suffix.
    """
    if main is None:
        return "scales", 0  # k_scale, v_scale
    weight = tensors[main]
    if main == "_blocks":
        return "MXFP4", 2 * weight.elements
    scale = next(
        (tensors[name] for name in (".weight_scale", ".scale") if name in tensors and name != main), None
    )
    kind = scale.dtype if scale else ""
    fours = {"F8_E4M3": "NVFP4", "F8_E8M0": "MXFP4", "U8": "MXFP4"}
    if weight.dtype == "F4" and kind in fours:
        return fours[kind], weight.elements
    if (weight.dtype == "U8" and scale is not None) or (weight.dtype == "I8" and kind == "F8_E8M0"):
        return fours.get(kind, "MXFP4"), 2 * weight.elements
    if weight.dtype == "F8_E4M3" and kind in ("U8", "F8_E8M0"):
        return "MXFP8", weight.elements
    if weight.dtype == "I32" and main in (".qweight", ".weight_packed"):
        bits = _integer_bits(weight, tensors)
        return f"INT{bits}", weight.elements * 32 // bits
    return _DTYPES.get(weight.dtype, weight.dtype), weight.elements


def _integer_bits(weight: Stored, tensors: Mapping[str, Stored]) -> int:
    """4 or 8, by how many outputs the scales say there are for how many packed columns."""
    scales = tensors.get(".scales")
    if scales is not None and len(weight.shape) == len(scales.shape) == 2:
        if weight.shape[1] != scales.shape[1]:  # AWQ packs outputs
            return 32 * weight.shape[1] // scales.shape[1]
        index = tensors.get(".g_idx")  # GPTQ packs inputs
        if index is not None:
            return 32 * weight.shape[0] // index.elements
    return 4


def _summed(weights: Iterable[Weight]) -> tuple[Weight, ...]:
    sums: dict[tuple[bool, Part, str, bool, bool], tuple[int, int, int]] = {}
    for weight in weights:
        key = (weight.draft, weight.part, weight.precision, weight.wide, weight.offered)
        parameters, size, outputs = sums.get(key, (0, 0, 0))
        sums[key] = (parameters + weight.parameters, size + weight.bytes, outputs + weight.outputs)
    order = list(Part)
    ranked = sorted(sums.items(), key=lambda item: (item[0][0], order.index(item[0][1]), *item[0][2:]))
    return tuple(
        Weight(part, precision, draft, parameters, size, outputs, wide, offered)
        for (draft, part, precision, wide, offered), (parameters, size, outputs) in ranked
    )

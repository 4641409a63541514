"""Stored precision: where the tensors of a checkpoint are not what its config makes vLLM build.

vLLM builds a layer by the config alone and then copies the tensors into it. A layer that is stored in
another precision stops the load, or loads without its scales and answers wrongly. Only the linear layers that
vLLM can quantize are compared: attention, MLPs, experts, the projections of Mamba and gated delta nets, and
the head.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from typing import Any

from dgx_vllm.checkpoints.fields import language_part, text_part
from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.formats import tensor_roles
from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import built_precision, generic, quantization, weights
from dgx_vllm.plan.built_precision import UNKNOWN, HalfListedError, Kind, Layer, Reading
from dgx_vllm.util.errors import UserError

_COMPARED = frozenset(
    {
        *(Part.ATTENTION_QKV, Part.ATTENTION_OUT, Part.MLP, Part.SHARED_EXPERT, Part.EXPERTS, Part.LM_HEAD),
        *(Part.GDN_IN, Part.GDN_OUT, Part.MAMBA_IN, Part.MAMBA_OUT),
    }
)
_SMALL_PROJECTION = re.compile(r"\.(in_proj_ba|in_proj_b|in_proj_a|fc[12]_latent_proj)\.weight$")
# Of Mistral's own format, whose lists vLLM rewrites.
_MISTRAL = re.compile(r"\.(attention\.w|feed_forward\.w)")
_EXPERTS = re.compile(r"^(.*\.experts)\.(?:\d+\.)?([^.]+)$")
_NUMBER = re.compile(r"\.\d+(?=\.)")

_PLAIN = frozenset(("BF16", "F16", "F32", "F64"))
#: Precisions whose tensors have another shape than those of the rest.
_PACKED = frozenset(("NVFP4", "MXFP4", "INT"))

# What vLLM fuses, where all of it is in the checkpoint.
_FUSED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
}
_INTO = {shard: fused for fused, shards in _FUSED.items() for shard in shards}
# v_proj is not stored where attention takes its keys for values.
_NEEDED = {"qkv_proj": ("q_proj", "k_proj")}

_SCALES = (".weight_scale", ".weight_scale_2", ".input_scale", ".weight_global_scale", ".input_global_scale")


@dataclass(frozen=True)
class Disagreement:
    """Layers of one checkpoint that are stored otherwise than vLLM builds them.

    Args:
        what: which layers, how they are stored, what the config makes of them.
        effect: what vLLM 0.32 does then.
        remedy: what to change.
    """

    what: str
    effect: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.effect}; {self.remedy}"


@dataclass(frozen=True)
class _Fault:
    """What several layers of a checkpoint may have in common.

    Args:
        stored: the precisions of what a layer is fused of.
        built: what vLLM builds, None for unquantized.
        halves: the parts of which a list has some and lacks others, so that vLLM refuses it.
        wild: the pattern in the list that means the layer and that vLLM does not match with it.
        draft: whether the layers draft only.
    """

    stored: frozenset[str]
    built: str | None
    halves: tuple[str, ...] = ()
    wild: str = ""
    draft: bool = False


@dataclass
class _Module:
    """A module of the checkpoint, by the suffixes of its tensors."""

    tensors: dict[str, Stored]

    def label(self) -> str:
        """As people call its precision."""
        return weights.unpacked(weights.main_suffix(self.tensors), self.tensors)[0]

    def precision(self) -> str | None:
        """As `built_precision` calls it, None for unquantized."""
        main = weights.main_suffix(self.tensors)
        if main is None or self.tensors[main].dtype in _PLAIN:
            return None
        return _family(self.label())


def _family(precision: str) -> str:
    """Integers of all widths are one: how many bits are packed shows in the scales alone."""
    return "INT" if precision.startswith("INT") else precision


def disagreements(
    config: Mapping[str, Any], beside: Mapping[str, Any] | None, tensors: Mapping[str, Stored]
) -> tuple[Disagreement, ...]:
    """Where a checkpoint's tensors and its config differ; empty where they agree, or nothing can be said.

    Args:
        config: config.json.
        beside: hf_quant_config.json, if any.
        tensors: by name, from the headers.
    """
    inner = language_part(config)
    model_type = str(inner.get("model_type") or config.get("model_type") or "")
    reading = built_precision.read(config, beside, model_type)
    second = None if model_type in built_precision.KNOWN else _second_opinion(config, beside)
    if reading is None or (second is None and model_type not in built_precision.KNOWN):
        return ()
    modules = _modules(tensors)
    patterns = [(entry, re.compile(translate(entry))) for entry in reading.entries if set(entry) & set("*?[")]
    faults: dict[_Fault, list[str]] = {}
    for layer, names in layers(modules, generic.beyond(text_part("", config))):
        fault = _fault(layer, names, modules, reading, second, patterns)
        if fault:
            faults.setdefault(fault, []).append(_shown(layer, names))
    told = [_told(fault, names, reading) for fault, names in faults.items()]
    return (*told, *_scales_of_parts(modules))


def line(several: Sequence[Disagreement]) -> str:
    """The first of a checkpoint's disagreements, and how many more there are."""
    more = len(several) - 1
    return f"{several[0]}" + (f" (and {more} more: dgx-vllm plan --json lists them)" if more else "")


def _second_opinion(
    config: Mapping[str, Any], beside: Mapping[str, Any] | None
) -> Callable[[str], str | None] | None:
    """What the lists mean by themselves: of other families' names in vLLM too little is known here."""
    try:
        method = quantization.read("", "bfloat16", config, beside)
    except UserError:
        return None

    def of(module: str) -> str | None:
        precision = method.of(module, linear=True)
        return None if precision == method.plain else _family(precision.name)

    return of


def _modules(tensors: Mapping[str, Stored]) -> dict[str, _Module]:
    """The linear modules that vLLM can quantize."""
    modules: dict[str, _Module] = {}
    skipped: set[str] = set()
    for name, tensor in tensors.items():
        module, suffix = weights.split(name)
        if module in modules:
            modules[module].tensors[suffix] = tensor
        elif module not in skipped:
            if is_compared(_NUMBER.sub(".0", module)):
                modules[module] = _Module({suffix: tensor})
            else:
                skipped.add(module)
    return {name: module for name, module in modules.items() if _is_matrix(name, module)}


@cache
def is_compared(module: str) -> bool:
    """Whether a module of the checkpoint is a linear layer that vLLM can quantize."""
    name = f"{module}.weight"
    if tensor_roles.is_left_out(name) or _MISTRAL.search(name):
        return False
    return tensor_roles.of(name) in _COMPARED or _SMALL_PROJECTION.search(name) is not None


def _is_matrix(name: str, module: _Module) -> bool:
    """Whether it has a weight; a bias has a name of its own among experts."""
    main = weights.main_suffix(module.tensors)
    if main is None or name.endswith("bias"):
        return False
    return len(module.tensors[main].shape) > 1 and (main != "" or tensor_roles.of(name) is Part.EXPERTS)


def layers(modules: Iterable[str], beyond: range = range(0)) -> list[tuple[Layer, tuple[str, ...]]]:
    """The linear layers that vLLM builds, and the modules of the checkpoint that each is made of.

    Args:
        modules: the checkpoint's linear modules.
        beyond: see `tensor_roles.is_draft`.
    """
    modules = dict.fromkeys(modules)
    inside = any(name.startswith(("model.language_model.", "language_model.")) for name in modules)
    parts: dict[tuple[str, tuple[str, ...], Kind, bool], list[str]] = {}
    key: tuple[str, tuple[str, ...], Kind, bool]
    for name in modules:
        draft = tensor_roles.is_draft(f"{name}.weight", beyond)
        parent, _, last = name.rpartition(".")
        experts = _EXPERTS.match(name)
        if experts:
            key = (experts[1], (), Kind.ROUTED, draft)
        elif tensor_roles.of(f"{name}.weight") is Part.LM_HEAD:
            key = (f"language_model.{name}" if inside and name == "lm_head" else name, (), Kind.HEAD, draft)
        else:
            fused = _INTO.get(last, "")
            needed = _NEEDED.get(fused, _FUSED.get(fused, ()))
            if needed and all(f"{parent}.{shard}" in modules for shard in needed):
                key = (f"{parent}.{fused}", _FUSED[fused], Kind.LINEAR, draft)
            else:
                key = (name, (), Kind.LINEAR, draft)
        parts.setdefault(key, []).append(name)
    return [
        (
            Layer(
                name if draft else built_precision.renamed(name),
                shards,
                kind,
                draft,
                _projections(names, kind),
            ),
            tuple(names),
        )
        for (name, shards, kind, draft), names in parts.items()
    ]


def _projections(names: Iterable[str], kind: Kind) -> tuple[str, ...]:
    if kind is not Kind.ROUTED:
        return ()
    found = {name.rpartition(".")[2] for name in names}
    return ("w1", "w3", "w2") if "w1" in found else ("gate_proj", "up_proj", "down_proj")


def _fault(
    layer: Layer,
    names: tuple[str, ...],
    modules: Mapping[str, _Module],
    reading: Reading,
    second: Callable[[str], str | None] | None,
    patterns: Iterable[tuple[str, re.Pattern[str]]],
) -> _Fault | None:
    try:
        built = reading.of(layer)
    except HalfListedError:
        # Of another family it may be fused of other parts, or of none.
        return (
            None if second else _Fault(frozenset(), None, layer.shards or layer.projections, "", layer.draft)
        )
    stored = {modules[name].precision() for name in names}
    if built == UNKNOWN or stored == {built}:
        return None
    if second and all(second(name) == modules[name].precision() for name in names):
        return None
    labels = frozenset(modules[name].label() for name in names)
    wild = ""
    if stored == {None}:
        wild = next((entry for entry, pattern in patterns if pattern.match(names[0])), "")
    return _Fault(labels, built, (), wild, layer.draft)


def _shown(layer: Layer, names: tuple[str, ...]) -> str:
    """The checkpoint's name for a layer: of experts what all have in common."""
    experts = _EXPERTS.match(names[0]) if layer.kind is Kind.ROUTED else None
    return experts[1] if experts else names[0]


def _told(fault: _Fault, names: list[str], reading: Reading) -> Disagreement:
    which, several = _named(names), len(names) > 1
    where = f"`{reading.ignored}` in {reading.file}"
    if fault.halves:
        return Disagreement(
            f"{which}: {where} or its groups have some of {_all_of(fault.halves)} and lack others",
            "vLLM 0.32 fuses them and refuses that",
            "list all of them or none",
        )
    stored = " and partly in ".join(sorted(fault.stored))
    partly = "partly " if len(fault.stored) > 1 else ""
    built = fault.built or ("unquantized" if reading.ignored else "nothing of a quantization")
    what = f"{which} {'are' if several else 'is'} stored {partly}in {stored}, and {reading.file} says {built}"
    return Disagreement(what, _effect(fault), _remedy(fault, reading, where))


def _effect(fault: _Fault) -> str:
    packed = {_family(label) in _PACKED for label in fault.stored} | {fault.built in _PACKED}
    with_drafts = "with drafts, " if fault.draft else ""
    if len(packed) > 1:
        return f"{with_drafts}vLLM 0.32 stops as it loads them"
    wrong = "it accepts few drafts" if fault.draft else "it answers wrongly"
    return f"{with_drafts}vLLM 0.32 stops as it loads them, or {wrong}"


def _remedy(fault: _Fault, reading: Reading, where: str) -> str:
    if len(fault.stored) > 1:
        return "vLLM builds one layer of them: take a checkpoint that stores them alike"
    if not reading.ignored:
        if reading.assigned or fault.built:
            return "take another checkpoint"
        return "fetch the checkpoint again, with its quantization_config or hf_quant_config.json"
    if fault.wild:
        return f"{where} has {fault.wild!r} for them, which vLLM does not match: list their full names there"
    if fault.stored <= {"BF16", "FP16", "F32", "F64"}:
        return f"add their full names to {where}"
    if fault.built is None:
        also = f", and name them in `{reading.assigned}`" if reading.assigned else ""
        return f"take them off {where}{also}"
    return (
        f"correct `{reading.assigned or 'quantization_config'}` in {reading.file}, or take another checkpoint"
    )


def _named(names: list[str]) -> str:
    """How many layers, and the first one of the first two kinds."""
    first: dict[str, str] = {}
    for name in sorted(names, key=_by_number):
        first.setdefault(_NUMBER.sub("", name), name)
    examples = " and ".join(list(first.values())[:2])
    return examples if len(names) == 1 else f"{len(names)} layers such as {examples}"


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(word), "") if word.isdigit() else (-1, word) for word in name.split(".")]


def _all_of(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _scales_of_parts(modules: Mapping[str, _Module]) -> list[Disagreement]:
    """Gated delta nets whose q, k and v have a scale each (vllm#47396): vLLM 0.32 takes one for all three."""
    names = [
        name
        for name, module in modules.items()
        if name.endswith(".in_proj_qkv")
        and any(suffix in _SCALES and tensor.shape == (3,) for suffix, tensor in module.tensors.items())
    ]
    if not names:
        return []
    verb = "have" if len(names) > 1 else "has"
    return [
        Disagreement(
            f"{_named(names)} {verb} a scale for each of q, k and v",
            "vLLM 0.32 takes one for all three and stops as it loads them (vllm#47396)",
            "take a checkpoint with one scale",
        )
    ]

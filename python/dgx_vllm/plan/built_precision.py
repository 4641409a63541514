"""Built precision: what vLLM 0.32 builds each linear layer in, by its own reading of a checkpoint's config.

It differs from what the config's author meant: vLLM fuses projections, renames modules, and looks its own
names up in the config's lists. Source: vLLM's `model_executor/layers/quantization`, the modules modelopt,
compressed_tensors, fp8, mxfp4 and utils.quant_utils.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import translate
from typing import Any

from dgx_vllm.checkpoints.fields import quantization_config

#: A precision of which nothing is known here, so that nothing can be compared with it.
UNKNOWN = "unknown"

#: Families whose names and lists are held against vLLM's own classes. They all have a mapper of names.
KNOWN = frozenset(
    {
        *("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3", "qwen3_moe"),
        *("qwen2", "llama", "mistral", "nemotron_h", "gemma4", "gemma4_text"),
    }
)

# Families whose head vLLM builds without a quantization config.
_PLAIN_HEADS = frozenset(
    {
        *("qwen3_next", "gpt_oss", "bloom", "falcon_h1", "jamba", "mamba", "mamba2", "opt", "plamo3"),
        *("step3_text", "zamba2"),
    }
)

# Both a layer's name and the names in lists go through a model's mapper of names, if it has one.
_RENAMED = {"model.language_model.": "language_model.model.", "backbone.": "model."}

# Of ModelOpt, by the precision. FP8_BLOCK_SCALES is for experts alone.
_LINEAR = {
    "FP8": "FP8",
    "FP8_PER_CHANNEL_PER_TOKEN": "FP8",
    "FP8_PB_WO": "FP8",
    "NVFP4": "NVFP4",
    "W4A16_NVFP4": "NVFP4",
    "MXFP8": "MXFP8",
}
_ROUTED = {
    "FP8": "FP8",
    "FP8_PB_WO": "FP8",
    "FP8_BLOCK_SCALES": "FP8",
    "NVFP4": "NVFP4",
    "W4A16_NVFP4": "NVFP4",
    "MXFP8": "MXFP8",
}


class Kind(Enum):
    """Layers that vLLM's configs treat differently."""

    LINEAR = "linear"
    ROUTED = "routed experts"
    HEAD = "lm_head"


@dataclass(frozen=True)
class Layer:
    """A layer as vLLM builds it.

    Args:
        name: vLLM's, without its weight's.
        shards: the last names of the checkpoint's modules that it is fused of; empty for a single one.
        kind: what vLLM's config tells apart.
        draft: whether it is one of a drafter, whose class has no mapper of names.
        projections: the last names of an expert's matrices, for routed experts.
    """

    name: str
    shards: tuple[str, ...] = ()
    kind: Kind = Kind.LINEAR
    draft: bool = False
    projections: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of what it is fused of, or its own."""
        last = self.name.rpartition(".")[2]
        return tuple(self.name.replace(last, shard) for shard in self.shards) or (self.name,)


class HalfListedError(ValueError):
    """A list has some of a fused layer's parts and lacks others: vLLM refuses the checkpoint."""


#: None for unquantized.
Builder = Callable[[Layer], str | None]


@dataclass(frozen=True)
class Reading:
    """How vLLM reads a config.

    Args:
        of: the precision that it builds a layer in.
        ignored: the key of the list of layers that stay as they are, `` where there is none.
        entries: that list.
        assigned: the key that gives single layers their precision, `` where there is none.
        file: the file that has both.
    """

    of: Builder
    ignored: str = ""
    entries: tuple[str, ...] = ()
    assigned: str = ""
    file: str = "config.json"


def read(config: Mapping[str, Any], beside: Mapping[str, Any] | None, model_type: str) -> Reading | None:
    """How vLLM reads a checkpoint's config; None where that is not known here, or vLLM refuses the config.

    Args:
        config: config.json.
        beside: hf_quant_config.json, which counts where config.json says nothing.
        model_type: of the language model.
    """
    fields, file = quantization_config(config), "config.json"
    if not fields and beside:
        fields, file = {"quant_method": "modelopt", **beside}, "hf_quant_config.json"
    if not fields:
        return Reading(lambda layer: None)
    if not isinstance(fields, Mapping):
        return None
    own = "modelopt" if "quant_algo" in fields or "quantization" in fields else ""
    method = str(fields.get("quant_method", own)).lower().replace("compressed_tensors", "compressed-tensors")
    try:
        if method.startswith("modelopt"):
            reading = _modelopt(fields, file)
        elif method == "fp8":
            reading = _fp8(fields)
        elif method == "compressed-tensors":
            reading = _compressed_tensors(fields)
        elif method == "mxfp4":
            reading = Reading(lambda layer: "MXFP4" if layer.kind is Kind.ROUTED else None)
        else:
            return None
    except (KeyError, TypeError, AttributeError, ValueError, re.error):
        return None
    if reading is None or model_type not in _PLAIN_HEADS:
        return reading
    given = reading.of
    return Reading(
        lambda layer: None if layer.kind is Kind.HEAD else given(layer),
        reading.ignored,
        reading.entries,
        reading.assigned,
        reading.file,
    )


def renamed(name: str) -> str:
    """A module's name in the checkpoint, as vLLM's mappers of names rewrite its beginning."""
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


class _Excluded:
    """ModelOpt's list (`is_layer_excluded`), with its stars split as `apply_vllm_mapper` splits them."""

    def __init__(self, names: Iterable[str], mapped: bool) -> None:
        names = [each for name in names for each in (_split(name) if mapped else (name,))]
        self._names = [renamed(name) for name in names] if mapped else names
        self._whole = frozenset(self._names)
        self._wild = _any_of(self._names)

    def has(self, layer: Layer) -> bool:
        if _is_skipped(layer, self._whole, self._names):
            return True
        bare = layer.name.removeprefix("language_model.")
        if any(name != layer.name and (name in layer.name or name in bare) for name in self._names):
            return True
        return self._wild is not None and self._wild.match(layer.name) is not None


def _split(name: str) -> tuple[str, ...]:
    if len(name) >= 2 and name.endswith("*") and name[-2] != ".":
        return name[:-1], f"{name[:-1]}.*"
    return (name,)


def _any_of(names: Iterable[str]) -> re.Pattern[str] | None:
    wild = [translate(name) for name in names if set(name) & set("*?[")]
    return re.compile("|".join(wild)) if wild else None


def _is_skipped(layer: Layer, whole: frozenset[str], names: Iterable[str]) -> bool:
    """vLLM's `is_layer_skipped` in its exact mode.

    Raises:
        HalfListedError: see there.
    """
    if layer.shards:
        if layer.name in whole:
            return True
        listed = [part in whole for part in layer.parts]
        if any(listed) and not all(listed):
            raise HalfListedError
        return all(listed)
    if "experts" in layer.name:
        return any("experts" in name and layer.name in name for name in names)
    return layer.name in whole


def _modelopt(fields: Mapping[str, Any], file: str) -> Reading | None:
    nested = "quantization" in fields
    inner = fields["quantization"] if nested else fields
    key = "exclude_modules" if nested else "ignore"
    names = list(inner.get(key) or ())
    algorithm = str(inner["quant_algo"]).upper()
    # A drafter's class maps no names.
    excluded, of_drafts = _Excluded(names, mapped=True), _Excluded(names, mapped=False)

    def is_excluded(layer: Layer) -> bool:
        return (of_drafts if layer.draft else excluded).has(layer)

    if algorithm == "MIXED_PRECISION":
        assigned = {
            renamed(name): str(each["quant_algo"]) for name, each in inner["quantized_layers"].items()
        }
        mixed = _Mixed(assigned)
        return Reading(
            lambda layer: None if is_excluded(layer) else mixed.of(layer),
            key,
            tuple(names),
            "quantized_layers",
            file,
        )
    if algorithm not in _LINEAR:
        return None  # vLLM refuses it in words of its own
    built = _LINEAR[algorithm]
    return Reading(lambda layer: None if is_excluded(layer) else built, key, tuple(names), "", file)


class _Mixed:
    """ModelOpt's list of layers with their precision (`_resolve_quant_algo`)."""

    def __init__(self, assigned: Mapping[str, str]) -> None:
        self._assigned = {name: algorithm.upper() for name, algorithm in assigned.items()}
        #: The first that is listed below each module.
        self._below: dict[str, str] = {}
        for name, algorithm in self._assigned.items():
            words = name.split(".")
            for count in range(1, len(words)):
                self._below.setdefault(".".join(words[:count]), algorithm)

    def of(self, layer: Layer) -> str | None:
        algorithm = self._algorithm(layer)
        if algorithm is None:
            return None
        if algorithm not in _LINEAR and algorithm not in _ROUTED:
            return UNKNOWN
        return (_ROUTED if layer.kind is Kind.ROUTED else _LINEAR).get(algorithm)

    def _algorithm(self, layer: Layer) -> str | None:
        names = [layer.name, *(["lm_head"] if layer.name.endswith(".lm_head") else [])]
        for name in names:
            if name in self._assigned:
                return self._assigned[name]
        if layer.shards:
            several = {self._assigned[part] for part in layer.parts if part in self._assigned}
            if len(several) > 1:
                raise HalfListedError
            if several:
                return several.pop()
        for name in names:
            if name in self._below:
                return self._below[name]
        if layer.name.endswith(".experts"):
            return self._below.get(layer.name.removesuffix(".experts"))
        return None


def _fp8(fields: Mapping[str, Any]) -> Reading:
    key = "ignored_layers" if fields.get("ignored_layers") else "modules_to_not_convert"
    entries = tuple(fields.get(key) or ())
    names = [renamed(name) for name in entries]
    mapped, unmapped = frozenset(names), frozenset(entries)

    def of(layer: Layer) -> str | None:
        if layer.kind is Kind.HEAD:
            return None
        listed = _is_skipped(layer, unmapped if layer.draft else mapped, entries if layer.draft else names)
        return None if listed else "FP8"

    return Reading(of, key, entries)


def _compressed_tensors(fields: Mapping[str, Any]) -> Reading:
    entries = tuple(fields.get("ignore") or ())
    ignored = _Targets(entries)
    targets: dict[str, str] = {}
    for group in fields["config_groups"].values():
        if len(group["targets"]) == 1 and group["targets"][0].endswith("Attention"):
            continue
        for target in group["targets"]:
            targets[target] = _compressed_precision(group["weights"])
    named = _Targets(targets)

    def of(layer: Layer) -> str | None:
        if layer.kind is not Kind.ROUTED:
            return None if ignored.all_of(layer) else _targeted(layer, named, targets)
        several = set()
        for projection in layer.projections:
            one = Layer(f"{layer.name}.0.{projection}", kind=Kind.ROUTED)
            several.add(None if ignored.all_of(one) else _targeted(one, named, targets))
        if len(several) > 1:
            raise HalfListedError
        return several.pop()

    return Reading(of, "ignore", entries, "config_groups")


def _targeted(layer: Layer, named: "_Targets", targets: Mapping[str, str]) -> str | None:
    """vLLM's `find_matched_target`: by the layer's name, by those of its parts, by its class."""
    own = named.first(layer.name)
    if own is None and layer.shards:
        matched = [named.first(part) for part in layer.parts]
        own = matched[0] if all(matched) else None
    if own is not None:
        return targets[own]
    classes = {
        Kind.LINEAR: ("Linear",),
        Kind.ROUTED: ("RoutedExperts", "Linear"),
        Kind.HEAD: ("ParallelLMHead",),
    }
    return next((targets[name] for name in classes[layer.kind] if name in targets), None)


class _Targets:
    """compressed-tensors' lists: whole names, and regular expressions after `re:`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._places = {renamed(name): place for place, name in enumerate(self._names)}
        self._patterns = [
            (place, re.compile(name.removeprefix("re:")))
            for place, name in enumerate(self._names)
            if name.startswith("re:")
        ]

    def first(self, layer: str) -> str | None:
        matched = next((place for place, pattern in self._patterns if pattern.match(layer)), None)
        places = [place for place in (matched, self._places.get(layer)) if place is not None]
        return self._names[min(places)] if places else None

    def all_of(self, layer: Layer) -> bool:
        """vLLM's `should_ignore_layer`.

        Raises:
            HalfListedError: some parts of the layer are listed.
        """
        if self.first(layer.name) is not None:
            return True
        listed = [self.first(part) is not None for part in layer.parts]
        if any(listed) and not all(listed):
            raise HalfListedError
        return all(listed)


def _compressed_precision(weights: Mapping[str, Any]) -> str:
    bits, kind, group = int(weights["num_bits"]), weights["type"], weights.get("group_size")
    if kind == "int":
        return "INT"
    if bits == 4:
        return "NVFP4" if group == 16 else "MXFP4"
    return "MXFP8" if group == 32 else "FP8"

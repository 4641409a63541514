"""Quantization: which precision each layer's matrix has, by the checkpoint's own quantization config."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dgx_vllm.checkpoints.fields import quantization_config
from dgx_vllm.plan.precision import BF16, F32, PLAIN, Precision, Scales, fp8, integer, mxfp4, mxfp8, nvfp4
from dgx_vllm.util.errors import UserError

# Where text models lie in multimodal checkpoints, and where vLLM puts them: lists are written for either.
_ROOT = re.compile(r"^(model\.language_model\.|language_model\.model\.|language_model\.|model\.|backbone\.)")
_ROOTS = ("", "model.", "model.language_model.", "language_model.model.", "backbone.")


@dataclass(frozen=True)
class Rule:
    """A precision and the layers that have it.

    Args:
        precision: None for unquantized.
        names: runs of whole components of a layer's name, such as `lm_head`, `mlp.gate` or a full name.
        pattern: matches names from their beginning; empty matches all, None none.
        whole: names in full, without what precedes `layers`, of layers or of what holds them.
    """

    precision: Precision | None
    names: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    whole: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Quantization:
    """A checkpoint's precisions.

    Args:
        name: the method, as vLLM calls it.
        plain: of what is not quantized.
        rules: the first that matches a linear layer counts; without one it is plain.
        cache: the KV cache's dtype that the checkpoint asks for, if any.
    """

    name: str
    plain: Precision
    rules: tuple[Rule, ...] = ()
    cache: str | None = None

    def of(self, module: str, linear: bool) -> Precision:
        """The precision of a layer's weight, by the layer's name in the checkpoint."""
        if not linear or not self.rules:
            return self.plain
        bare = _ROOT.sub("", module)
        runs = _runs(bare)
        parents = {bare, *(bare[:index] for index, letter in enumerate(bare) if letter == ".")}
        for rule in self.rules:
            if (
                not rule.whole.isdisjoint(parents)
                or not rule.names.isdisjoint(runs)
                or (rule.pattern and any(rule.pattern.match(root + bare) for root in _ROOTS))
            ):
                return rule.precision or self.plain
        return self.plain


def _runs(name: str) -> set[str]:
    """Every run of consecutive components of a dotted name."""
    words = name.split(".")
    return {".".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


def read(model: str, dtype: str, config: Mapping[str, Any], beside: Mapping[str, Any] | None) -> Quantization:
    """What a checkpoint says about its quantization.

    Args:
        model: what the user called the model, for messages.
        dtype: of unquantized weights, by config.json.
        config: config.json.
        beside: hf_quant_config.json, which older ModelOpt checkpoints have instead of quantization_config.

    Raises:
        UserError: a dtype, a method or a format that is unknown here.
    """
    plain = PLAIN.get(dtype)
    if plain is None:
        raise UserError(
            f"{model}: config.json has dtype {dtype!r} (known: {', '.join(PLAIN)}); correct it there, or "
            "give the directory of a checkpoint whose weights are here"
        )
    fields = quantization_config(config)
    if not fields and beside:
        fields = {"quant_method": "modelopt", **beside}
    if not fields:
        return Quantization("none", plain)
    if not isinstance(fields, Mapping):
        raise UserError(f"{model}: its quantization_config is not a JSON object; fetch the checkpoint again")
    own = "modelopt" if "quant_algo" in fields or "quantization" in fields else ""
    method = str(fields.get("quant_method", own)).lower().replace("compressed_tensors", "compressed-tensors")
    reader = _READERS.get(method)
    if reader is None:
        raise UserError(
            f"{model}: the quantization {method or 'without a quant_method'!r} is unknown (known: "
            f"{', '.join(sorted(_READERS))}); choose a checkpoint in one of them, such as ModelOpt's NVFP4"
        )
    try:
        rules = tuple(reader(fields))
    except (KeyError, TypeError, AttributeError, ValueError, re.error) as error:
        raise UserError(
            f"{model}: its {method} quantization_config cannot be read ({_cause(error)}); "
            "fetch the checkpoint again, or choose one in ModelOpt's NVFP4"
        ) from error
    return Quantization(method, plain, rules, cache_dtype({**fields, "quant_method": method}))


def _cause(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def cache_dtype(fields: Mapping[str, Any]) -> str | None:
    """The KV cache's dtype that a quantization config asks for, as vLLM reads it; None for the model's own.

    ModelOpt's configs are read before anything is built (get_kv_cache_quant_algo_string); of the others
    compressed-tensors alone has a scheme, which vLLM's attention takes for FP8.
    """
    method = str(fields.get("quant_method", ""))
    if not method.startswith("modelopt"):
        return "fp8" if method == "compressed-tensors" and fields.get("kv_cache_scheme") else None
    inner = fields.get("quantization")
    parts = [inner, fields] if isinstance(inner, Mapping) else [fields]
    names = ("kv_cache_scheme", "kv_cache_quant_algo")
    scheme = next((part[name] for name in names for part in parts if part.get(name)), None)
    if isinstance(scheme, Mapping):
        if scheme.get("type") != "float":
            return None
        static = scheme.get("dynamic") is False
        return (
            "fp8"
            if scheme.get("num_bits") == 8 and static
            else "nvfp4"
            if scheme.get("num_bits") == 4
            else None
        )
    named = str(scheme).lower()
    return named if named in ("fp8", "nvfp4") else None


def _listed(names: Iterable[str], precision: Precision | None) -> Rule:
    """ModelOpt's lists, and those of the same kind: names, parts of names, shell patterns."""
    plain, wild = set(), []
    for name in names:
        if "*" in name or "?" in name or "[" in name:
            wild.append(fnmatch.translate(name))
        else:
            plain.add(_ROOT.sub("", name))
    return Rule(precision, frozenset(plain), re.compile("|".join(wild)) if wild else None)


def _targeted(names: Iterable[str], precision: Precision | None) -> Rule:
    """compressed-tensors' lists: a regular expression after `re:`, a class of layers, or a whole name."""
    patterns = []
    for name in names:
        if name.startswith("re:"):
            patterns.append(f"(?:{name.removeprefix('re:')})")
        elif name in ("Linear", "FusedMoE", "RoutedExperts"):
            patterns.append("")
        else:
            patterns.append(rf"{re.escape(_ROOT.sub('', name))}\Z")
    return Rule(precision, pattern=re.compile("|".join(patterns)) if patterns else None)


def _all(precision: Precision) -> Rule:
    return Rule(precision, pattern=re.compile(""))


_HEAD = Rule(None, frozenset({"lm_head"}))
_ROUTERS = Rule(None, frozenset({"gate", "router", "shared_expert_gate"}))


def _modelopt(fields: Mapping[str, Any]) -> Iterable[Rule]:
    inner = fields.get("quantization", fields)
    algorithm = str(inner["quant_algo"]).upper()
    yield _listed(inner.get("exclude_modules") or inner.get("ignore") or (), None)
    if algorithm == "MIXED_PRECISION":
        # Tens of thousands of layers, of a handful of precisions.
        names: dict[Precision, list[str]] = {}
        for name, recipe in inner["quantized_layers"].items():
            precision = _modelopt_precision(str(recipe["quant_algo"]), recipe)
            names.setdefault(precision, []).append(name)
        for precision, layers in names.items():
            rule = _listed((layer for layer in layers if "*" in layer), precision)
            plain = frozenset(_ROOT.sub("", layer) for layer in layers if "*" not in layer)
            yield Rule(precision, pattern=rule.pattern, whole=plain)
        return
    # ModelOpt leaves routers as they are, in its list or not, and vLLM quantizes none (GateLinear).
    yield _ROUTERS
    yield _all(_modelopt_precision(algorithm, {**inner, **_group(inner)}))


def _group(inner: Mapping[str, Any]) -> dict[str, int]:
    """The block size, which newer configs hold in the compressed-tensors way."""
    for group in (inner.get("config_groups") or {}).values():
        size = group.get("weights", {}).get("group_size")
        if isinstance(size, int):
            return {"group_size": size}
    return {}


def _modelopt_precision(algorithm: str, recipe: Mapping[str, Any]) -> Precision:
    group = int(recipe.get("group_size") or 16)
    known = {
        "NVFP4": nvfp4(group),
        "NVFP4_AWQ": nvfp4(group),
        "W4A16_NVFP4": nvfp4(group, activations=False),
        "FP8": fp8(Scales(0, 0, F32), activations=True),
        "FP8_PER_CHANNEL_PER_TOKEN": fp8(Scales(1, 0, F32)),
        "FP8_PB_WO": fp8(Scales(128, 128, F32)),
        "MXFP8": mxfp8(),
    }
    if algorithm.upper() not in known:
        raise ValueError(f"quant_algo {algorithm} is unknown (known: {', '.join(known)})")
    return known[algorithm.upper()]


def _fp8(fields: Mapping[str, Any]) -> Iterable[Rule]:
    yield _HEAD
    yield _listed(fields.get("modules_to_not_convert") or fields.get("ignored_layers") or (), None)
    block = fields.get("weight_block_size")
    if block:
        yield _all(fp8(Scales(int(block[0]), int(block[1]), F32)))
    else:
        yield _all(fp8(Scales(0, 0, F32), fields.get("activation_scheme") == "static"))


def _compressed_tensors(fields: Mapping[str, Any]) -> Iterable[Rule]:
    yield _targeted(fields.get("ignore") or (), None)
    for group in fields["config_groups"].values():
        precision = _compressed_precision(group, str(group.get("format") or fields.get("format", "")))
        yield _targeted(group["targets"], precision)


def _compressed_precision(group: Mapping[str, Any], form: str) -> Precision:
    weights = group["weights"]
    bits, kind, strategy = int(weights["num_bits"]), weights["type"], weights.get("strategy")
    size = int(weights.get("group_size") or 0)
    if form.startswith("mxfp4"):
        return mxfp4()
    if kind == "float" and bits == 4:
        return nvfp4(size or 16, activations=group.get("input_activations") is not None)
    block = weights.get("block_structure") or (0, 0)
    scales = {
        "tensor": Scales(0, 0, BF16),
        "channel": Scales(1, 0, BF16),
        "group": Scales(1, size, BF16),
        "block": Scales(int(block[0]), int(block[1]), BF16),
    }.get(strategy or "tensor")
    if scales is None:
        raise ValueError(f"the strategy {strategy} is unknown")
    if kind == "float" and bits == 8:
        return fp8(scales)
    if kind == "int":
        zeros = 0 if weights.get("symmetric", True) else bits
        return Precision(f"INT{bits}", bits, Scales(scales.rows, scales.columns, BF16, zeros))
    raise ValueError(f"weights of type {kind} in {bits} bits are unknown")


def _awq(fields: Mapping[str, Any]) -> Iterable[Rule]:
    yield _HEAD
    yield _ROUTERS
    yield _listed(fields.get("modules_to_not_convert") or (), None)
    bits = int(fields.get("bits") or fields["w_bit"])
    group = int(fields.get("group_size") or fields["q_group_size"])
    yield _all(integer(bits, group, bool(fields.get("zero_point", True))))


def _gptq(fields: Mapping[str, Any]) -> Iterable[Rule]:
    if not fields.get("lm_head"):
        yield _HEAD
    yield _ROUTERS
    # GPTQModel's dynamic rules: a leading -: leaves layers as they are.
    for pattern in fields.get("dynamic") or {}:
        if pattern.startswith("-:"):
            yield Rule(None, pattern=re.compile(pattern[2:]))
    yield _all(integer(int(fields["bits"]), int(fields["group_size"]), zeros=True, indexed=True))


def _mxfp4(fields: Mapping[str, Any]) -> Iterable[Rule]:
    """gpt-oss: the experts alone are quantized."""
    yield _listed(fields.get("modules_to_not_convert") or (), None)
    yield Rule(mxfp4(), frozenset({"experts"}))


_READERS: dict[str, Callable[[Mapping[str, Any]], Iterable[Rule]]] = {
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "modelopt_mixed": _modelopt,
    "modelopt_mxfp8": _modelopt,
    "fp8": _fp8,
    "compressed-tensors": _compressed_tensors,
    "awq": _awq,
    "gptq": _gptq,
    "mxfp4": _mxfp4,
}

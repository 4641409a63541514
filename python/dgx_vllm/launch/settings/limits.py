"""Limits: the values and combinations that cannot work, found before anything is started."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dgx_vllm.checkpoints.checkpoint import json_object
from dgx_vllm.checkpoints.context_length import encoder, longest
from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings import speculation
from dgx_vllm.launch.settings.ranking import Layer, Setting
from dgx_vllm.plan import draft_limits
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags.flags import size

#: Methods that vLLM applies to a checkpoint that is quantized already.
_ON_TOP = ("humming", "online", "fp8_per_", "int8_per_", "nvfp4_per_", "mxfp8")

_RANGES: dict[str, tuple[Callable[[str], float], Callable[[float], bool], str]] = {
    "port": (int, lambda port: 1 <= port <= 65535, "from 1 to 65535"),
    "gpu-memory-utilization": (float, lambda share: 0 < share <= 1, "above 0 and at most 1"),
    "kv-cache-memory-bytes": (size, lambda count: count > 0, "above 0"),
    "max-model-len": (lambda word: size(word, auto=True), lambda n: n > 0 or n == -1, "above 0, or auto"),
    "max-num-seqs": (int, lambda count: count > 0, "above 0"),
    "max-num-batched-tokens": (size, lambda count: count > 0, "above 0"),
    "tensor-parallel-size": (int, lambda count: count > 0, "above 0"),
    "pipeline-parallel-size": (int, lambda count: count > 0, "above 0"),
    "ssl-cert-reqs": (int, lambda kind: kind in (0, 1, 2), "0, 1 or 2 (none, optional, required)"),
}


def check(
    settings: Layer,
    machine: Machine,
    gated_delta_net: bool,
    config: Mapping[str, Any] | None = None,
    longer: bool = False,
    place: Path | None = None,
    insisted: bool = False,
) -> list[str]:
    """Refuses what cannot work.

    Args:
        settings: what counts, by name.
        machine: what it runs on.
        gated_delta_net: whether the model has GDN layers.
        config: the model's config.json, None where it is not here.
        longer: whether vLLM was told to allow more tokens than the model was made for.
        place: the model's directory, None where it is not here.
        insisted: whether known faults of kernels are the user's own risk.

    Returns:
        The risks that are let pass.

    Raises:
        UserError: names the setting, where it was given, and what it may be.
    """
    for name, (convert, holds, wanted) in _RANGES.items():
        setting = settings.get(name)
        if setting and not holds(convert(setting.text)):
            raise UserError(f"{_named(setting)} is out of range: it must be {wanted}")
    _check_parallel(settings, machine)
    risk = _check_drafts(settings, machine, gated_delta_net, insisted)
    speculation.check(settings, machine, gated_delta_net, config)
    if config is not None:
        if not longer:
            _check_length(settings, config, place)
        _check_quantization(settings, config)
    return [risk] if risk else []


def _check_parallel(settings: Layer, machine: Machine) -> None:
    """One rank takes one GPU; on CPU, at least one core."""
    nodes = settings.get("nnodes")
    backend = settings.get("distributed-executor-backend")
    if (nodes and int(nodes.text) > 1) or (backend and backend.text == "ray"):
        return  # ranks may be on other machines
    if machine.platform == "cuda" and not machine.gpus:
        return  # a dry run for another machine; starting is refused elsewhere
    room = len(machine.gpus) if machine.platform == "cuda" else machine.cpus
    noun = "GPU" if machine.platform == "cuda" else "CPU core"
    for name in ("tensor-parallel-size", "pipeline-parallel-size"):
        setting = settings.get(name)
        if setting and int(setting.text) > room:
            raise UserError(
                f"{_named(setting)} is more than this machine's {room} {noun}{'s' * (room > 1)}; "
                "lower it, or give --nnodes or --distributed-executor-backend ray"
            )


def _check_drafts(settings: Layer, machine: Machine, gated_delta_net: bool, insisted: bool) -> str | None:
    drafted = speculation.count(settings)
    if drafted is None:
        return None
    setting, count = drafted
    if count < 1:
        raise UserError(
            f"{setting.origin} asks for {count} drafts, which is out of range: it must be above 0, "
            "or 0 for none"
        )
    method = speculation.method(settings)
    return draft_limits.check(count, method, gated_delta_net, machine.platform, setting.origin, insisted)


def _check_length(settings: Layer, config: Mapping[str, Any], place: Path | None) -> None:
    """As vLLM does once it has read the config, with all that a minute of imports goes before."""
    setting = settings.get("max-model-len")
    # Overrides change the config in ways that vLLM's code decides.
    if setting is None or "hf-overrides" in settings:
        return
    disabled = settings.get("disable-sliding-window")
    limit = longest(
        config,
        windowed=not (disabled and disabled.value is True),
        tokenizer=_tokenizer(settings, config, place),
        encoder=encoder(place) if place else None,
    )
    if limit and size(setting.text, auto=True) > limit.allowed:
        raise UserError(
            f"{_named(setting)} is more than the {limit.allowed} tokens that the model can do "
            f"({limit.key}); lower it"
        )


def _tokenizer(settings: Layer, config: Mapping[str, Any], place: Path | None) -> dict[str, Any] | None:
    """The tokenizer's config where vLLM has it limit the model: a pooling model with absolute positions."""
    runner = settings["runner"].text if "runner" in settings else "auto"
    names = config.get("architectures")
    generates = runner == "generate" or (
        runner == "auto"
        and isinstance(names, list)
        and any("ForCausalLM" in str(name) or "ForConditionalGeneration" in str(name) for name in names)
    )
    if generates or config.get("position_embedding_type") != "absolute" or "tokenizer" in settings:
        return None
    path = place / "tokenizer_config.json" if place else None
    return json_object(path) if path and path.is_file() else None


def _check_quantization(settings: Layer, config: Mapping[str, Any]) -> None:
    """vLLM takes a ModelOpt checkpoint for what it is, whatever --quantization says."""
    setting = settings.get("quantization")
    stored = config.get("quantization_config")
    method = stored.get("quant_method") if isinstance(stored, dict) else None
    if setting is None or not str(method).startswith("modelopt"):
        return
    if not setting.text.startswith(("modelopt", *_ON_TOP)):
        raise UserError(
            f"{_named(setting)} would be ignored: the checkpoint is quantized by ModelOpt; leave it out"
        )


def draft_count(settings: Mapping[str, Setting]) -> int:
    """How many tokens are drafted for each step, 0 where none are."""
    drafted = speculation.count(settings)
    return drafted[1] if drafted else 0


def _named(setting: Setting) -> str:
    # A flag's origin is its own name; anything else says both.
    if setting.origin == f"--{setting.name}":
        return f"{setting.origin} {setting.text}"
    return f"{setting.name} {setting.text} ({setting.origin})"

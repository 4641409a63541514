"""Speculation: who says how many tokens are drafted, and what vLLM does not do together with drafts.

The refusals are vLLM 0.32.0's own, or faults that it has, found without the minute that it takes to start:
`config/speculative.py`, `config/vllm.py`, `model_executor/models/config.py`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dgx_vllm.checkpoints import draft_model
from dgx_vllm.checkpoints.checkpoint import has_mamba2, looks_like_path
from dgx_vllm.checkpoints.draft_model import DraftModel
from dgx_vllm.checkpoints.fields import language_parts
from dgx_vllm.checkpoints.speculators import Speculator
from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings.ranking import Layer, Overruled, Setting, Source
from dgx_vllm.util.errors import UserError

_CONFIG = "speculative-config"
#: The flags that stand for a field of --speculative-config; vLLM takes one of the two, not both.
_SHORT = {"spec-method": "method", "spec-model": "model", "spec-tokens": "num_speculative_tokens"}
_COUNT = "num_speculative_tokens"
_BACKEND = "moe_backend"
#: Where suffix decoding says how many drafts there are at most, and how many those are otherwise.
_DEPTH, _SUFFIX_DEPTH = "suffix_decoding_max_tree_depth", 24
#: Methods that draft by a part of the checkpoint itself, whose names end so.
_MTP = "mtp"


def settle(winners: Layer) -> tuple[Layer, list[Overruled]]:
    """Leaves one setting for each thing: a flag such as --spec-tokens or the same field of a profile's
    speculative-config, whichever ranks higher; and none where 0 drafts are asked for.

    Raises:
        UserError: both are given in places of one rank, or one in a file that vLLM reads itself; or the
            config is none.
    """
    left, overruled = dict(winners), list[Overruled]()
    if _CONFIG in left:
        _check_object(left[_CONFIG])
    for name, key in _SHORT.items():
        short, whole = left.get(name), left.get(_CONFIG)
        fields = _fields(whole)
        if short is None or whole is None or key not in fields:
            continue
        if short.source == whole.source:
            raise UserError(f"{short.origin} and {whole.origin} both give the drafts' {key}; keep one")
        _check_file(*sorted((short, whole), key=lambda setting: setting.source))
        if short.source > whole.source:
            overruled_field = replace(whole, name=f"{_CONFIG}.{key}", value=str(fields.pop(key)))
            left[_CONFIG] = replace(whole, value=fields)
            overruled.append(Overruled(overruled_field, short, f"{short.source} ranks above {whole.source}"))
        else:
            overruled.append(Overruled(left.pop(name), whole, f"{whole.source} ranks above {short.source}"))
    overruled += _share_dgx(left)
    drafted = count(left)
    if drafted and drafted[1] == 0:
        for name in (_CONFIG, *_SHORT):
            if name in left and left[name] is not drafted[0]:
                _check_file(left[name], drafted[0])
                overruled.append(Overruled(left[name], drafted[0], "no drafts are asked for"))
            left.pop(name, None)
    return left, overruled


def _check_object(whole: Setting) -> None:
    fields = json.loads(whole.text)
    if fields is not None and not isinstance(fields, dict):
        raise UserError(
            f'{whole.origin} must be a JSON object such as {{"method": "mtp", "{_COUNT}": 2}}, '
            f"not {whole.text}"
        )
    number = _fields(whole).get(_COUNT)
    if number is not None and _whole(number) is None:
        raise UserError(f"{whole.origin}: {_COUNT} must be a whole number, not {json.dumps(number)}")


def _whole(value: Any) -> int | None:
    """A whole number as vLLM's class takes one: 2, 2.0, "2" and "2.0", and True for 1."""
    text = str(int(value)) if isinstance(value, bool) else str(value).strip()
    match = re.fullmatch(r"([+-]?\d+)(?:\.0+)?", text)
    return int(match[1]) if match else None


def _share_dgx(left: Layer) -> list[Overruled]:
    """Has drafts take --moe-backend dgx too, and not what a profile has for them.

    A profile names a backend for them because its own for the model serves no BF16; with dgx those experts
    become NVFP4 (--dense-dtype), or vLLM chooses for them.
    """
    backend, whole = left.get("moe-backend"), left.get(_CONFIG)
    fields = _fields(whole)
    if backend is None or whole is None or _BACKEND not in fields:
        return []
    if backend.text.lower() != "dgx" or whole.source is not Source.PROFILE or backend.source <= whole.source:
        return []
    overruled_field = replace(whole, name=f"{_CONFIG}.{_BACKEND}", value=str(fields.pop(_BACKEND)))
    left[_CONFIG] = replace(whole, value=fields)
    return [Overruled(overruled_field, backend, f"{backend.source} ranks above {whole.source}")]


def _check_file(loser: Setting, winner: Setting) -> None:
    if loser.source is Source.CONFIG_FILE:
        raise UserError(f"{winner.origin} cannot take back {loser.name} from {loser.origin}; delete it there")


def with_own_count(winners: Layer, config: Mapping[str, Any] | None) -> Layer:
    """Says how many drafts vLLM makes where nobody does: as many as there are MTP layers, or a suffix tree's.

    Args:
        winners: what counts, by name.
        config: the model's config.json, None where it is not here.
    """
    made_by = method(winners)
    if made_by is None or count(winners) is not None or drafter(winners):
        return winners
    whole = winners.get(_CONFIG)
    fields = _fields(whole)
    if made_by == "suffix":
        number = _whole(fields.get(_DEPTH, _SUFFIX_DEPTH))
    else:
        number = _mtp_layers(config) if made_by.endswith(_MTP) and config is not None else None
    if not number:
        return winners
    short = winners.get("spec-method")
    if short:
        name, value = "spec-tokens", str(number)
        return {**winners, name: Setting(name, value, short.source, f"{short.origin}, by default")}
    assert whole
    config_text = json.dumps({**json.loads(whole.text), _COUNT: number})
    return {**winners, _CONFIG: replace(whole, value=config_text)}


def count(settings: Mapping[str, Setting]) -> tuple[Setting, int] | None:
    """How many tokens are drafted for each step, and the setting that says so; None where nobody does."""
    short, whole = settings.get("spec-tokens"), settings.get(_CONFIG)
    if short:
        return short, int(short.text)
    number = _whole(_fields(whole).get(_COUNT))
    return (whole, number) if whole and number is not None else None


def method(settings: Mapping[str, Setting]) -> str | None:
    """What makes the drafts, None where vLLM is to find out."""
    short = settings.get("spec-method")
    name = short.text if short else _fields(settings.get(_CONFIG)).get("method")
    return name if isinstance(name, str) else None


def drafter(settings: Mapping[str, Setting], served: str | None = None) -> DraftModel | None:
    """The checkpoint that makes the drafts, None where that is none but the model itself.

    Args:
        settings: what counts, by name.
        served: the model that answers, such as a speculators repository's verifier; None for `model`'s.
    """
    fields = _fields(settings.get(_CONFIG))
    fields |= {field: settings[name].text for name, field in _SHORT.items() if name in settings}
    return draft_model.read(fields, served or settings["model"].text)


def allows_other_vocabulary(settings: Mapping[str, Setting]) -> bool:
    """Whether a draft model may have another vocabulary than the model."""
    return _fields(settings.get(_CONFIG)).get("use_heterogeneous_vocab") is True


def with_own_revision(winners: Layer, speculator: Speculator | None) -> Layer:
    """Has vLLM load drafts that come with the model at the model's revision.

    vLLM 0.32 loads them at `main` whatever --revision says: MTP layers, and the drafter of a speculators
    repository, which --revision names as well.

    Raises:
        UserError: a file that vLLM reads itself has the drafts' config, and not their revision.
    """
    revision, whole = winners.get("revision"), winners.get(_CONFIG)
    fields, model = _fields(whole), winners["model"].text
    named = winners["spec-model"].text if "spec-model" in winners else fields.get("model")
    own = whole is not None if speculator else draft_model.is_own(named, method(winners), model)
    if revision is None or not own or fields.get("revision") or looks_like_path(model):
        return winners
    fields["revision"] = revision.text
    if whole is None:
        origin = f"{revision.origin}, for the drafts"
        return {**winners, _CONFIG: Setting(_CONFIG, json.dumps(fields), revision.source, origin)}
    if whole.source is Source.CONFIG_FILE:
        raise UserError(
            f"{whole.origin}: vLLM 0.32 would load the drafts at main, and the model at {revision.text} "
            f"({revision.origin}); add the revision there: {_CONFIG}: {json.dumps(fields)}"
        )
    return {**winners, _CONFIG: replace(whole, value=json.dumps(fields))}


def check(settings: Layer, machine: Machine, gated_delta_net: bool, config: Mapping[str, Any] | None) -> None:
    """Refuses what vLLM refuses, or fails in, with the drafts that are asked for.

    Args:
        settings: what counts, by name.
        machine: what it runs on.
        gated_delta_net: whether the model has GDN layers.
        config: the model's config.json, None where it is not here.

    Raises:
        UserError: says what, why, and what to do.
    """
    _check_chunks(settings, gated_delta_net)
    drafted = count(settings)
    if drafted is None:
        return
    setting, number = drafted
    fields = _fields(settings.get(_CONFIG))
    made_by = method(settings)
    if made_by is None and "spec-model" not in settings and "model" not in fields:
        raise UserError(
            f"{setting.origin} sets the number of drafts, but nothing says what makes them; give "
            "--spec-method mtp for a model with MTP layers, or --spec-model"
        )
    _check_fields(settings, fields, setting)
    if _on(settings, "kv-sharing-fast-prefill"):
        raise UserError(
            f"{settings['kv-sharing-fast-prefill'].origin} gives wrong logits for prompt tokens, which "
            f"drafts ({setting.origin}) are made from, so vLLM refuses the combination; leave one out"
        )
    if machine.platform == "cpu" and config is not None and has_mamba2(config):
        raise UserError(
            f"drafts ({setting.origin}) make vLLM 0.32's CPU operators for Mamba 2 answer wrongly: they take "
            "rejected drafts for text; give --spec-tokens 0"
        )
    # Its copy of GDN states between blocks is a Triton kernel (vllm/v1/worker/mamba_utils.py).
    if gated_delta_net and machine.platform == "cpu" and not _off(settings, "enable-prefix-caching"):
        raise UserError(
            f"drafts ({setting.origin}) with prefix caching of GDN layers need a Triton kernel, which the "
            "CPU backend lacks; give --no-enable-prefix-caching"
        )
    own = made_by is not None and made_by.endswith(_MTP) and not drafter(settings)
    if own and config is not None:
        _check_layers(setting, number, config)


def _check_chunks(settings: Layer, gated_delta_net: bool) -> None:
    """Prefix caching, on unless told otherwise, keeps GDN states at the ends of blocks."""
    if not gated_delta_net or _off(settings, "enable-prefix-caching"):
        return
    for name, bad in (("enable-chunked-prefill", _off), ("disable-chunked-mm-input", _on)):
        if bad(settings, name):
            raise UserError(
                f"{settings[name].origin} leaves prompts whole, and prefix caching of GDN layers cuts them "
                "at the ends of blocks; leave it out, or give --no-enable-prefix-caching"
            )


def _check_fields(settings: Layer, fields: Mapping[str, Any], setting: Setting) -> None:
    if "tensor_parallel_size" in fields:
        raise UserError(
            f"{setting.origin}: tensor_parallel_size cannot be set for drafts; set "
            "draft_tensor_parallel_size instead"
        )
    ranks = settings["tensor-parallel-size"].text if "tensor-parallel-size" in settings else "1"
    if str(fields.get("draft_tensor_parallel_size", 1)) not in ("1", ranks):
        raise UserError(
            f"{setting.origin}: draft_tensor_parallel_size must be 1 or the model's {ranks}; give one of them"
        )
    if fields.get("disable_padded_drafter_batch") and _on(settings, "async-scheduling"):
        raise UserError(
            f"{setting.origin}: disable_padded_drafter_batch does not go with "
            f"{settings['async-scheduling'].origin}; leave one out"
        )


def _check_layers(setting: Setting, number: int, config: Mapping[str, Any]) -> None:
    """A model's MTP layers draft one token each, in turns."""
    layers = _mtp_layers(config)
    if layers is None:
        return  # some families have one layer and do not say so
    if layers == 0:
        raise UserError(f"{setting.origin} asks for drafts, and the model has no MTP layers; leave it out")
    if number > layers and number % layers:
        raise UserError(
            f"{setting.origin} asks for {number} drafts, which must be a multiple of the model's {layers} "
            f"MTP layers; give {number - number % layers}"
        )


def _mtp_layers(config: Mapping[str, Any]) -> int | None:
    names = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
    counts = (part.get(name) for part in language_parts(config) for name in names)
    return next((count for count in counts if isinstance(count, int)), None)


def _fields(setting: Setting | None) -> dict[str, Any]:
    return {} if setting is None else draft_model.fields(setting.text)


def _on(settings: Layer, name: str) -> bool:
    return name in settings and settings[name].text in ("on", "true", "True")


def _off(settings: Layer, name: str) -> bool:
    return name in settings and settings[name].text in ("off", "false", "False")

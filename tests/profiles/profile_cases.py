"""Every profile's command, with directories in place of models, and with each of its drafts."""

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import known_configs

from dgx_vllm.host.machine import GIB
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Draft, Profile

#: MemTotal. What a Spark of 64 GB has was not seen: the larger one's, less the 64 GiB.
MEMORY = {"128GB": int(119.7 * GIB), "64GB": int(55.7 * GIB)}
_DRAFTING = "--speculative-config"

#: A profile, a flag, another value, and why vLLM refuses that: the reason of the value in the profile.
WRONG = [
    ("gpt-oss-120b", "--attention-backend", "flash_attn", "attention sinks not supported"),
    ("gemma-4-26b-a4b-nvfp4", "--attention-backend", "flashinfer", "multimodal token full attention"),
    ("nemotron-3.5-lightning-30b-a3b-nvfp4", "--moe-backend", "flashinfer_cutlass", "quantization scheme"),
    (
        "qwen3-next-80b-a3b-instruct-nvfp4",
        _DRAFTING,
        '{"method": "mtp", "num_speculative_tokens": 2}',
        "marlin",
    ),
    ("qwen3.8-27b-nvfp4", "--tool-call-parser", "qwen", "invalid tool call parser"),
    ("qwen3.8-27b-nvfp4", "--reasoning-parser", "qwen", "Reasoning parser 'qwen' not found"),
]

DryRuns = Mapping[tuple[str, str], dict[str, Any]]
Answers = Mapping[str, dict[str, Any]]


def draft_name(of: Profile, draft: Draft) -> str:
    return f"{of.name} with {draft.method} by {draft.model or 'itself'}"


def speculation(of: Profile) -> dict[str, Any]:
    """What a profile's --speculative-config asks for on CUDA; empty where it does not draft."""
    value = of.values("cuda").get("speculative-config", {})
    assert isinstance(value, dict)
    return value


def commands(dry_runs: DryRuns, checkpoint: Callable[[str], str | None]) -> dict[str, list[str]]:
    """The words of each command, with directories in place of models whose config.json is known."""
    cases: dict[str, list[str]] = {}
    for of in profile.builtin():
        model = of.argument if of.checkpoint else checkpoint(of.model) or of.model
        for size in MEMORY:
            words = shlex.split(dry_runs[of.name, size]["command"])
            words = [model, *words[words.index("serve") + 2 :]]
            if _local(words, checkpoint):
                cases[f"{of.name} on {size}"] = words
            if size == "128GB":
                for draft in of.drafts:
                    drafting = [*_without(words, _DRAFTING), _DRAFTING, json.dumps(_asked(of, draft))]
                    if _local(drafting, checkpoint):
                        cases[draft_name(of, draft)] = drafting
    for name, flag, value, _ in WRONG:
        words = [*cases[f"{name} on 128GB"]]
        words[words.index(flag) + 1] = value
        cases[f"{name} with {flag} {value}"] = words
    return cases


def _asked(of: Profile, draft: Draft) -> dict[str, Any]:
    """The --speculative-config for one of a profile's drafts: the profile's own, if it is that one."""
    own = speculation(of)
    if (own.get("method"), own.get("model")) == (draft.method, draft.model):
        return own
    counts = [int(count) for by_count in draft.accepted.values() for count in by_count]
    asked: dict[str, Any] = {"method": draft.method, "num_speculative_tokens": max(counts, default=1)}
    # A backend for the model's NVFP4 experts may have none for a draft in BF16.
    return asked | {"moe_backend": "triton"} | ({"model": draft.model} if draft.model else {})


def _without(words: list[str], flag: str) -> list[str]:
    if flag not in words:
        return words
    index = words.index(flag)
    return [*words[:index], *words[index + 2 :]]


def _local(words: list[str], checkpoint: Callable[[str], str | None]) -> bool:
    """Puts the draft model's directory into the words; False where its config is not known."""
    if _DRAFTING not in words:
        return True
    index = words.index(_DRAFTING) + 1
    fields = json.loads(words[index])
    if "model" in fields:
        fields["model"] = checkpoint(fields["model"])
        fields.pop("revision", None)  # a directory has none
    words[index] = json.dumps(fields)
    return fields.get("model", "") is not None


def checkpoint(directory: Path, model: str) -> str | None:
    """A directory with a model's config.json; None where the tests do not have it.

    The tokenizer is the demo's: vLLM takes the marks of reasoning apart with it, and it reads any text.
    """
    config = known_configs.config(model)
    if config is None:
        return None
    place = directory / model.replace("/", "--")
    if not place.exists():
        place.mkdir()
        (place / "config.json").write_text(json.dumps(config))
        demo = Path(profile.by_name("demo").argument)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (place / name).write_bytes((demo / name).read_bytes())
    return str(place)

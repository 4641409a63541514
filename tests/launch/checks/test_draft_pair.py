"""A draft model that does not fit is refused before either model is loaded, with the values that differ."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dgx_vllm.checkpoints.fields import Fields
from dgx_vllm.launch.checks import draft_pair
from helpers.launching import Outcome, Run, write_safetensors

TARGET = {
    "model_type": "qwen3_5",
    "text_config": {"hidden_size": 5120, "num_hidden_layers": 64, "vocab_size": 248320},
}
#: z-lab/Qwen3.8-27B-DFlash2 in what matters here.
DFLASH = {
    "architectures": ["DFlash2DraftModel"],
    "model_type": "qwen3",
    "hidden_size": 5120,
    "num_hidden_layers": 5,
    "num_target_layers": 64,
    "vocab_size": 248320,
    "dflash_config": {"block_size": 8, "mask_token_id": 248070, "target_layer_ids": [5, 19, 33, 47, 61]},
}
EAGLE3 = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "hidden_size": 5120,
    "num_hidden_layers": 1,
    "vocab_size": 248320,
    "eagle_config": {"eagle_aux_hidden_state_layer_ids": [2, 32, 64]},
}
DSPARK = {
    "architectures": ["Qwen3DSparkModel"],
    "model_type": "qwen3",
    "hidden_size": 5120,
    "num_hidden_layers": 2,
    "vocab_size": 248320,
    "block_size": 8,
    "markov_rank": 256,
    "target_layer_ids": [1, 63],
}
ASSISTANT = {
    "architectures": ["Gemma4AssistantForCausalLM"],
    "model_type": "gemma4_assistant",
    "backbone_hidden_size": 5120,
    "text_config": {"hidden_size": 1024, "vocab_size": 248320},
}
WHOLE = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 512,
    "vocab_size": 248320,
}


def speculators(verifier: str) -> dict[str, Any]:
    return {
        "speculators_model_type": "eagle3",
        "draft_vocab_size": 32000,
        "transformer_layer_config": {"model_type": "llama", "hidden_size": 5120, "num_hidden_layers": 1},
        "speculators_config": {
            "proposal_methods": [{"speculative_tokens": 5}],
            "verifier": {"name_or_path": verifier},
        },
    }


class Serve:
    """A dry run with a target and a draft model in the cache."""

    def __init__(self, run: Run, hub: Path) -> None:
        self.run = run
        self.hub = hub

    def __call__(
        self,
        draft: dict[str, Any],
        method: str | None,
        count: int = 3,
        name: str = "org/draft",
        model: str = "org/Qwen3.8-27B-NVFP4",
        tensors: tuple[str, ...] = ("d2t",),
        **more: Any,
    ) -> Outcome:
        self._place(model, TARGET, ("weight",))
        self._place(name, draft, tensors)
        config = {"model": name, "num_speculative_tokens": count, **more}
        config |= {"method": method} if method else {}
        return self.run("serve", model, "--dry-run", "--speculative-config", json.dumps(config))

    def _place(self, name: str, config: dict[str, Any], tensors: tuple[str, ...]) -> None:
        folder = self.hub / f"models--{name.replace('/', '--')}"
        place = folder / "snapshots" / ("a" * 40)
        place.mkdir(parents=True, exist_ok=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text("a" * 40)
        (place / "config.json").write_text(json.dumps(config))
        write_safetensors(place / "model.safetensors", dict.fromkeys(tensors, 8))


@pytest.fixture
def serve(dgx_vllm: Run, environment: dict[str, str]) -> Serve:
    return Serve(dgx_vllm, Path(environment["HF_HOME"], "hub"))


def refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.status == 2, outcome
    assert outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err


@pytest.mark.parametrize(
    ("draft", "method"),
    [
        (DFLASH, "dflash"),
        (EAGLE3, "eagle3"),
        ({**EAGLE3, "draft_vocab_size": 32000}, "eagle3"),
        ({**EAGLE3, "hidden_size": 2048, "target_hidden_size": 5120}, "eagle3"),
        (DSPARK, "dspark"),
        ({**DSPARK, "vocab_size": 248448}, "dspark"),
        (ASSISTANT, "mtp"),
        (WHOLE, "draft_model"),
        (speculators("Qwen/Qwen3.8-27B"), "eagle3"),
        ({}, "eagle3"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.get("architectures", "other")),
)
def test_a_draft_model_that_fits_passes_without_a_word(
    serve: Serve, draft: dict[str, Any], method: str
) -> None:
    outcome = serve(draft, method)
    assert outcome.status == 0, outcome.err
    assert "the draft model" not in outcome.out


@pytest.mark.parametrize(
    ("draft", "method", "name", "said"),
    [
        ({**DFLASH, "hidden_size": 3072}, "dflash", "hidden_size", "3072"),
        ({**EAGLE3, "hidden_size": 4096}, "eagle3", "hidden_size", "4096"),
        ({**EAGLE3, "target_hidden_size": 2880}, "eagle3", "target_hidden_size", "2880"),
        ({**DSPARK, "hidden_size": 2688}, "dspark", "hidden_size", "2688"),
        ({**WHOLE, "hidden_size": 512}, "eagle", "hidden_size", "512"),
        ({**ASSISTANT, "backbone_hidden_size": 2816}, "mtp", "backbone_hidden_size", "2816"),
    ],
)
def test_another_hidden_size_is_refused_with_both_values(
    serve: Serve, draft: dict[str, Any], method: str, name: str, said: str
) -> None:
    refused(
        serve(draft, method),
        f"its {name} is {said}, and the model's hidden_size is 5120",
        "give a draft model that was made for it, or --spec-tokens 0 for no drafts",
    )


@pytest.mark.parametrize(
    ("draft", "method"), [(DFLASH, "dflash"), (EAGLE3, "eagle3"), (ASSISTANT, "mtp"), (WHOLE, "draft_model")]
)
def test_another_vocabulary_is_refused_with_both_values(
    serve: Serve, draft: dict[str, Any], method: str
) -> None:
    changed = json.loads(json.dumps(draft).replace("248320", "151936"))
    refused(serve(changed, method), "its vocab_size is 151936, and the model's vocab_size is 248320")


def test_a_whole_model_may_have_another_vocabulary_where_that_was_asked_for(serve: Serve) -> None:
    other = {**WHOLE, "vocab_size": 151936}
    refused(serve(other, "draft_model"), "or set use_heterogeneous_vocab")
    assert serve(other, "draft_model", use_heterogeneous_vocab=True).status == 0


@pytest.mark.parametrize(("draft", "method"), [(EAGLE3, "eagle3"), (DSPARK, "dspark"), (DFLASH, "dflash")])
def test_a_smaller_vocabulary_needs_a_table_among_the_weights(
    serve: Serve, draft: dict[str, Any], method: str
) -> None:
    reduced = {**draft, "draft_vocab_size": 32000}
    refused(
        serve(reduced, method, tensors=("fc.weight",)),
        "drafts 32000 of 248320 tokens (draft_vocab_size), and its weights have no table",
    )
    assert serve(reduced, method, tensors=("fc.weight", "d2t")).status == 0


@pytest.mark.parametrize(
    ("draft", "method", "layer", "field"),
    [
        (
            {**EAGLE3, "eagle_aux_hidden_state_layer_ids": [1, 65]},
            "eagle3",
            65,
            "eagle_aux_hidden_state_layer_ids",
        ),
        ({**DSPARK, "target_layer_ids": [1, 64]}, "dspark", 65, "target_layer_ids"),
        (
            {**DFLASH, "dflash_config": {**DFLASH["dflash_config"], "target_layer_ids": [5, 70]}},  # type: ignore[dict-item]
            "dflash",
            71,
            "target_layer_ids",
        ),
    ],
)
def test_a_layer_that_the_model_lacks_is_refused(
    serve: Serve, draft: dict[str, Any], method: str, layer: int, field: str
) -> None:
    refused(serve(draft, method), f"layer {layer}, counted from 1 ({field}), and the model has 64 layers")


def test_a_draft_model_for_a_model_of_other_depth_is_refused(serve: Serve) -> None:
    refused(
        serve({**DFLASH, "num_target_layers": 48}, "dflash"),
        "its num_target_layers is 48, and the model's num_hidden_layers is 64",
    )


@pytest.mark.parametrize(("draft", "most"), [(DFLASH, 7), (DSPARK, 8)])
def test_more_drafts_than_a_block_has_are_refused(serve: Serve, draft: dict[str, Any], most: int) -> None:
    method = "dflash" if draft is DFLASH else "dspark"
    refused(
        serve(draft, method, 9),
        f"its block_size is 8; set num_speculative_tokens to {most}",
    )
    assert "was trained for" not in serve(draft, method, most).out


def test_the_draft_past_the_trained_ones_is_named_and_let_pass(serve: Serve) -> None:
    outcome = serve(DFLASH, "dflash", 8)
    assert outcome.status == 0
    assert "was trained for 7 drafts at once (block_size 8); of 8 the last is seldom right" in outcome.out


def test_a_draft_model_for_a_model_of_another_size_is_refused(serve: Serve) -> None:
    outcome = serve(speculators("Qwen/Qwen3.8-8B"), "eagle3")
    refused(outcome, "the draft model org/draft was made for Qwen/Qwen3.8-8B, not for org/Qwen3.8-27B-NVFP4")


def test_a_draft_model_for_a_model_of_another_name_is_named_and_let_pass(serve: Serve) -> None:
    outcome = serve(speculators("someone/Other-27B"), "eagle3")
    assert outcome.status == 0
    assert "was made for someone/Other-27B; if org/Qwen3.8-27B-NVFP4 is not a copy of that" in outcome.out


def test_a_draft_model_without_its_method_is_not_taken_for_a_whole_model(serve: Serve) -> None:
    refused(serve(EAGLE3, None), "it is a draft model of the kind eagle3; give --spec-method eagle3")
    # vLLM tells the method by the name.
    assert serve(EAGLE3, None, name="org/27B-Eagle3").status == 0


def test_a_config_that_is_changed_on_the_command_line_is_not_compared(serve: Serve, dgx_vllm: Run) -> None:
    assert serve({**EAGLE3, "hidden_size": 4096}, "eagle3").status == 2
    config = json.dumps({"model": "org/draft", "num_speculative_tokens": 3, "method": "eagle3"})
    words = ["serve", "org/Qwen3.8-27B-NVFP4", "--dry-run", "--speculative-config", config]
    assert dgx_vllm(*words, "--hf-overrides", '{"hidden_size": 4096}').status == 0


class _TakenError(Exception):
    """The method that vLLM takes drafts for."""


@pytest.mark.parametrize(
    ("name", "method"),
    [("org/27B-DFlash2", "dflash"), ("org/27B-Eagle3-merged", "eagle3"), ("org/eagle-27B", "eagle")],
)
def test_mtp_of_a_model_whose_name_vllm_takes_for_another_method_is_refused(
    dgx_vllm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    refused(
        dgx_vllm("serve", name, "--dry-run", "--spec-method", "mtp", "--spec-tokens", "2"),
        f"vLLM 0.32 would take drafts by mtp for {method}, because the model's name {name} has",
        "give a directory whose path has not",
    )
    from vllm.config import speculative
    from vllm.transformers_utils.configs import eagle

    class Recorder:
        def __init__(self, *_: Any, method: str, **__: Any) -> None:
            raise _TakenError(method)

    def loaded(model: str, **_: Any) -> SimpleNamespace:
        config = SimpleNamespace(model_type="qwen3_5_mtp", max_position_embeddings=None)
        return SimpleNamespace(model=model, architectures=["Qwen3_5MTP"], hf_config=config)

    monkeypatch.setattr(eagle, "EAGLEConfig", Recorder)
    monkeypatch.setattr(speculative, "ModelConfig", loaded)
    names = ("tokenizer", "tokenizer_mode", "trust_remote_code", "allowed_local_media_path", "dtype", "seed")
    names += ("allowed_media_domains", "tokenizer_revision", "max_model_len", "enforce_eager", "max_logprobs")
    names += ("hf_overrides", "config_format", "quantization", "model_weights")
    target = SimpleNamespace(model=name, **dict.fromkeys(names))
    with pytest.raises(_TakenError) as raised:
        speculative.SpeculativeConfig(method="mtp", target_model_config=target, num_speculative_tokens=2)
    assert raised.value.args == (method,)


@pytest.mark.parametrize(
    "config",
    [
        {"eagle_aux_hidden_state_layer_ids": [2, 6]},
        {"dflash_config": {"target_layer_ids": [1, 5]}},
        {"dspark_target_layer_ids": [1, 5]},
        {"target_layer_ids": [1, 5]},
        {"eagle_aux_hidden_state_layer_ids": [2, 6], "target_layer_ids": [1, 5]},
    ],
    ids=str,
)
def test_the_layers_are_those_that_vllm_reads(config: dict[str, Any]) -> None:
    from vllm.v1.worker.gpu.spec_decode.eagle import eagle3_utils

    draft = SimpleNamespace(draft_model_config=SimpleNamespace(hf_config=SimpleNamespace(**config)))
    flat = {**config, **config.get("dflash_config", {})}
    ours = draft_pair._layers(Fields("draft", flat))[1]
    assert tuple(ours) == eagle3_utils.get_eagle3_aux_layers_from_config(draft) == (2, 6)

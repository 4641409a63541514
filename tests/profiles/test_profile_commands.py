"""Every profile gives a command that vLLM 0.32's parser, config classes and layers accept on a GB10."""

import known_configs
import pytest
from profile_cases import MEMORY, WRONG, Answers, DryRuns, speculation

from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.profiles.sizes import model_sizes

ALL = profile.builtin()
KNOWN = [of for of in ALL if of.model not in known_configs.UNKNOWN]
by_name = pytest.mark.parametrize("of", ALL, ids=lambda of: of.name)
by_known_name = pytest.mark.parametrize("of", KNOWN, ids=lambda of: of.name)
by_size = pytest.mark.parametrize("size", MEMORY)


@by_name
def test_each_profile_is_served_on_a_spark_of_128_gb(of: Profile, dry_runs: DryRuns) -> None:
    assert dry_runs[of.name, "128GB"]["refusal"] is None


@by_name
def test_a_spark_of_64_gb_refuses_the_models_that_exceed_it(of: Profile, dry_runs: DryRuns) -> None:
    """8 GB are left to the host, and about 5 go to CUDA, graphs and activations."""
    sizes = model_sizes.by_model(of.model)
    too_large = sizes is not None and sizes.bytes > MEMORY["64GB"] - 13e9
    refusal = dry_runs[of.name, "64GB"]["refusal"]
    assert (refusal is not None) == too_large, refusal


@by_size
@by_name
def test_vllm_accepts_each_command(of: Profile, size: str, answers: Answers) -> None:
    said = answers.get(f"{of.name} on {size}", {"refused": None})
    assert said["refused"] is None
    if "layers" not in said and of.model not in known_configs.UNKNOWN:
        pytest.fail(f"add config.json of {of.model} and of its draft to tests/profiles/published_configs.py")


@pytest.mark.parametrize(("name", "flag", "value", "reason"), WRONG)
def test_vllm_refuses_what_profiles_avoid(
    name: str, flag: str, value: str, reason: str, answers: Answers
) -> None:
    assert reason in answers[f"{name} with {flag} {value}"]["refused"]


@by_size
@by_known_name
def test_vllm_does_what_serve_asks(of: Profile, size: str, dry_runs: DryRuns, answers: Answers) -> None:
    said = answers[f"{of.name} on {size}"]
    assert said["refused"] is None
    asked = {name: setting["value"] for name, setting in dry_runs[of.name, size]["settings"].items()}
    compared = said.keys() & asked.keys()
    assert {"max-num-seqs", "attention-backend", "kv-cache-dtype"} & compared
    for name in compared:
        assert str(said[name]).lower() == str(asked[name]).lower(), name
    drafts = speculation(of)
    assert (said["drafts"] is None) == (not drafts)
    if drafts:
        assert said["drafts"]["method"] == drafts["method"]
        assert said["drafts"]["count"] == drafts["num_speculative_tokens"]


@by_known_name
def test_each_layer_gets_the_backend_that_the_profile_names(of: Profile, answers: Answers) -> None:
    layers, asked = answers[f"{of.name} on 128GB"]["layers"], of.values("cuda")
    for kind, flag in (("attention", "attention-backend"), ("experts", "moe-backend")):
        if flag in asked:
            assert set(layers[kind]) == {asked[flag]}
    if "linear-backend" in asked:
        in_nvfp4 = {name for name in layers["linear"] if "NvFp4" in name or name == "dgx"}
        assert in_nvfp4 == {asked["linear-backend"]}


@by_known_name
def test_each_layer_that_drafts_gets_the_backend_that_the_profile_names(
    of: Profile, answers: Answers
) -> None:
    drafts, asked = answers[f"{of.name} on 128GB"]["drafts"], speculation(of)
    assert (drafts is None) == (not asked)
    for kind, field in (("attention", "attention_backend"), ("experts", "moe_backend")):
        if field in asked and drafts["layers"][kind]:
            assert set(drafts["layers"][kind]) == {asked[field].lower()}


@by_known_name
def test_each_quantized_model_is_read_as_such(of: Profile, answers: Answers) -> None:
    said = answers[f"{of.name} on 128GB"]
    sizes = model_sizes.by_model(of.model)
    expected = {"modelopt": "modelopt", "mxfp4": "gpt_oss_mxfp4"}[sizes.quantization if sizes else "modelopt"]
    assert str(said["quantization"]).startswith(expected)


@by_known_name
def test_without_an_answer_from_nvml_vllm_would_take_small_batches(of: Profile, answers: Answers) -> None:
    """Why each large model's profile says how many tokens a step may have."""
    count = answers[f"{of.name} on 128GB"]["max-num-batched-tokens"]
    assert count == int(str(of.values("cuda").get("max-num-batched-tokens", 2048)))


def test_a_model_without_a_known_config_has_no_sizes() -> None:
    without = {of.model for of in ALL if of.checkpoint is None and known_configs.config(of.model) is None}
    assert without <= known_configs.UNKNOWN
    assert {model for model in without if model_sizes.by_model(model)} == set()

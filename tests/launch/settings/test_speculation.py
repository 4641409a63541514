"""Drafts: who says how many, and what is refused together with them, before vLLM starts."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings import limits, speculation
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from helpers.launching import LLAMA_8B, Outcome, Run, write_safetensors

QWEN3_NEXT = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"
MTP = ["-sc.method=mtp", "-sc.num_speculative_tokens=2"]
DRAFTING = {"speculative-config": {"method": "mtp", "num_speculative_tokens": 2}}


def planned(machine: Machine, flags: dict[str, Any], serve: dict[str, Any], **environ: str) -> Launch:
    mine = Profile(model="org/model", summary="", memory_gib=1, serve=serve, name="mine")
    return render(resolve(Request(flags, environ, mine), machine, frozenset()))


def test_a_shorter_flag_changes_a_profiles_drafts(spark: Machine) -> None:
    launch = planned(spark, {"spec-tokens": "3"}, DRAFTING)
    assert launch.settings["speculative-config"].value == {"method": "mtp"}
    words = list(launch.argv)
    assert words[words.index("--spec-tokens") + 1] == "3"
    (overruled,) = [each for each in launch.overruled if each.winner.name == "spec-tokens"]
    assert (overruled.loser.name, overruled.loser.text) == (
        "speculative-config.num_speculative_tokens",
        "2",
    )


def test_a_profiles_shorter_flag_gives_way(spark: Machine) -> None:
    flags = {"speculative-config": {"method": "mtp", "num_speculative_tokens": 1}}
    launch = planned(spark, flags, {"spec-method": "mtp", "spec-tokens": 3})
    assert "spec-tokens" not in launch.settings
    assert "spec-method" not in launch.settings


def test_two_of_one_rank_are_refused(spark: Machine) -> None:
    with pytest.raises(UserError, match="both give the drafts' num_speculative_tokens; keep one"):
        planned(spark, {"spec-tokens": "3", "speculative-config": '{"num_speculative_tokens": 2}'}, {})


@pytest.mark.parametrize("tokens", ["3", "0"])
def test_what_vllm_reads_itself_cannot_be_taken_back(spark: Machine, tokens: str) -> None:
    """The file of --config goes to vLLM as it is."""
    mine = Profile(model="org/model", summary="", memory_gib=1, name="mine")
    request = Request({"spec-tokens": tokens}, {}, mine, config=DRAFTING)
    with pytest.raises(UserError, match=r"cannot take back speculative-config .* delete it there"):
        resolve(request, spark, frozenset())


@pytest.mark.parametrize(
    "flags", [{"spec-tokens": "0"}, {"speculative-config": {"num_speculative_tokens": 0}}], ids=str
)
def test_no_drafts_at_all(spark: Machine, flags: dict[str, Any]) -> None:
    launch = planned(spark, flags, DRAFTING)
    assert not [word for word in launch.argv if word.startswith("--spec")]


def test_the_profiles_draft_with_all_that_goes_with_it(spark: Machine) -> None:
    """MTP, prefix caching and chunked prefill, which vLLM 0.32 does together."""
    for name in ("qwen3-next-80b-a3b-instruct-nvfp4", "qwen3.6-35b-a3b-nvfp4"):
        chosen = profile.by_name(name)
        settings = resolve(Request({}, {}, chosen), spark, frozenset()).settings
        assert json.loads(settings["speculative-config"].text)["method"] == "mtp"
        assert settings["enable-prefix-caching"].value is True
        assert settings["enable-chunked-prefill"].value is True


PROFILE = {
    "moe-backend": "marlin",
    "speculative-config": {"method": "mtp", "num_speculative_tokens": 2, "moe_backend": "triton"},
}


def draft_backend(machine: Machine, flags: dict[str, Any]) -> str | None:
    launch = planned(machine, flags, PROFILE)
    found = json.loads(launch.settings["speculative-config"].text).get("moe_backend")
    said = [each for each in launch.overruled if each.loser.name == "speculative-config.moe_backend"]
    assert bool(said) is (found != "triton")
    return found


def test_drafts_take_dgx_too(spark: Machine) -> None:
    """Not the backend that a profile names for them, as its own for the model serves no BF16."""
    assert draft_backend(spark, {"moe-backend": "dgx"}) is None
    assert draft_backend(spark, {"moe-backend": "cutlass"}) == "triton"
    assert draft_backend(spark, {}) == "triton"


def test_a_backend_that_is_given_for_drafts_stays(spark: Machine) -> None:
    given = {"moe-backend": "dgx", "speculative-config": {"moe_backend": "triton"}}
    assert draft_backend(spark, given) == "triton"


def refused(outcome: Outcome, *said: str) -> None:
    assert outcome.status == 2, outcome
    (line,) = outcome.err.splitlines()
    for words in (*said, ";"):
        assert words in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*MTP, "--kv-sharing-fast-prefill"], ["--kv-sharing-fast-prefill", "wrong logits"]),
        ([*MTP, "-sc.tensor_parallel_size=1"], ["set draft_tensor_parallel_size instead"]),
        ([*MTP, "-sc.draft_tensor_parallel_size=2"], ["must be 1 or the model's 1"]),
        (
            [*MTP, "-sc.disable_padded_drafter_batch=true", "--async-scheduling"],
            ["disable_padded_drafter_batch", "--async-scheduling"],
        ),
        (["--no-enable-chunked-prefill"], ["--enable-chunked-prefill", "--no-enable-prefix-caching"]),
        (["--disable-chunked-mm-input"], ["--disable-chunked-mm-input", "--no-enable-prefix-caching"]),
    ],
    ids=lambda each: " ".join(each),
)
def test_what_vllm_does_not_do_with_drafts(
    dgx_vllm: Run, spark: Machine, words: list[str], said: list[str]
) -> None:
    refused(dgx_vllm("serve", QWEN3_NEXT, "--dry-run", *words, on=spark), *said)
    # Without what is refused the same command passes.
    allowed = [word for word in words if word in MTP]
    assert dgx_vllm("serve", QWEN3_NEXT, "--dry-run", *allowed, on=spark).status == 0


@pytest.mark.parametrize("words", [["--spec-tokens", "2"], ["-sc.num_speculative_tokens=2"]], ids=str)
def test_a_number_of_drafts_alone_makes_none(dgx_vllm: Run, checkpoint: Path, words: list[str]) -> None:
    """vLLM ends with a traceback; a profile that says how, a method or a model is enough."""
    serve = ("serve", str(checkpoint), "--dry-run", *words)
    refused(dgx_vllm(*serve), "nothing says what makes them", "--spec-method mtp")
    assert dgx_vllm(*serve, "--spec-method", "mtp").status == 0
    assert dgx_vllm(*serve, "--spec-model", "some/draft").status == 0
    assert dgx_vllm("serve", QWEN3_NEXT, "--dry-run", "--spec-tokens", "2").status == 0


def test_whole_prompts_without_prefix_caching(dgx_vllm: Run, spark: Machine) -> None:
    words = ["--no-enable-chunked-prefill", "--no-enable-prefix-caching"]
    assert dgx_vllm("serve", QWEN3_NEXT, "--dry-run", *words, on=spark).status == 0


def test_prefix_caching_with_drafts_on_the_cpu(dgx_vllm: Run, checkpoint: Path) -> None:
    """vLLM dies in mamba_utils.py there, at the first request."""
    (checkpoint / "config.json").write_text(json.dumps({"linear_num_value_heads": 4}))
    serve = ("serve", str(checkpoint), "--dry-run")
    refused(dgx_vllm(*serve, *MTP), "Triton kernel", "--no-enable-prefix-caching")
    assert dgx_vllm(*serve, *MTP, "--no-enable-prefix-caching").status == 0
    assert dgx_vllm(*serve).status == 0
    assert dgx_vllm("serve", QWEN3_NEXT, "--dry-run").status == 0


@pytest.mark.parametrize(
    ("layers", "drafts", "said"),
    [(0, 2, "no MTP layers"), (2, 3, "multiple of the model's 2"), (1, 3, ""), (2, 4, ""), (3, 2, "")],
)
def test_mtp_layers_draft_in_turns(
    dgx_vllm: Run, checkpoint: Path, layers: int, drafts: int, said: str
) -> None:
    config = {"text_config": {"num_nextn_predict_layers": layers}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    words = ["--spec-method", "mtp", "--spec-tokens", str(drafts)]
    outcome = dgx_vllm("serve", str(checkpoint), "--dry-run", *words)
    if said:
        refused(outcome, said)
    else:
        assert outcome.status == 0


@pytest.mark.parametrize("config", ["[]", "3", '"mtp"', '{"num_speculative_tokens": "two"}'])
def test_a_mistaken_config_is_refused(spark: Machine, config: str) -> None:
    with pytest.raises(UserError, match=r"--speculative-config.* must be a (JSON object|whole number)"):
        planned(spark, {"speculative-config": config}, {})


def test_no_config_is_no_drafts(spark: Machine) -> None:
    assert speculation.count(planned(spark, {"speculative-config": "null"}, {}).settings) is None


@pytest.mark.parametrize(
    "number",
    [2, 2.0, 2.5, "2", " 2 ", "+2", "2.0", "2.", "two", "", True, None, -2, "-2", [2]],
)
def test_a_number_of_drafts_is_read_as_vllm_reads_it(spark: Machine, number: Any) -> None:
    from pydantic import TypeAdapter, ValidationError
    from vllm.config import SpeculativeConfig

    fields = {"method": "ngram", "num_speculative_tokens": number, "prompt_lookup_max": 3}
    try:
        theirs = TypeAdapter(SpeculativeConfig).validate_python(fields).num_speculative_tokens
    except (ValidationError, ValueError):
        theirs = None
    try:
        found = speculation.count(planned(spark, {"speculative-config": json.dumps(fields)}, {}).settings)
    except UserError:
        found = None
    assert (found[1] if found else None) == theirs


@pytest.mark.parametrize(
    ("words", "drafts"),
    [
        (["-sc", '{"method": "mtp"}'], 2),
        (["-sc.method=deepseek_mtp"], 2),
        (["--spec-method", "mtp"], 2),
        (["-sc", '{"method": "suffix"}'], 24),
        (["-sc", '{"method": "suffix", "suffix_decoding_max_tree_depth": 3}'], 3),
        (["-sc", '{"method": "mtp", "num_speculative_tokens": 4}'], 4),
        (["-sc", '{"method": "mtp", "model": "org/other"}'], 0),
    ],
)
def test_drafts_that_nobody_counts_are_as_many_as_vllm_makes(
    spark: Machine, words: list[str], drafts: int
) -> None:
    rest, values = flags.load().parse(["org/model", *words])
    request = Request({**values, "model": rest[0]}, {}, model_config={"num_nextn_predict_layers": 2})
    launch = render(resolve(request, spark, frozenset()))
    assert limits.draft_count(launch.settings) == drafts


def test_the_guard_counts_drafts_that_nobody_counts(dgx_vllm: Run, spark: Machine, checkpoint: Path) -> None:
    """The weights of MTP layers, and what a sequence keeps for its drafts."""
    config = {**LLAMA_8B, "architectures": ["LlamaForCausalLM"], "num_nextn_predict_layers": 1}
    (checkpoint / "config.json").write_text(json.dumps(config))
    write_safetensors(checkpoint / "model.safetensors", {"model.embed": 16, "mtp.0.weight": 4_000_000})

    def told(*words: str) -> str:
        outcome = dgx_vllm("serve", str(checkpoint), "--dry-run", *words, on=spark)
        assert outcome.status == 0, outcome
        (line,) = [line for line in outcome.out.splitlines() if "weights" in line]
        return line

    counted = told("-sc", '{"method": "mtp", "num_speculative_tokens": 1}')
    assert told("-sc", '{"method": "mtp"}') == counted
    assert counted != told()


def test_a_suffix_trees_depth_is_vllms() -> None:
    from vllm.config import SpeculativeConfig

    (field,) = [each for each in dataclasses.fields(SpeculativeConfig) if each.name == speculation._DEPTH]
    assert field.default == speculation._SUFFIX_DEPTH


def test_drafts_of_mamba_2_are_refused_on_the_cpu_alone(spark: Machine, laptop: Machine) -> None:
    """Its CPU operators drop what is known of rejected drafts (tests/engine_drafts/test_mamba2_on_cpu.py)."""
    config = {"model_type": "nemotron_h", "mamba_num_heads": 64, "num_nextn_predict_layers": 1}
    mine = Profile(model="org/model", summary="", serve=DRAFTING, name="mine")
    for words in ({}, {"spec-tokens": "0"}):
        for machine in (spark, laptop):
            request = Request(words, {}, mine, model_config=config)
            if machine is laptop and not words:
                with pytest.raises(UserError, match=r"Mamba 2 answer wrongly.*give --spec-tokens 0"):
                    resolve(request, machine, frozenset())
            else:
                resolve(request, machine, frozenset())

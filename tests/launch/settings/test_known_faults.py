"""A known fault of a kernel: where it is refused, where it is said, and how to insist."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.host.machine import Machine
from dgx_vllm.plan import draft_limits
from dgx_vllm.util.errors import UserError
from helpers.launching import Outcome, Run

QWEN3_NEXT = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"
FIVE = [
    ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 5}'],
    ["--speculative-config", '{"method": "qwen3_next_mtp", "num_speculative_tokens": 5}'],
    ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": "5"}'],
    ["-sc.method=mtp", "-sc.num_speculative_tokens=7"],
    ["--spec-method", "mtp", "--spec-tokens", "5"],
    ["--spec-method", "eagle3", "--spec-model", "some/draft", "--spec-tokens", "5"],
    ["--spec-model", "some/draft", "--spec-tokens", "5"],
]


@pytest.fixture
def gdn(checkpoint: Path) -> Path:
    """A checkpoint with GDN layers."""
    config = {"text_config": {"linear_num_value_heads": 32}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    return checkpoint


def refused(outcome: Outcome) -> None:
    assert outcome.status == 2, outcome
    (line,) = outcome.err.splitlines()
    for words in ("vllm#37035", "use at most 4", "--allow-known-faults"):
        assert words in line


@pytest.mark.parametrize("words", FIVE, ids=" ".join)
def test_five_drafts_on_gated_delta_net_must_be_insisted_on(
    dgx_vllm: Run, spark: Machine, gdn: Path, words: list[str]
) -> None:
    serve = ["serve", str(gdn), "--dry-run", *words]
    refused(dgx_vllm(*serve, on=spark))
    outcome = dgx_vllm(*serve, "--allow-known-faults", on=spark)
    assert outcome.status == 0, outcome
    assert "note: from 5 drafts on, GDN kernels have read illegal memory" in outcome.out


def test_a_profile_tells_of_gated_delta_net_where_no_config_is_here(dgx_vllm: Run, spark: Machine) -> None:
    words = ["serve", QWEN3_NEXT, "--dry-run", "--spec-tokens"]
    refused(dgx_vllm(*words, "5", on=spark))
    assert dgx_vllm(*words, "4", on=spark).status == 0


@pytest.mark.parametrize("method", ["dflash", "dspark", "ngram", "draft_model", "suffix"])
def test_drafters_without_a_report_start_with_the_risk_said(
    dgx_vllm: Run, spark: Machine, gdn: Path, method: str
) -> None:
    words = ["--spec-method", method, "--spec-model", "some/draft", "--spec-tokens", "15"]
    outcome = dgx_vllm("serve", str(gdn), "--dry-run", *words, on=spark)
    assert outcome.status == 0, outcome
    assert f"seen with MTP; --spec-tokens asks for 15 by {method}" in outcome.out


def test_other_kernels_do_not_have_the_fault(
    dgx_vllm: Run, spark: Machine, checkpoint: Path, gdn: Path
) -> None:
    words = ["--dry-run", "--spec-method", "mtp", "--spec-tokens", "5", "--no-enable-prefix-caching"]
    # The CPU backend's, and those of models without GDN layers.
    assert dgx_vllm("serve", str(gdn), *words).status == 0
    (checkpoint / "config.json").write_text("{}")
    assert dgx_vllm("serve", str(checkpoint), *words, on=spark).status == 0


def test_a_service_takes_the_option_and_hands_it_on(dgx_vllm: Run, spark: Machine) -> None:
    words = ["install-service", QWEN3_NEXT, "--spec-tokens", "5", "--dry-run"]
    refused(dgx_vllm(*words, on=spark))
    outcome = dgx_vllm(*words, "--allow-known-faults", on=spark)
    assert outcome.status == 0, outcome
    commands = [line for line in outcome.out.splitlines() if line.startswith("ExecStart=")]
    assert [line.endswith('"--allow-known-faults"') for line in commands if "download" not in line] == [True]


@given(
    st.integers(1, 20),
    st.sampled_from(["mtp", "eagle", "dflash", "ngram", None]),
    st.booleans(),
    st.sampled_from(["cuda", "cpu"]),
    st.booleans(),
)
def test_the_fault_is_refused_or_said_only_where_its_kernel_runs(
    count: int, method: str | None, gdn: bool, platform: str, insisted: bool
) -> None:
    runs = gdn and platform == "cuda" and count > 4
    try:
        said = draft_limits.check(count, method, gdn, platform, "--spec-tokens", insisted)  # type: ignore[arg-type]
    except UserError:
        assert runs
        assert not insisted
        assert method not in ("dflash", "ngram")
        return
    assert (said is not None) is runs

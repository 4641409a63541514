"""A hub that takes the connection and does not answer: one line in time, and what is here is served."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgx_vllm.host.machine import Machine
from dgx_vllm.hub import client as asked
from dgx_vllm.launch.checks import hub as launch_hub
from helpers.launching import Run, write_safetensors
from helpers.silence import silent_hub


@pytest.fixture(params=[False, True], ids=["silent", "trickling"])
def hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Such a hub, asked with little patience. Without a bound these tests would not end."""
    from huggingface_hub import constants

    with silent_hub(request.param) as url:
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.setattr(asked, "_GRACE", 1)
        monkeypatch.setattr(launch_hub, "_PATIENCE", 1)
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
        yield url


def snapshot(environment: dict[str, str], name: str = "org/model", weights: bool = True) -> Path:
    folder = Path(environment["HF_HOME"], "hub", f"models--{name.replace('/', '--')}")
    place = folder / "snapshots" / ("a" * 40)
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    (place / "tokenizer.json").write_text("{}")
    if weights:
        write_safetensors(place / "model.safetensors", {"weight": 16})
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    return place


def test_a_model_that_is_not_here(dgx_vllm: Run, hub: str) -> None:
    outcome = dgx_vllm("serve", "org/model")
    assert outcome.status == 1
    assert "org/model is not downloaded, and the hub does not answer" in outcome.err
    assert "check the network, a proxy, or HF_ENDPOINT" in outcome.err


def test_a_model_of_which_a_part_is_here(dgx_vllm: Run, hub: str, environment: dict[str, str]) -> None:
    snapshot(environment, weights=False)
    outcome = dgx_vllm("serve", "org/model")
    assert outcome.status == 1
    assert "org/model is not downloaded, and the hub does not answer" in outcome.err


def test_a_model_that_is_here_is_served_and_the_hub_not_asked_again(
    dgx_vllm: Run, hub: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgx_vllm.launch import serve

    snapshot(environment)
    ran = []
    monkeypatch.setattr(serve, "_run", lambda launch, *_: ran.append(launch) or 0)
    assert dgx_vllm("serve", "org/model").status == 0
    (launch,) = ran
    assert launch.environ({})["HF_HUB_OFFLINE"] == "1"
    assert any("org/model is downloaded, and the hub does not answer" in note for note in launch.notes)
    # Without its tokenizer it cannot be.
    outcome = dgx_vllm("serve", "org/model", "--tokenizer", "org/other")
    assert outcome.status == 1
    assert "org/other is not downloaded, and the hub does not answer" in outcome.err


def test_a_verifier_that_is_not_here(dgx_vllm: Run, hub: str, environment: dict[str, str]) -> None:
    config = {
        "speculators_model_type": "eagle3",
        "transformer_layer_config": {},
        "speculators_config": {
            "proposal_methods": [{"speculative_tokens": 3}],
            "verifier": {"name_or_path": "org/verifier"},
        },
    }
    (snapshot(environment) / "config.json").write_text(json.dumps(config))
    outcome = dgx_vllm("serve", "org/model")
    assert outcome.status == 1
    assert "org/verifier is not downloaded, and the hub does not answer" in outcome.err


def test_a_plan_of_what_is_not_here(dgx_vllm: Run, hub: str, laptop: Machine) -> None:
    outcome = dgx_vllm("plan", "org/model", environ={"HF_HUB_DOWNLOAD_TIMEOUT": "1"})
    assert outcome.status == 1
    assert "org/model is not in" in outcome.err
    assert "the hub does not answer" in outcome.err
    assert "give a local directory or a config.json" in outcome.err
    assert outcome.err.count("\n") == 1

"""A model's draft model comes with it, at a revision of its own, and vLLM then finds it without the hub."""

import json
from pathlib import Path
from typing import Any

import pytest
from downloading import Cache, Run

from dgx_vllm.checkpoints import checkpoint, hf_cache
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Overlay, Profile
from helpers.fakehub import COMMIT, MODEL, VERIFIER, Hub

#: The hub's second repository.
DRAFT = VERIFIER


@pytest.fixture
def drafted(hub: Hub) -> Hub:
    """The hub with a draft model of the same files."""
    hub.verifier = dict(hub.files)
    return hub


def given(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    """The model's profile."""
    made = Profile(model=MODEL, summary="", memory_gib=1, name="mine", **fields)
    monkeypatch.setattr(profile, "builtin", lambda: (made,))


def drafts(**fields: Any) -> dict[str, Any]:
    return {"method": "eagle3", "num_speculative_tokens": 2, "model": DRAFT, **fields}


def here(cache: Cache, revision: str | None = None) -> Path | None:
    return checkpoint.whole(DRAFT, cache.directory, revision)


@pytest.mark.parametrize("asked", [MODEL, "mine"])
def test_a_profiles_draft_model_comes_at_its_revision_and_a_line_says_so(
    download: Run, drafted: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    given(monkeypatch, serve={"speculative-config": drafts(revision=COMMIT)})
    outcome = download(asked)
    assert outcome.status == 0
    assert checkpoint.whole(MODEL, cache.directory)
    assert here(cache, COMMIT)
    assert drafted.verifier_revisions == [COMMIT]
    assert f"{DRAFT} at {COMMIT} drafts for {MODEL}, and comes with it" in outcome.err
    assert outcome.out.count(" is here: ") == 2


def test_a_profiles_draft_model_on_this_platform_alone_comes(
    download: Run, drafted: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, cpu=Overlay(serve={"speculative-config": drafts()}))
    assert download().status == 0
    assert here(cache)
    assert drafted.verifier_revisions == ["main"]


def test_what_is_here_is_left_and_what_is_missing_of_the_draft_model_is_fetched(
    download: Run, drafted: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, serve={"speculative-config": drafts()})
    assert download(if_missing=True).status == 0
    drafted.requests.clear()
    assert download(if_missing=True).status == 0
    assert drafted.requests == []
    folder = hf_cache.folder(cache.directory, DRAFT)
    (folder / "blobs" / drafted.blob(f"{DRAFT}/model.safetensors")).unlink()
    assert download(if_missing=True).status == 0
    assert [request.name for request in drafted.requests] == [f"{DRAFT}/model.safetensors"]


@pytest.mark.parametrize("config", ["null", "{}", '{"method": "mtp", "num_speculative_tokens": 2}'])
def test_drafts_without_a_draft_model_overrule_the_profiles(
    download: Run, drafted: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    given(monkeypatch, serve={"speculative-config": drafts()})
    assert download(speculative_config=config).status == 0
    assert here(cache) is None


def test_a_draft_model_that_was_asked_for_comes_without_a_profile(
    download: Run, drafted: Hub, cache: Cache
) -> None:
    assert download(speculative_config=json.dumps({"model": DRAFT, "revision": COMMIT})).status == 0
    assert here(cache, COMMIT)
    assert drafted.verifier_revisions == [COMMIT]


def test_a_draft_model_on_this_disk_is_left_alone(download: Run, drafted: Hub) -> None:
    outcome = download(speculative_config=json.dumps({"model": "/srv/draft"}))
    assert outcome.status == 0
    assert f"/srv/draft drafts for {MODEL} and is not on the Hugging Face hub" in outcome.out


def test_the_draft_model_of_a_model_on_this_disk_comes(
    download: Run, drafted: Hub, cache: Cache, tmp_path: Path
) -> None:
    outcome = download(str(tmp_path), speculative_config=json.dumps({"model": DRAFT}))
    assert outcome.status == 0
    assert here(cache)
    assert not cache.folder.exists()


@pytest.mark.parametrize("config", ["{", "[]", "org/draft", "1"])
def test_drafts_that_are_no_object_are_refused(download: Run, drafted: Hub, config: str) -> None:
    outcome = download(speculative_config=config)
    assert outcome.status == 2
    assert f"or null for no drafts, not {config}" in outcome.err
    assert drafted.requests == []


def test_a_draft_model_that_the_hub_does_not_have_is_named(
    download: Run, drafted: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, serve={"speculative-config": drafts(model="org/none")})
    outcome = download()
    assert outcome.status == 2
    assert "the hub shows no model org/none" in outcome.err


def test_a_profiles_own_revision_is_what_comes_of_the_model(
    download: Run, drafted: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, serve={"revision": COMMIT})
    assert download().status == 0
    assert checkpoint.whole(MODEL, cache.directory, COMMIT)
    assert not (cache.folder / "refs" / "main").exists()
    assert download(revision="main").status == 0
    assert (cache.folder / "refs" / "main").exists()


def test_vllm_finds_the_draft_model_at_its_commit_without_the_hub(
    download: Run, drafted: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a service has it: vLLM puts a directory for the model's name, and not for the draft model's."""
    from huggingface_hub import constants
    from vllm.config.load import LoadConfig
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
    from vllm.transformers_utils import config, repo_utils

    assert download(speculative_config=json.dumps({"model": DRAFT, "revision": COMMIT})).status == 0
    drafted.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache.directory))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(repo_utils, "_hf_api", None)  # it keeps the address of the first hub
    repo_utils.list_repo_files.cache_clear()
    found = config.get_config(DRAFT, trust_remote_code=False, revision=COMMIT)
    assert found.model_type == "qwen2"
    loader = DefaultModelLoader(LoadConfig())
    weights = loader._prepare_weights(DRAFT, None, COMMIT, True, None)[1]
    assert [Path(path).name for path in weights] == ["model.safetensors"]
    assert drafted.requests == []

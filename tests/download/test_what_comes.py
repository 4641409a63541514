"""What a download brings, and what huggingface_hub and vLLM make of it afterwards."""

import json
import os
from pathlib import Path

import pytest
from downloading import Cache, Run

from dgx_vllm.checkpoints import checkpoint, file_formats, hf_cache
from dgx_vllm.checkpoints.file_formats import Reading
from dgx_vllm.hub import client as asked
from helpers.fakehub import COMMIT, MODEL, VERIFIER, Behaviour, Hub

WEIGHTS = "model.safetensors"


@pytest.fixture
def both(hub: Hub) -> Hub:
    """A repository with two copies of its weights, in Mistral's own format and in the other."""
    header = b'{"weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    weights = len(header).to_bytes(8, "little") + header
    hub.files = {
        "config.json": b'{"model_type": "mistral"}',
        "params.json": b"{}",
        "tekken.json": b"{}",
        "tokenizer.json": b"[]",
        "model-00001-of-00001.safetensors": weights + b"1",
        "model.safetensors.index.json": b'{"weight_map": {"weight": "model-00001-of-00001.safetensors"}}',
        "consolidated.safetensors": weights + b"2",
    }
    return hub


def placed(cache: Cache) -> set[str]:
    snapshot = cache.folder / "snapshots" / COMMIT
    return {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("load_format", "left"),
    [
        ("auto", {"model-00001-of-00001.safetensors"}),
        ("mistral", {"model-00001-of-00001.safetensors"}),
        ("safetensors", {"consolidated.safetensors"}),
        ("dummy", {"model-00001-of-00001.safetensors", "consolidated.safetensors"}),
    ],
)
def test_one_copy_of_the_weights(
    download: Run, both: Hub, cache: Cache, load_format: str, left: set[str]
) -> None:
    assert download(reading=Reading(load_format)).status == 0
    assert placed(cache) == both.files.keys() - left
    both.requests.clear()
    assert download(reading=Reading(load_format), if_missing=True).status == 0
    assert both.requests == []


@pytest.mark.parametrize("load_format", ["auto", "mistral", "safetensors"])
def test_vllm_finds_its_weights_and_fetches_none(
    download: Run,
    both: Hub,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    load_format: str,
) -> None:
    """Both where it asks the hub, as `serve` has it do, and offline, as a service has it."""
    from huggingface_hub import constants
    from vllm.config.load import LoadConfig
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
    from vllm.transformers_utils import repo_utils

    assert download(reading=Reading(load_format)).status == 0
    both.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache.directory))
    repo_utils.list_repo_files.cache_clear()
    loader = DefaultModelLoader(LoadConfig(load_format=load_format))
    online = loader._prepare_weights(MODEL, None, None, True, None)[1]
    assert [request.name for request in both.requests if request.name.endswith(".safetensors")] == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = loader._prepare_weights(repo_utils.get_model_path(MODEL), None, None, True, None)[1]
    wanted = file_formats.weights(both.files, Reading("hf" if load_format == "safetensors" else load_format))
    found = {name for name in wanted if load_format != "safetensors" or name.startswith("model")}
    assert {Path(path).name for path in online} == {Path(path).name for path in offline} == found


def test_huggingface_hub_reads_what_is_written(download: Run, both: Hub, cache: Cache) -> None:
    from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache

    assert download().status == 0
    found = Path(snapshot_download(MODEL, cache_dir=cache.directory, local_files_only=True))
    assert found == hf_cache.snapshot(cache.directory, MODEL)
    for name in placed(cache):
        here = try_to_load_from_cache(MODEL, name, cache_dir=cache.directory)
        assert isinstance(here, str)
        assert Path(here).read_bytes() == both.files[name]
    (repository,) = scan_cache_dir(cache.directory).repos
    assert repository.refs.keys() == {"main"}
    assert repository.size_on_disk == hf_cache.size(cache.directory)


def test_what_huggingface_hub_wrote_is_whole(
    download: Run, both: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(MODEL, cache_dir=cache.directory)
    assert checkpoint.whole(MODEL, cache.directory)
    both.requests.clear()
    assert download().status == 0
    assert both.requests == []


def test_a_shared_blob_counts_and_one_that_is_gone_is_fetched(download: Run, hub: Hub, cache: Cache) -> None:
    """As huggingface_hub lays files that came by Xet: the blob is a link into a store for all models."""
    assert download().status == 0
    blob = cache.blob(WEIGHTS)
    store = cache.directory / "blobs" / "ab" / ("ab" * 32)
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to(os.path.relpath(store, blob.parent))
    hub.requests.clear()
    assert download().status == 0
    assert hub.requests == []
    store.unlink()
    assert download(if_missing=True).status == 0
    assert [request.name for request in hub.requests] == [WEIGHTS]
    assert cache.is_whole()


def test_a_main_that_is_not_here_is_fetched(download: Run, hub: Hub, cache: Cache) -> None:
    assert download().status == 0
    snapshots = cache.folder / "snapshots"
    (snapshots / COMMIT).rename(snapshots / ("e" * 40))
    assert download(if_missing=True).status == 0
    assert cache.is_whole()


# --- speculators ------------------------------------------------------------------------------------------


def speculating(hub: Hub, verifier: str = VERIFIER) -> None:
    """Makes the repository a drafter."""
    config = {
        "speculators_model_type": "eagle3",
        "transformer_layer_config": {},
        "speculators_config": {
            "proposal_methods": [{"speculative_tokens": 3}],
            "verifier": {"name_or_path": verifier},
        },
    }
    hub.verifier = dict(hub.files)
    hub.files = {**hub.files, "config.json": json.dumps(config).encode()}


def test_the_verifier_comes_with_its_drafter(download: Run, hub: Hub, cache: Cache) -> None:
    speculating(hub)
    outcome = download()
    assert outcome.status == 0, outcome
    for model in (MODEL, VERIFIER):
        assert checkpoint.whole(model, cache.directory), model
    hub.requests.clear()
    assert download(if_missing=True).status == 0
    assert hub.requests == []
    # One that is not whole is completed.
    (hf_cache.folder(cache.directory, VERIFIER) / "snapshots" / COMMIT / WEIGHTS).unlink()
    hf_cache.folder(cache.directory, VERIFIER).joinpath("blobs", hub.blob(f"{VERIFIER}/{WEIGHTS}")).unlink()
    assert download(if_missing=True).status == 0
    assert [request.name for request in hub.requests] == [f"{VERIFIER}/{WEIGHTS}"]


def test_a_verifier_on_this_disk_is_left_alone(download: Run, hub: Hub, cache: Cache) -> None:
    speculating(hub, "/srv/verifier")
    outcome = download()
    assert outcome.status == 0
    assert "drafts for /srv/verifier, which is not on the Hugging Face hub" in outcome.out


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "load_format", "said"),
    [
        ({"config.json", "model-Q4.gguf", "model-Q8.gguf"}, "auto", file_formats.NO_GGUF),
        (
            {"config.json", WEIGHTS},
            "mistral",
            "no consolidated*.safetensors, which --load-format mistral asks for",
        ),
        (
            {"config.json", "pytorch_model.bin"},
            "safetensors",
            "no *.safetensors, which --load-format safetensors",
        ),
    ],
)
def test_what_vllm_cannot_load_is_not_fetched(
    download: Run, hub: Hub, files: set[str], load_format: str, said: str
) -> None:
    hub.files = dict.fromkeys(files, b"{}")
    outcome = download(reading=Reading(load_format))
    assert outcome.status == 2
    assert said in outcome.err
    assert hub.requests == []


def test_a_file_that_trickles_is_a_failed_attempt(
    download: Run, hub: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fails(WEIGHTS, *[Behaviour(trickles=True)] * 2)
    outcome = download()
    assert outcome.status == 0
    assert "bytes of model.safetensors came in" in outcome.err
    assert "2 of 10 attempts made no progress" in outcome.err, "what trickled in is no progress"
    assert cache.is_whole()


def test_a_hub_that_says_nothing_ends_after_its_attempts(
    download: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from helpers.silence import silent_hub

    monkeypatch.setattr(asked, "_GRACE", 0)
    with silent_hub(trickles=True) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        outcome = download()
    assert outcome.status == 1
    assert "the hub does not answer" in outcome.err
    assert "10 attempts in a row made no progress" in outcome.err


def test_vllm_does_not_wait_for_a_silent_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with a question that has no timeout; our plugin gives it one."""
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils._http import default_client_factory
    from vllm.transformers_utils import repo_utils

    from dgx_vllm.plugin import hub_timeout as plugin
    from helpers.silence import silent_hub

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    with silent_hub(trickles=False) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(repo_utils, "_hf_api", None)
        plugin.register()
        try:
            assert repo_utils.resolve_revision(MODEL, "main") == "main"
        finally:
            set_client_factory(default_client_factory)

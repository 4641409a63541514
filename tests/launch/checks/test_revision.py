"""A model's revision: looked for in the cache where the download put it, and not mistaken for `main`."""

import json
from pathlib import Path

import pytest

from dgx_vllm.checkpoints.checkpoint import snapshot
from dgx_vllm.checkpoints.file_formats import Reading
from dgx_vllm.host.machine import Machine
from dgx_vllm.plan import guard
from dgx_vllm.plan.guard import Subject
from dgx_vllm.profiles.profile import Profile
from helpers.launching import Run, write_safetensors

MODEL = "org/model"
MAIN, COMMIT = "a" * 40, "b" * 40


def hold(hub: Path, commit: str, reference: str | None, positions: int) -> Path:
    """The smallest whole snapshot, and the branch or tag that leads to it."""
    folder = hub / "models--org--model"
    made = folder / "snapshots" / commit
    made.mkdir(parents=True)
    (made / "config.json").write_text(json.dumps({"max_position_embeddings": positions}))
    (made / "tokenizer.json").write_text("{}")
    write_safetensors(made / "model.safetensors", {"weight": 16})
    if reference:
        (folder / "refs" / reference).parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / reference).write_text(commit)
    return made


@pytest.fixture
def hub(environment: dict[str, str]) -> Path:
    return Path(environment["HF_HOME"], "hub")


@pytest.mark.parametrize("reference", ["v1", "refs/pr/1", None], ids=str)
def test_it_is_served_from_the_cache(dgx_vllm: Run, hub: Path, reference: str | None) -> None:
    hold(hub, COMMIT, reference, 1024)
    words, offline = ["serve", MODEL, "--dry-run"], {"HF_HUB_OFFLINE": "1"}
    assert dgx_vllm(*words, "--revision", reference or COMMIT, environ=offline).status == 0
    for other in ([], ["--revision", "v2"]):
        outcome = dgx_vllm(*words, *other, environ=offline)
        assert outcome.status == 2
        named = f"{MODEL} at v2" if other else MODEL
        assert f"{named} is not in {hub} and HF_HUB_OFFLINE forbids fetching it" in outcome.err


def test_a_revisions_own_config_counts(dgx_vllm: Run, hub: Path, tmp_path: Path) -> None:
    hold(hub, MAIN, "main", 1024)
    hold(hub, COMMIT, "v1", 4096)
    words = ["serve", MODEL, "--dry-run", "--max-model-len", "2k"]
    assert "1024 tokens" in dgx_vllm(*words).err
    assert dgx_vllm(*words, "--revision", "v1").status == 0
    assert dgx_vllm(*words, environ={"VLLM_EXTRA_ARGS": "--revision v1"}).status == 0
    (tmp_path / "c.yaml").write_text("revision: v1\n")
    assert dgx_vllm(*words, "--config", str(tmp_path / "c.yaml")).status == 0
    profile = 'model = "org/model"\nsummary = "mine"\nmemory-gib = 1\n[serve]\nrevision = "v1"\n'
    (tmp_path / "mine.toml").write_text(profile)
    pinned = [*words, "--profile", str(tmp_path / "mine.toml")]
    assert dgx_vllm(*pinned).status == 0
    assert "1024 tokens" in dgx_vllm(*pinned, "--revision", "main").err


@pytest.mark.parametrize("reference", ["v1", None], ids=str)
def test_the_guard_weighs_what_is_served(
    dgx_vllm: Run, spark: Machine, hub: Path, monkeypatch: pytest.MonkeyPatch, reference: str | None
) -> None:
    hold(hub, MAIN, "main", 1024)
    here = hold(hub, COMMIT, reference, 4096) if reference else None
    asked = []

    def survey(argument: str, environ: object, profile: Profile | None, reading: Reading) -> Subject:
        asked.append(argument)
        return Subject(None, profile)

    monkeypatch.setattr(guard, "survey", survey)
    outcome = dgx_vllm("serve", MODEL, "--dry-run", "--revision", "v1", on=spark)
    assert outcome.status == 0
    assert asked == ([str(here)] if here else [])


@pytest.mark.parametrize("revision", ["../snapshots", "..", ".", "\0", "x" * 300])
def test_no_revision_leads_out_of_the_snapshots(hub: Path, revision: str) -> None:
    hold(hub, MAIN, "main", 1024)
    (hub / "models--org--model" / "config.json").write_text("{}")
    (hub / "models--org--model" / "snapshots" / "config.json").write_text("{}")
    assert snapshot(MODEL, hub, revision) is None


def test_a_timeout_that_is_no_number_is_refused_for_a_model_that_is_here(
    dgx_vllm: Run, hub: Path, spark: Machine
) -> None:
    hold(hub, MAIN, "main", 1024)
    outcome = dgx_vllm("serve", MODEL, "--dry-run", on=spark, environ={"HF_HUB_DOWNLOAD_TIMEOUT": "abc"})
    assert outcome.status == 2
    assert "HF_HUB_DOWNLOAD_TIMEOUT='abc' is not a whole number of seconds above 0" in outcome.err

"""A draft model: a second checkpoint that is needed as the model is, at a revision of its own."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dgx_vllm.checkpoints import draft_model
from dgx_vllm.checkpoints.draft_model import DraftModel
from dgx_vllm.checkpoints.file_formats import Reading
from dgx_vllm.host import disk_space
from dgx_vllm.host.machine import GIB, Machine
from dgx_vllm.hub import client
from helpers.launching import Outcome, Run, write_safetensors

TARGET, DRAFT, COMMIT, OTHER = "org/target", "org/draft", "a" * 40, "b" * 40
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.status == 2, outcome
    assert outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err


def placed(directory: Path, tokenizer: bool = False, **config: Any) -> Path:
    """The smallest checkpoint that is whole."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    if tokenizer:
        (directory / "tokenizer.json").write_text("{}")
    write_safetensors(directory / "model.safetensors", {"weight": 16})
    return directory


def cached(hub: Path, name: str, commit: str = COMMIT, reference: str | None = "main", **config: Any) -> Path:
    """The same in the hub's cache, and the branch or tag that leads to it."""
    folder = hub / f"models--{name.replace('/', '--')}"
    if reference:
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / reference).write_text(commit)
    return placed(folder / "snapshots" / commit, tokenizer=name == TARGET, **config)


def drafting(**fields: Any) -> list[str]:
    whole = {"method": "eagle3", "num_speculative_tokens": 2, "model": DRAFT, **fields}
    return ["serve", TARGET, "--speculative-config", json.dumps(whole)]


@pytest.fixture
def hub(environment: dict[str, str]) -> Path:
    return Path(environment["HF_HOME"], "hub")


# --- which model, at which revision -----------------------------------------------------------------------


class _LoadedError(Exception):
    """What vLLM would load, in place of loading it."""


def loaded_by_vllm(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]) -> tuple[str, str | None]:
    """The draft checkpoint of vLLM's own class, with a target at a revision of its own."""
    from vllm.config import speculative

    def record(**arguments: Any) -> None:
        raise _LoadedError(arguments["model"], arguments["revision"])

    monkeypatch.setattr(speculative, "ModelConfig", record)
    names = ("tokenizer", "tokenizer_mode", "trust_remote_code", "allowed_local_media_path", "dtype", "seed")
    names += ("allowed_media_domains", "tokenizer_revision", "max_model_len", "enforce_eager", "max_logprobs")
    names += ("hf_overrides", "config_format", "quantization", "model_weights")
    target = SimpleNamespace(model=TARGET, revision="v9", **dict.fromkeys(names))
    with pytest.raises(_LoadedError) as raised:
        speculative.SpeculativeConfig(**fields, target_model_config=target, num_speculative_tokens=2)
    return raised.value.args


@pytest.mark.parametrize(
    "fields",
    [
        {"model": DRAFT},
        {"model": DRAFT, "revision": "v1"},
        {"model": DRAFT, "method": "eagle3", "revision": COMMIT},
        {"model": DRAFT, "method": "dflash"},
        {"model": "org/draft.v2", "method": "dspark"},
        {"model": "draft-of.one-word"},
    ],
    ids=str,
)
def test_vllm_loads_the_draft_model_that_is_read_and_at_its_revision(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    ours = draft_model.read(fields, TARGET)
    assert ours is not None
    assert (ours.name, ours.revision) == loaded_by_vllm(monkeypatch, fields)


@pytest.mark.parametrize(
    "fields",
    [{"method": "mtp"}, {"method": "qwen3_next_mtp"}, {"method": "dspark"}, {"model": TARGET}],
    ids=str,
)
def test_vllm_loads_the_models_own_drafts_at_main(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    assert draft_model.read(fields, TARGET) is None
    assert loaded_by_vllm(monkeypatch, fields) == (TARGET, None)


@pytest.mark.parametrize(
    "fields",
    [
        *({"method": method, "model": DRAFT} for method in ("ngram", "ngram_gpu", "suffix", "custom_class")),
        {"model": "ngram"},
        {"model": "[ngram]"},
        {"model": "package.Proposer"},
        {"method": "eagle3"},
        {"model": None},
        {"model": ["org/draft"]},
        [DRAFT],
        "{",
        None,
    ],
    ids=str,
)
def test_drafts_without_a_second_checkpoint_name_no_draft_model(fields: Any) -> None:
    assert draft_model.read(fields, TARGET) is None


def test_names_of_fields_may_have_dashes_and_the_config_may_be_text() -> None:
    expected = DraftModel(DRAFT, "v1", "dflash")
    assert draft_model.read({"model": DRAFT, "revision": "v1", "method": "dflash"}, TARGET) == expected
    assert (
        draft_model.read(json.dumps({"model": DRAFT, "revision": "v1", "method": "dflash"}), TARGET)
        == expected
    )
    assert draft_model.fields({"draft-tensor-parallel-size": 1}) == {"draft_tensor_parallel_size": 1}


def command(outcome: Outcome) -> dict[str, Any]:
    """The --speculative-config of a dry run in JSON."""
    assert outcome.status == 0, outcome.err
    words = shlex.split(json.loads(outcome.out)["command"])
    return json.loads(words[words.index("--speculative-config") + 1])


@pytest.mark.parametrize(
    "drafts", [["-sc.method=mtp", "-sc.num_speculative_tokens=2"], ["--spec-method", "mtp"]]
)
def test_mtp_layers_are_loaded_at_the_models_revision(dgx_vllm: Run, drafts: list[str]) -> None:
    words = ["serve", TARGET, "--dry-run", "--json", *drafts]
    assert command(dgx_vllm(*words, "--revision", "v1"))["revision"] == "v1"
    own = command(dgx_vllm(*words, "--revision", "v1", "--speculative-config.revision", "v2"))
    assert own["revision"] == "v2"


def test_a_draft_model_keeps_its_own_revision(dgx_vllm: Run) -> None:
    words = [*drafting(), "--dry-run", "--json", "--revision", "v1"]
    assert "revision" not in command(dgx_vllm(*words))


def test_a_file_that_leaves_the_drafts_at_main_is_refused(dgx_vllm: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text('speculative-config: \'{"method": "mtp", "num_speculative_tokens": 2}\'\n')
    words = ["serve", TARGET, "--dry-run", "--config", str(file), "--revision", "v1"]
    refused(
        dgx_vllm(*words), "vLLM 0.32 would load the drafts at main, and the model at v1", '"revision": "v1"'
    )


# --- whether it is here -----------------------------------------------------------------------------------


def test_offline_a_draft_model_must_be_here(dgx_vllm: Run, hub: Path) -> None:
    cached(hub, TARGET)
    refused(
        dgx_vllm(*drafting(), "--dry-run", environ=OFFLINE),
        f"the draft model {DRAFT} is not in {hub} and HF_HUB_OFFLINE forbids fetching it",
        "--spec-tokens 0 for no drafts",
    )
    cached(hub, DRAFT)
    assert dgx_vllm(*drafting(), "--dry-run", environ=OFFLINE).status == 0


def test_offline_a_draft_model_must_be_here_at_its_revision(dgx_vllm: Run, hub: Path) -> None:
    cached(hub, TARGET)
    cached(hub, DRAFT)
    words = [*drafting(revision=OTHER), "--dry-run"]
    refused(
        dgx_vllm(*words, environ=OFFLINE),
        f"the draft model {DRAFT} at {OTHER} is not in {hub}",
        f"another commit is downloaded: give the directory {hub}",
    )
    cached(hub, DRAFT, OTHER, None)
    assert dgx_vllm(*words, environ=OFFLINE).status == 0


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors"])
def test_offline_a_draft_model_must_be_whole(dgx_vllm: Run, hub: Path, gone: str) -> None:
    cached(hub, TARGET)
    (cached(hub, DRAFT) / gone).unlink()
    refused(dgx_vllm(*drafting(), "--dry-run", environ=OFFLINE), f"the draft model {DRAFT}")


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors"])
def test_a_directory_of_a_draft_model_must_be_whole(dgx_vllm: Run, tmp_path: Path, gone: str) -> None:
    draft = placed(tmp_path / "draft")
    words = [*drafting(model=str(draft)), "--dry-run"]
    assert dgx_vllm(*words).status == 0
    (draft / gone).unlink()
    refused(dgx_vllm(*words), f"the draft model {draft}: {draft}")


def test_a_directory_that_is_not_there_is_refused_with_a_remedy(dgx_vllm: Run) -> None:
    words = ["serve", TARGET, "--dry-run", "--spec-model", "/none/draft", "--spec-tokens", "2"]
    refused(
        dgx_vllm(*words),
        "the draft model /none/draft: there is no checkpoint",
        "give a directory that exists",
    )


def test_a_name_that_names_nothing_is_refused(dgx_vllm: Run) -> None:
    refused(dgx_vllm(*drafting(model="a b"), "--dry-run"), "the draft model 'a b' is neither a directory")


def test_a_load_format_holds_for_the_draft_model_too(dgx_vllm: Run, tmp_path: Path) -> None:
    draft = placed(tmp_path / "draft")
    (draft / "model.safetensors").rename(draft / "pytorch_model.bin")
    words = [*drafting(model=str(draft)), "--dry-run"]
    assert dgx_vllm(*words).status == 0
    refused(
        dgx_vllm(*words, "--load-format", "safetensors"),
        "has no weights (*.safetensors), which --load-format safetensors asks for",
    )


def test_a_load_format_of_the_drafts_own_counts(dgx_vllm: Run, tmp_path: Path) -> None:
    draft = placed(tmp_path / "draft")
    (draft / "model.safetensors").rename(draft / "pytorch_model.bin")
    words = [*drafting(model=str(draft), draft_load_config={"load_format": "auto"}), "--dry-run"]
    assert dgx_vllm(*words, "--load-format", "safetensors").status == 0


# --- what the hub is asked --------------------------------------------------------------------------------


def test_the_hub_is_asked_for_both_each_at_its_revision(
    dgx_vllm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgx_vllm.launch import serve

    asked = []

    def listing(model: str, revision: str, reading: Reading, seconds: float | None = None) -> None:
        asked.append((model, revision, reading.load_format))

    monkeypatch.setattr(client, "listing", listing)
    monkeypatch.setattr(serve, "_run", lambda *_: 0)
    words = [*drafting(revision="v2"), "--revision", "v1", "--load-format", "safetensors"]
    assert dgx_vllm(*words).status == 0
    assert asked == [(TARGET, "v1", "safetensors"), (DRAFT, "v2", "safetensors")]


def test_the_disk_must_hold_the_model_and_its_draft_model(
    dgx_vllm: Run, spark: Machine, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "_free", lambda path: int(1.5 * GIB))
    outcome = dgx_vllm(*drafting(), on=spark)
    assert f"downloading {TARGET} and downloading {DRAFT} needs 2.1 GB more in {hub}" in outcome.err
    cached(hub, DRAFT)
    monkeypatch.setattr(disk_space, "_free", lambda path: GIB // 2)
    assert f"downloading {TARGET} needs 1.1 GB more in {hub}" in dgx_vllm(*drafting(), on=spark).err

"""Checkpoints in the forms that vLLM 0.32 serves, and in those that it no longer does."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.checkpoints import checkpoint as checkpoints
from dgx_vllm.checkpoints import file_formats
from dgx_vllm.host.machine import Machine
from helpers.launching import COMMAND, LLAMA_8B, Run, write_safetensors

PARAMS = {"dim": 64, "n_layers": 1, "head_dim": 16, "hidden_dim": 128, "n_heads": 4, "n_kv_heads": 2}


def refused(outcome: Any, *said: str) -> None:
    assert (outcome.status, outcome.out) == (2, ""), outcome
    assert outcome.err.count("\n") == 1
    for words in said:
        assert words in outcome.err


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkpoint in Mistral's own format."""
    place = tmp_path / "own"
    place.mkdir()
    (place / "params.json").write_text(json.dumps({**PARAMS, "max_position_embeddings": 4096}))
    (place / "tekken.json").write_text("{}")
    write_safetensors(place / "consolidated.safetensors", {"weight": 1000})
    return place


# --- Mistral's own format -------------------------------------------------------------------------------


def test_params_tekken_and_consolidated_are_a_checkpoint(dgx_vllm: Run, own: Path) -> None:
    assert dgx_vllm("serve", str(own), "--dry-run").status == 0
    words = ["--load-format", "mistral", "--config-format", "mistral", "--tokenizer-mode", "mistral"]
    assert dgx_vllm("serve", str(own), "--dry-run", *words).status == 0


def test_an_index_of_shards_that_are_not_there_is_not_asked(dgx_vllm: Run, own: Path) -> None:
    """Both configs and consolidated: vLLM prefers Mistral's, whatever model.safetensors.index.json names."""
    (own / "config.json").write_text("{}")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (own / "model.safetensors.index.json").write_text(json.dumps(index))
    assert dgx_vllm("serve", str(own), "--dry-run").status == 0
    said = "names model-00001-of-00002.safetensors, which is not there"
    refused(dgx_vllm("serve", str(own), "--dry-run", "--load-format", "safetensors"), said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config-format", "hf"], ["no config.json", "which --config-format hf asks for"]),
        (["--load-format", "pt"], ["no weights (*.pt)", "which --load-format pt asks for"]),
    ],
)
def test_what_the_flags_ask_for_must_be_there(
    dgx_vllm: Run, own: Path, words: list[str], said: list[str]
) -> None:
    refused(dgx_vllm("serve", str(own), "--dry-run", *words), *said)


def test_the_length_of_a_mistral_checkpoint_is_known(dgx_vllm: Run, own: Path) -> None:
    outcome = dgx_vllm("serve", str(own), "--dry-run", "--max-model-len", "8192")
    refused(outcome, "--max-model-len 8192", "4096")


def test_the_weights_of_a_mistral_checkpoint_are_guarded(dgx_vllm: Run, own: Path, spark: Machine) -> None:
    assert "weights 1e-06 GB" in dgx_vllm("serve", str(own), "--dry-run", on=spark).out
    # Of two copies of the weights the one that is loaded counts.
    (own / "config.json").write_text(json.dumps(LLAMA_8B))
    (own / "tokenizer.json").write_text("{}")
    write_safetensors(own / "model.safetensors", {"weight": 2000})
    assert "weights 1e-06 GB" in dgx_vllm("serve", str(own), "--dry-run", on=spark).out
    (own / "consolidated.safetensors").unlink()
    assert "weights 2e-06 GB" in dgx_vllm("serve", str(own), "--dry-run", on=spark).out


# --- what is around the weights ---------------------------------------------------------------------------


def test_a_tokenizer_of_remote_code(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "tiktoken.model").write_text("")
    remote = {"auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(remote))
    assert dgx_vllm("serve", str(checkpoint), "--trust-remote-code", "--dry-run").status == 0


def test_an_index_is_a_list_of_files_alone(dgx_vllm: Run, checkpoint: Path) -> None:
    names = {"weight": "model.safetensors", "rotary_emb.inv_freq": "model.safetensors"}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert dgx_vllm("serve", str(checkpoint), "--dry-run").status == 0


def test_a_config_that_only_python_reads(dgx_vllm: Run, checkpoint: Path) -> None:
    """Mamba's time_step_limit is infinite, which Python writes as `Infinity` and JSON does not know."""
    (checkpoint / "config.json").write_text('{"time_step_limit": [0.0, Infinity], "a": NaN}')
    assert dgx_vllm("serve", str(checkpoint), "--dry-run").status == 0


def test_json_that_vllm_does_not_read_is_not_looked_at(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "results.json").write_text('{"a": 1}\n{"a": 2}\n')
    (checkpoint / "pytorch_model.bin.index.json").write_text("cut o")
    assert dgx_vllm("serve", str(checkpoint), "--dry-run").status == 0


def test_a_config_from_elsewhere_passes(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    words = ["--hf-config-path", "org/other"]
    assert dgx_vllm("serve", str(checkpoint), "--dry-run", *words).status == 0


@pytest.mark.parametrize(
    ("file", "load_format"),
    [
        ("pytorch_model.bin", "auto"),
        ("model.pt", "auto"),
        ("pytorch_model.bin", "npcache"),
        ("model.pt", "pt"),
        ("model-rank-0-part-0.safetensors", "sharded_state"),
        ("model-rank-0-part-0.safetensors", "runai_streamer_sharded"),
        ("model.safetensors", "runai_streamer"),
        ("model.tensors", "tensorizer"),
        ("README.md", "modelexpress"),
        ("README.md", "dummy"),
    ],
)
def test_other_formats_of_the_weights(dgx_vllm: Run, checkpoint: Path, file: str, load_format: str) -> None:
    (checkpoint / "model.safetensors").unlink()
    write_safetensors(checkpoint / file, {"weight": 16})
    assert dgx_vllm("serve", str(checkpoint), "--dry-run", "--load-format", load_format).status == 0


def test_the_package_of_a_format_must_be_there_to_start(
    dgx_vllm: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(file_formats.PACKAGES, "runai_streamer", "no_such_package")  # type: ignore[arg-type]
    outcome = dgx_vllm("serve", str(checkpoint), "--load-format", "runai_streamer")
    assert outcome.status == 1
    assert "--load-format runai_streamer needs the Python package no_such_package" in outcome.err


def test_a_sharded_state_by_a_name_of_its_own(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "mine-0-0.safetensors")
    words = ["serve", str(checkpoint), "--dry-run", "--load-format", "sharded_state"]
    refused(dgx_vllm(*words), "no weights (model-*-part-*.safetensors)")
    extra = {"pattern": "mine-{rank}-{part}.safetensors"}
    assert dgx_vllm(*words, "--model-loader-extra-config", json.dumps(extra)).status == 0


def test_mistrals_weights_in_a_folder(dgx_vllm: Run, checkpoint: Path) -> None:
    """vLLM finds them by listing every folder, and then looks for them at the top."""
    (checkpoint / "original").mkdir()
    write_safetensors(checkpoint / "original" / "consolidated.00.safetensors", {"weight": 16})
    said = ["consolidated*.safetensors in a folder", "give --load-format safetensors"]
    refused(dgx_vllm("serve", str(checkpoint), "--dry-run"), *said)
    assert dgx_vllm("serve", str(checkpoint), "--dry-run", "--load-format", "safetensors").status == 0


# --- what is gone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["serve", "plan", "download"])
@pytest.mark.parametrize(
    "model",
    [
        *("model.gguf", "./model.GGUF", "org/name/model.gguf", "org/name-GGUF:Q4_K_M", "org/name:UD-Q4_K_XL"),
        *("hf.co/org/name-GGUF:Q4_K_M", "huggingface.co/org/name:Q8_0"),
    ],
)
def test_gguf_by_name(
    dgx_vllm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.gguf", "model.GGUF"):
        (tmp_path / name).write_bytes(b"GGUF")
    words = [command, model, *(["--dry-run"] if command == "serve" else [])]
    refused(dgx_vllm(*words), model, file_formats.NO_GGUF)


@pytest.mark.parametrize(
    "words",
    [
        ["--tokenizer", "org/name/model.gguf"],
        ["--spec-method", "draft_model", "--spec-tokens", "2", "--spec-model", "draft.gguf"],
        [
            "--speculative-config",
            '{"method": "draft_model", "num_speculative_tokens": 2, "model": "org/name:Q4_K_M"}',
        ],
    ],
    ids=str,
)
def test_gguf_for_something_else_than_the_model(dgx_vllm: Run, checkpoint: Path, words: list[str]) -> None:
    refused(dgx_vllm("serve", str(checkpoint), "--dry-run", *words), file_formats.NO_GGUF)


@pytest.mark.parametrize("config", [True, False])
def test_a_directory_of_gguf_is_refused(dgx_vllm: Run, checkpoint: Path, config: bool) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "model-Q4_K_M.gguf")
    if not config:
        (checkpoint / "config.json").unlink()
    refused(dgx_vllm("serve", str(checkpoint), "--dry-run"), file_formats.NO_GGUF)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("gguf", file_formats.NO_GGUF),
        ("bitsandbytes", "vLLM 0.32 has no bitsandbytes"),
        ("safetensor", "did you mean safetensors"),
        ("zzz", "choose from auto"),
    ],
)
def test_a_load_format_that_vllm_lacks(dgx_vllm: Run, given: str, said: str) -> None:
    refused(
        dgx_vllm("serve", "org/model", "--dry-run", "--load-format", given), f"--load-format {given}", said
    )


def methods() -> list[tuple[dict[str, Any], bool]]:
    """Quantizations that configs name, and whether vLLM 0.32 takes one, by its own check's parts."""
    from vllm.model_executor.layers import quantization

    named = [
        *quantization.QUANTIZATION_METHODS,
        *(
            "bitsandbytes",
            "aqlm",
            "hqq",
            "gguf",
            "eetq",
            "exl2",
            "exl3",
            "vptq",
            "quip",
            "marlin",
            "awq_gemm",
        ),
        *("auto-round", "compressed_tensors", "bitblas", "ptpc_fp8", "higgs", "spqr", "rtn", "AWQ"),
    ]
    found = []
    for name in named:
        method = name.lower().replace("compressed_tensors", "compressed-tensors")
        config = {"quant_method": method, "bits": 4, "group_size": 128, "desc_act": False}
        overrides = [
            quantization.get_quantization_config(each).override_quantization_method(config, None)
            for each in quantization.QUANTIZATION_METHODS
        ]
        taken = next((each for each in overrides if each), method)
        found.append(({"quant_method": name}, taken in quantization.QUANTIZATION_METHODS))
    return found


def test_a_quantization_that_vllm_lacks(dgx_vllm: Run, checkpoint: Path) -> None:
    for config, served in methods():
        (checkpoint / "config.json").write_text(json.dumps({"quantization_config": config}))
        outcome = dgx_vllm("serve", str(checkpoint), "--dry-run")
        if served:
            assert outcome.status == 0, (config, outcome)
        else:
            refused(outcome, f"is quantized by {config['quant_method']}, which vLLM 0.32 does not support")


# --- links that lead nowhere ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_whose_content_is_gone(dgx_vllm: Run, checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    (checkpoint / name).symlink_to("../../blobs/0123")
    refused(
        dgx_vllm("serve", str(checkpoint), "--dry-run"),
        f"{name} is a link to ../../blobs/0123, which is gone",
    )


def snapshot(hub: Path, commit: str, main: str | None = None) -> Path:
    """A whole model in the cache, its weights in the store that models share."""
    folder = hub / "models--org--model"
    place = folder / "snapshots" / commit
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(LLAMA_8B))
    (place / "tokenizer.json").write_text("{}")
    store = hub / "blobs" / "ab" / ("ab" * 32)
    store.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(store, {"weight": 3000})
    blob = folder / "blobs" / ("c" * 64)
    blob.parent.mkdir(exist_ok=True)
    blob.symlink_to(os.path.relpath(store, blob.parent))
    (place / "model.safetensors").symlink_to(f"../../blobs/{blob.name}")
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(main or commit)
    return place


OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture
def hub(environment: dict[str, str]) -> Path:
    return Path(environment["HF_HOME"], "hub")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_shared_blobs_are_served_and_weighed(dgx_vllm: Run, hub: Path, spark: Machine, variable: str) -> None:
    place = snapshot(hub, "a" * 40)
    outcome = dgx_vllm("serve", "org/model", "--dry-run", on=spark, environ={variable: "1"})
    assert outcome.status == 0, outcome
    assert "weights 3e-06 GB" in outcome.out
    assert dgx_vllm("plan", "org/model").status == 0
    (place / "model.safetensors").resolve().unlink()
    said = ["HF_HUB_OFFLINE forbids fetching what org/model lacks", "model.safetensors is a link to", "gone"]
    refused(dgx_vllm("serve", "org/model", "--dry-run", environ={variable: "1"}), *said)


def test_another_commit_is_no_substitute_and_is_named(dgx_vllm: Run, hub: Path) -> None:
    snapshot(hub, "a" * 40, main="b" * 40)
    said = [f"org/model is not in {hub}", f"another commit is downloaded: give --revision {'a' * 40}"]
    refused(dgx_vllm("serve", "org/model", "--dry-run", environ=OFFLINE), *said)
    words = ["serve", "org/model", "--dry-run", "--revision", "a" * 40]
    assert dgx_vllm(*words, environ=OFFLINE).status == 0


@pytest.mark.parametrize(
    ("words", "either"),
    [(["plan"], "the directory"), (["download"], f"--revision {'a' * 40}, or the directory")],
    ids=str,
)
def test_plan_and_download_name_the_commit_that_is_here(
    environment: dict[str, str], hub: Path, words: list[str], either: str
) -> None:
    place = snapshot(hub, "a" * 40, main="b" * 40)
    # A process of its own: huggingface_hub reads HF_HUB_OFFLINE as it is imported.
    command = [*COMMAND, *words, "org/model"]
    outcome = subprocess.run(command, env={**environment, **OFFLINE}, capture_output=True, text=True)
    assert outcome.returncode == 1
    assert f"another commit is downloaded: give {either} {place}" in outcome.stderr


@pytest.mark.parametrize("dtype", ["auto", "bf16"])
def test_a_dtype_that_torch_lacks_is_named_as_the_configs(
    dgx_vllm: Run, checkpoint: Path, dtype: str
) -> None:
    (checkpoint / "config.json").write_text(json.dumps({**LLAMA_8B, "torch_dtype": dtype}))
    said = [f"config.json names the dtype {dtype!r}", "such as bfloat16"]
    refused(dgx_vllm("serve", str(checkpoint), "--dry-run"), *said)


def test_the_cache_is_where_huggingface_hub_looks(environment: dict[str, str], tmp_path: Path) -> None:
    from dgx_vllm.host import caches

    own = {"MINE": str(tmp_path), "HF_HOME": "/h"}
    assert caches.hub({**own, "HUGGINGFACE_HUB_CACHE": "$MINE/a"}) == tmp_path / "a"
    assert caches.hub({**own, "HF_HUB_CACHE": "${MINE}/b", "HUGGINGFACE_HUB_CACHE": "/c"}) == tmp_path / "b"
    assert caches.hub({**own, "HF_HOME": "$MINE/$UNKNOWN"}) == tmp_path / "$UNKNOWN" / "hub"


# --- speculators ------------------------------------------------------------------------------------------


def speculator(place: Path, verifier: str, **changes: Any) -> Path:
    """A repository of the speculators library."""
    place.mkdir()
    config = {
        "speculators_model_type": "eagle3",
        "transformer_layer_config": {"model_type": "llama"},
        "speculators_config": {
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 3}],
            "verifier": {"name_or_path": verifier},
        },
        **changes,
    }
    (place / "config.json").write_text(json.dumps(config))
    write_safetensors(place / "model.safetensors", {"weight": 500_000_000})
    return place


@pytest.fixture
def verifier(checkpoint: Path) -> Path:
    (checkpoint / "config.json").write_text(json.dumps(LLAMA_8B))
    write_safetensors(checkpoint / "model.safetensors", {"weight": 1_000_000_000})
    return checkpoint


@pytest.mark.parametrize("words", [[], ["--tokenizer", "org/other"]], ids=str)
def test_the_verifier_is_served_and_guarded_with_its_drafter(
    dgx_vllm: Run, tmp_path: Path, verifier: Path, spark: Machine, words: list[str]
) -> None:
    drafter = speculator(tmp_path / "drafter", str(verifier))
    outcome = dgx_vllm("serve", str(drafter), "--dry-run", *words, on=spark)
    assert outcome.status == 0, outcome
    assert "weights 1.5 GB" in outcome.out
    found = json.dumps({"method": "eagle3", "num_speculative_tokens": 3, "model": str(drafter)})
    assert f"--speculative-config '{found}'" in outcome.out
    # Its length, too, is that of the verifier.
    refused(dgx_vllm("serve", str(drafter), "--dry-run", "--max-model-len", "9k"), "--max-model-len 9k")


def test_a_plan_is_of_the_verifier_and_its_drafter(dgx_vllm: Run, tmp_path: Path, verifier: Path) -> None:
    drafter = speculator(tmp_path / "drafter", str(verifier))
    outcome = dgx_vllm("plan", str(drafter), "--json")
    assert outcome.status == 0, outcome
    found = {each["draft"]: each["bytes"] for each in json.loads(outcome.out)["weights"]}
    assert found == {False: 1_000_000_000, True: 500_000_000}


def test_a_verifier_in_gguf_is_refused(dgx_vllm: Run, tmp_path: Path) -> None:
    drafter = speculator(tmp_path / "drafter", "org/name:Q4_K_M")
    said = [f"org/name:Q4_K_M, for which {drafter} drafts", file_formats.NO_GGUF]
    refused(dgx_vllm("serve", str(drafter), "--dry-run"), *said)


def test_a_speculator_without_drafts(dgx_vllm: Run, tmp_path: Path, verifier: Path) -> None:
    """vLLM would draft as the repository says, and nothing would tell."""
    drafter = speculator(tmp_path / "drafter", str(verifier))
    words = ["serve", str(drafter), "--dry-run", "--spec-tokens"]
    refused(dgx_vllm(*words, "0"), "vLLM always drafts", f"serve {verifier} itself")
    assert '"num_speculative_tokens"' not in dgx_vllm(*words, "2").out.splitlines()[0]


def test_a_verifier_that_is_not_whole(dgx_vllm: Run, tmp_path: Path, verifier: Path) -> None:
    drafter = speculator(tmp_path / "drafter", str(verifier))
    (verifier / "tokenizer.json").unlink()
    refused(
        dgx_vllm("serve", str(drafter), "--dry-run", "--tokenizer", "a/b"), f"{verifier} has no tokenizer"
    )
    refused(
        dgx_vllm("serve", str(speculator(tmp_path / "b", "/none")), "--dry-run"), "no checkpoint at /none"
    )
    here = speculator(tmp_path / "c", "org/verifier")
    assert dgx_vllm("serve", str(here), "--dry-run").status == 0
    refused(
        dgx_vllm("serve", str(here), "--dry-run", environ=OFFLINE), "org/verifier is not in", "drafts for it"
    )


def test_drafts_of_a_verifier_with_gdn_layers(
    dgx_vllm: Run, tmp_path: Path, verifier: Path, laptop: Machine
) -> None:
    (verifier / "config.json").write_text(json.dumps({**LLAMA_8B, "linear_num_value_heads": 32}))
    drafter = speculator(tmp_path / "drafter", str(verifier))
    refused(dgx_vllm("serve", str(drafter), "--dry-run", on=laptop), "need a Triton kernel")


@pytest.mark.parametrize(
    "changes",
    [{"speculators_config": {}}, {"transformer_layer_config": 1}, {"speculators_config": {"verifier": 1}}],
)
def test_a_speculator_that_vllm_would_stumble_over(
    dgx_vllm: Run, tmp_path: Path, changes: dict[str, Any]
) -> None:
    place = speculator(tmp_path / "drafter", "org/verifier", **changes)
    refused(dgx_vllm("serve", str(place), "--dry-run"), "is a speculators repository whose config.json lacks")


def test_the_speculative_config_is_the_one_that_vllm_makes(tmp_path: Path) -> None:
    from vllm.transformers_utils.config import maybe_override_with_speculators

    from dgx_vllm.checkpoints import speculators

    for number, method in enumerate(("eagle3", "peagle", "dflash", "dflash2", "mtp")):
        place = speculator(tmp_path / str(number), "org/verifier", speculators_model_type=method)
        found = speculators.read(str(place), checkpoints.json_object(place / "config.json"))
        assert found is not None
        model, _, theirs = maybe_override_with_speculators(str(place), None, False)
        assert (found.verifier, found.config.items() <= (theirs or {}).items()) == (model, True)

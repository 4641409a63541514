"""Where the tensors of a checkpoint are not what its config makes vLLM build, and where they are."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.checkpoints import headers
from dgx_vllm.demo.paths import CHECKPOINT
from dgx_vllm.doctor import stored_models
from dgx_vllm.doctor.finding import Status
from dgx_vllm.doctor.place import Place
from dgx_vllm.plan import model, source, stored_precision
from helpers.header_checkpoints import write
from helpers.mixed_checkpoints import tensors

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
#: What vLLM makes one layer of.
FUSED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
PARTS = [(index, part) for index in range(2) for part in FUSED]


def modules(parts: frozenset[tuple[int, str]]) -> list[str]:
    return [f"model.layers.{index}.{name}" for index, part in sorted(parts) for name in FUSED[part]]


def nvfp4(ignore: list[str]) -> dict[str, Any]:
    quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "ignore": ignore}
    return {**LLAMA, "quantization_config": quantization}


def checkpoint(directory: Path, config: dict[str, Any], plain: list[str]) -> Path:
    """Headers of a checkpoint whose layers are NVFP4 but for those in `plain`."""
    write(directory, config, tensors(config, lambda name: None if name in plain else "NVFP4"))
    return directory


@given(listed=st.frozensets(st.sampled_from(PARTS)), plain=st.frozensets(st.sampled_from(PARTS)))
@settings(max_examples=60, deadline=None)
def test_layers_disagree_exactly_where_list_and_files_differ(
    listed: frozenset[tuple[int, str]],
    plain: frozenset[tuple[int, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    config = nvfp4(["lm_head", *modules(listed)])
    directory = checkpoint(tmp_path_factory.mktemp("model"), config, ["lm_head", *modules(plain)])
    understood = model.understand(source.find(str(directory), {}))
    assert bool(understood.disagreements) == (listed != plain)


def test_the_demo_agrees_with_its_own_config() -> None:
    found = source.find(str(CHECKPOINT), {})
    assert stored_precision.disagreements(found.config, found.beside, headers.read(CHECKPOINT)) == ()


def test_a_layer_that_the_list_lacks_is_named_with_the_remedy(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, nvfp4(["lm_head"]), ["lm_head", "model.layers.1.mlp.down_proj"])
    (told,) = model.understand(source.find(str(directory), {})).disagreements
    assert told.what == "model.layers.1.mlp.down_proj is stored in BF16, and config.json says NVFP4"
    assert "vLLM 0.32 stops as it loads them" in told.effect
    assert "add their full names to `ignore` in config.json" in told.remedy


def test_doctor_warns_of_it_and_is_content_without(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    for name, plain in (("whole", ["lm_head"]), ("mixed", ["lm_head", "model.layers.0.self_attn.o_proj"])):
        folder = hub / f"models--owner--{name}"
        snapshot = folder / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("a" * 40)
        checkpoint(snapshot, nvfp4(["lm_head"]), plain)
    place = Place(environ={"HF_HUB_CACHE": str(hub), "HOME": str(tmp_path)})
    (finding,) = stored_models.findings(place)
    assert finding.status is Status.WARN
    assert finding.value.startswith("owner/mixed: model.layers.0.self_attn.o_proj is stored in BF16")
    assert finding.remedy is not None
    assert "full names" in finding.remedy
    for path in sorted((hub / "models--owner--mixed").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (hub / "models--owner--mixed").rmdir()
    (finding,) = stored_models.findings(place)
    assert (finding.status, finding.data["models"]) == (Status.OK, 1)


def test_doctor_leaves_out_what_is_damaged(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--owner--bad" / "snapshots" / ("b" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("not JSON")
    (snapshot / "model.safetensors").write_bytes(b"xx")
    place = Place(environ={"HF_HUB_CACHE": str(tmp_path / "hub"), "HOME": str(tmp_path)})
    assert stored_models.findings(place) == []

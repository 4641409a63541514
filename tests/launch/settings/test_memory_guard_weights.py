"""The weights that the memory guard counts: those that vLLM holds under the settings, as `plan` has them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings.memory_guard import Memory
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.plan import model, outlook, source
from dgx_vllm.plan.guard import Subject
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.outlook import PlanRequest
from dgx_vllm.profiles.profile import PACKAGE
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.errors import UserError
from helpers.launching import Run

GB = 10**9
DENSE = {"dgx_dense_dtype": "fp8"}
MTP = {"method": "mtp", "num_speculative_tokens": 2}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
#: Experts of a real size in NVFP4, and an MTP layer in BF16.
MOE = {
    **json.loads((PACKAGE / "demo" / "checkpoint" / "config.json").read_text()),
    "hidden_size": 2048,
    "num_experts": 512,
    "moe_intermediate_size": 512,
}


def understood(config: Mapping[str, Any]) -> Model:
    return model.understand(source.Source("model", config))


def planned(
    machine: Machine,
    config: Mapping[str, Any],
    available: int,
    dense_dtype: Dtype | None = None,
    environ: Mapping[str, str] | None = None,
    **flags: object,
) -> Launch:
    """A launch; objects are written as JSON."""
    words = {
        name.replace("_", "-"): value if isinstance(value, str | bool) else json.dumps(value)
        for name, value in flags.items()
    }
    request = Request(
        flags={"model": "owner/name", **words},
        environ=environ or {},
        memory=Memory(available, None, Subject(understood(config), None)),
        options=Options(dense_dtype=dense_dtype),
    )
    return render(resolve(request, machine, frozenset(environ or ())))


def weights(launch: Launch) -> str:
    """Of the arithmetic."""
    (note,) = [note for note in launch.notes if note.startswith("memory: available")]
    return note.split(" - weights ")[1].split(" - ")[0]


def test_a_model_that_fits_in_fp8_is_started(spark: Machine) -> None:
    fits = planned(spark, LLAMA, 112 * GB, "fp8", max_model_len="8192", max_num_seqs="8")
    assert fits.refusal is None
    assert weights(fits) == "71.6 GB"
    jobs = {each.name: each.value for each in fits.variables}["MAX_JOBS"]
    assert jobs == "1"
    refused = planned(spark, LLAMA, 112 * GB, max_model_len="8192", max_num_seqs="8")
    assert "weights 141.1 GB" in (refused.refusal or "")


@pytest.mark.parametrize("backend", [None, "dgx", "DGX", "marlin"])
@pytest.mark.parametrize("dtype", ["bf16", "fp8", "nvfp4"])
def test_the_guard_counts_what_plan_counts(spark: Machine, dtype: Dtype, backend: str | None) -> None:
    given = {} if backend is None else {"moe_backend": backend}
    launch = planned(spark, MOE, 112 * GB, dtype, speculative_config=MTP, **given)
    wish = PlanRequest(112 * GB, "given", dense_dtype=dtype, moe_backend=backend, drafts=2)
    assert weights(launch) == gb(outlook.of(understood(MOE), None, wish).budget.weights)


def test_a_drafts_experts_are_counted_as_they_are_served(spark: Machine) -> None:
    def served(**flags: object) -> str:
        return weights(planned(spark, MOE, 112 * GB, "fp8", **flags))

    bf16 = served(speculative_config=MTP)
    dgx = served(speculative_config=MTP, moe_backend="dgx")
    assert dgx != bf16
    assert served(speculative_config={**MTP, "moe_backend": "triton"}, moe_backend="dgx") == bf16
    assert served(speculative_config={**MTP, "moe-backend": "dgx"}) == dgx


def test_an_additional_config_of_ones_own_counts(spark: Machine) -> None:
    assert planned(spark, LLAMA, 112 * GB, additional_config=DENSE, max_model_len="8192").refusal is None
    with pytest.raises(UserError, match=r"^--additional-config: .* one of bf16, fp8, nvfp4, not 'int8'$"):
        planned(spark, LLAMA, 112 * GB, additional_config={"dgx_dense_dtype": "int8"})


def test_layers_that_are_not_bf16_stay(spark: Machine) -> None:
    """`plugin.dense_method` leaves them."""
    words = {"additional_config": DENSE, "max_model_len": "8192"}
    for dtype, held in (
        ("auto", "71.6 GB"),
        ("bfloat16", "71.6 GB"),
        ("half", "141.1 GB"),
        ("float", "282.2 GB"),
    ):
        assert weights(planned(spark, LLAMA, 112 * GB, dtype=dtype, **words)) == held


def test_files_are_counted_likewise(dgx_vllm: Run, spark: Machine, tmp_path: Path) -> None:
    """Of an architecture that is unknown."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    shape = [65536, 65536]
    size = 2 * shape[0] * shape[1]
    name = "model.layers.0.mlp.up_proj.weight"
    header = json.dumps({name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, size]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)  # a hole, which takes no disk
    for words, expected in (([], "8.6 GB"), (["--dense-dtype", "fp8"], "4.3 GB")):
        outcome = dgx_vllm("serve", str(tmp_path), "--dry-run", *words, on=spark)
        assert f"- weights {expected} -" in outcome.out


def test_the_cpu_holds_nvfp4_in_16_bits(laptop: Machine) -> None:
    """The plugin dequantizes it once, after loading; see `plugin`."""
    found = understood(MOE).weights
    experts = next(each for each in found if each.part is Part.EXPERTS and not each.draft)
    assert experts.precision == "NVFP4"
    rest = sum(each.bytes for each in found if not each.draft and each.precision != "NVFP4")
    packed = sum(each.parameters for each in found if not each.draft and each.precision == "NVFP4")
    assert weights(planned(laptop, MOE, 30 * GB)) == gb(rest + 2 * packed)
    refused = planned(laptop, MOE, 8 * GB).refusal or ""
    assert f"weights {gb(rest + 2 * packed)}" in refused


def test_what_dense_dtype_makes_of_them_the_cpu_keeps(laptop: Machine, spark: Machine) -> None:
    """Its reference path reads FP8 and NVFP4; a draft's experts it rounds, and keeps in BF16."""
    bf16, nvfp4 = (planned(laptop, LLAMA, 200 * GB, dtype) for dtype in ("bf16", "nvfp4"))
    assert (weights(bf16), weights(nvfp4)) == ("141.1 GB", weights(planned(spark, LLAMA, 112 * GB, "nvfp4")))
    words = {"speculative_config": MTP, "enable_prefix_caching": False}
    for dtype in ("fp8", "nvfp4"):
        vllms, dgx = (
            weights(planned(laptop, MOE, 30 * GB, dtype, moe_backend=backend, **words))
            for backend in ("auto", "dgx")
        )
        assert vllms == dgx


@pytest.mark.parametrize(
    ("environ", "quantized"),
    [
        ({"VLLM_BATCH_INVARIANT": "1"}, False),
        ({"VLLM_BATCH_INVARIANT": "0"}, True),
        ({"VLLM_PLUGINS": "lora_filesystem_resolver"}, False),
        ({"VLLM_PLUGINS": "lora_filesystem_resolver,dgx_vllm"}, True),
    ],
)
def test_what_nothing_will_quantize_counts_as_it_is(
    spark: Machine, environ: dict[str, str], quantized: bool
) -> None:
    launch = planned(spark, LLAMA, 112 * GB, "fp8", environ, max_model_len="8192", max_num_seqs="8")
    assert (launch.refusal is None) == quantized

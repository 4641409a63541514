"""What --dense-dtype changes in the plan and in the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shapes import QWEN3_NEXT_NVFP4, understood

from dgx_vllm.formats import dense_dtype
from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.host.machine import Machine, Vllm
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.launch.settings.ranking import Source
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.plan import outlook
from dgx_vllm.plan.outlook import PlanRequest
from dgx_vllm.plan.weights import Weight
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError

MACHINE = Machine(Vllm("0.32.0", "cpu", Path("/env/vllm"), has_command=True), (), 32 * 2**30, 8, "python")
KNOWN: frozenset[str] = frozenset()


def test_the_projections_bytes_are_halved() -> None:
    model = understood(QWEN3_NEXT_NVFP4)
    bf16, fp8 = (
        outlook.of(model, None, PlanRequest(10**12, "given", dense_dtype=dtype)) for dtype in ("bf16", "fp8")
    )
    # in_proj_qkvz, q/k/v and lm_head, less a float32 scale for each output.
    outputs = 36 * 12288 + 12 * 9216 + 151936
    assert bf16.steps[0].bytes - fp8.steps[0].bytes == outputs * 2048 - outputs * 4


def test_nvfp4_takes_nine_bits_for_thirty_two() -> None:
    model = understood(QWEN3_NEXT_NVFP4)
    bf16, nvfp4 = (
        outlook.of(model, None, PlanRequest(10**12, "given", dense_dtype=dtype))
        for dtype in ("bf16", "nvfp4")
    )
    outputs = 36 * 12288 + 12 * 9216 + 151936
    saved = bf16.steps[0].bytes - nvfp4.steps[0].bytes
    assert saved == pytest.approx(outputs * 2048 * (2 - 4.5 / 8), rel=1e-5)


def test_the_drafts_bytes_are_halved_but_for_experts_and_routers() -> None:
    model = understood(QWEN3_NEXT_NVFP4)
    bf16, fp8 = (
        {
            w.part.value: w
            for w in outlook.of(model, None, PlanRequest(10**12, "given", dense_dtype=dtype)).model.weights
            if w.draft
        }
        for dtype in ("bf16", "fp8")
    )
    assert {part for part in fp8 if fp8[part].precision == "FP8"} == {
        "draft's fc", "attention q/k/v", "attention o_proj", "shared expert"
    }  # fmt: skip
    # fc reads two hidden states, o_proj 16 heads of 256.
    for part, outputs, inputs in (("draft's fc", 2048, 4096), ("attention o_proj", 2048, 4096)):
        assert fp8[part].bytes == outputs * (inputs + 4)
        assert bf16[part].bytes == 2 * outputs * inputs


def draft_experts(**asked: Any) -> Weight:
    found = outlook.of(
        understood(QWEN3_NEXT_NVFP4), None, PlanRequest(10**12, "given", **asked)
    ).model.weights
    (experts,) = [each for each in found if each.draft and each.part is Part.EXPERTS]
    return experts


def test_a_drafts_experts_are_nvfp4_with_both_flags() -> None:
    values = 512 * 3 * 2048 * 512
    both = draft_experts(dense_dtype="fp8", moe_backend="dgx")
    assert (both.precision, both.parameters) == ("NVFP4", values)
    assert both.bytes == pytest.approx(values * 4.5 / 8, rel=1e-6)
    for asked in ({}, {"dense_dtype": "fp8"}, {"moe_backend": "dgx"}):
        assert (draft_experts(**asked).precision, draft_experts(**asked).bytes) == ("BF16", 2 * values)


def test_a_draft_then_reads_less_and_the_model_as_much() -> None:
    """Of 10 experts; the memory that is freed is the cache's."""
    plans = [
        outlook.of(
            understood(QWEN3_NEXT_NVFP4),
            None,
            PlanRequest(10**12, "given", dense_dtype="fp8", moe_backend=backend, drafts=2),
        )
        for backend in (None, "dgx")
    ]
    ten = 10 * 3 * 2048 * 512
    for drafting in (0, 1, 2):
        before, after = (plan.drafting[drafting].steps[0].bytes for plan in plans)
        assert before - after == pytest.approx(drafting * ten * (2 - 4.5 / 8), rel=1e-3)
    freed = plans[0].budget.weights - plans[1].budget.weights
    assert freed == pytest.approx(512 * 3 * 2048 * 512 * (2 - 4.5 / 8), rel=1e-6)


def test_a_tied_head_stays() -> None:
    """Its embedding is there in BF16 for the tokens that are read."""
    model = understood(QWEN3_NEXT_NVFP4, tie_word_embeddings=True)
    fp8 = outlook.of(model, None, PlanRequest(10**12, "given", dense_dtype="fp8"))
    assert {w.precision for w in fp8.model.weights if w.part.value in ("embedding", "lm_head")} == {"BF16"}


@pytest.mark.parametrize(
    "module",
    [
        "lm_head",
        "language_model.lm_head",
        "model.layers.0.linear_attn.in_proj_qkvz",
        "model.layers.0.linear_attn.in_proj_qkv",
        "model.layers.0.linear_attn.out_proj",
        "model.layers.3.self_attn.q_proj",
        "model.layers.3.self_attn.qkv_proj",
        "model.layers.3.self_attn.o_proj",
        "model.layers.3.mlp.gate_up_proj",
        "model.layers.3.mlp.shared_expert.down_proj",
        "mtp.fc",
        "mtp.layers.0.self_attn.k_proj",
    ],
)
def test_projections_are_covered(module: str) -> None:
    """By the names of checkpoints and by vLLM's, which fuses some."""
    assert dense_dtype.covers(module)


@pytest.mark.parametrize(
    "module",
    [
        "model.embed_tokens",
        "model.layers.0.input_layernorm",
        "model.layers.0.linear_attn.conv1d",
        "model.layers.0.linear_attn.in_proj_ba",
        "model.layers.0.linear_attn.in_proj_b",
        "model.layers.0.linear_attn.norm",
        "model.layers.0.mlp.gate",
        "model.layers.0.mlp.shared_expert_gate",
        "model.layers.0.mlp.experts.7.up_proj",
        "model.visual.blocks.0.mlp.up_proj",
        "vision_tower.layers.0.self_attn.q_proj",
        "backbone.layers.0.mixer.in_proj",
    ],
)
def test_what_decides_or_is_small_is_not_covered(module: str) -> None:
    assert not dense_dtype.covers(module)


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_nothing_is_quantized_unasked(dtype: str | None) -> None:
    launch = render(resolve(Request({}, {}, options=Options(dense_dtype=dtype)), MACHINE, KNOWN))  # type: ignore[arg-type]
    assert "additional-config" not in launch.settings


def test_fp8_is_told_to_the_plugin_in_vllms_additional_config() -> None:
    launch = render(resolve(Request({}, {}, options=Options(dense_dtype="fp8")), MACHINE, KNOWN))
    setting = launch.settings["additional-config"]
    assert setting.source is Source.FLAG
    assert setting.origin == "--dense-dtype fp8"
    assert dense_dtype.requested(json.loads(setting.text)) == "fp8"
    assert "--additional-config" in launch.argv


def test_an_additional_config_of_ones_own_says_it_itself() -> None:
    request = Request(
        {"additional-config": '{"gdn_prefill_backend": "triton"}'}, {}, options=Options(dense_dtype="fp8")
    )
    with pytest.raises(
        UserError,
        match=r'fp8 would replace --additional-config: put "dgx_dense_dtype": "fp8" into the latter',
    ):
        resolve(request, MACHINE, KNOWN)
    assert (
        "additional-config"
        in resolve(replace(request, options=Options(dense_dtype="bf16")), MACHINE, KNOWN).settings
    )


def test_what_is_asked_for_is_a_dtype() -> None:
    assert dense_dtype.requested({}) == dense_dtype.requested(None) == "bf16"
    with pytest.raises(ValueError, match="dgx_dense_dtype must be one of bf16, fp8, nvfp4, not 'int8'"):
        dense_dtype.requested({"dgx_dense_dtype": "int8"})


def test_an_unknown_dtype_in_the_additional_config_is_refused_where_nothing_guards_memory() -> None:
    request = Request({"additional-config": '{"dgx_dense_dtype": "int8"}'}, {}, memory=None)
    with pytest.raises(UserError, match=r"^--additional-config: .* one of bf16, fp8, nvfp4, not 'int8'$"):
        resolve(request, MACHINE, KNOWN)


def test_an_additional_config_that_is_not_json_is_refused() -> None:
    with pytest.raises(UserError, match=r"^--additional-config: .* must be a JSON object, not 'fp8'$"):
        resolve(Request({"additional-config": "fp8"}, {}), MACHINE, KNOWN)


def test_a_field_of_the_additional_config_overlays_the_profiles_dtype() -> None:
    request = Request(
        {"additional-config": {"gdn_prefill_backend": "triton"}},
        {},
        Profile("owner/name", "", 1.0, dense_dtype="fp8"),
    )
    setting = resolve(request, MACHINE, KNOWN).settings["additional-config"]
    assert setting.value == {"dgx_dense_dtype": "fp8", "gdn_prefill_backend": "triton"}


def test_two_who_say_what_is_quantized() -> None:
    request = Request({"quantization-config": '{"linear": "mxfp8"}'}, {}, options=Options(dense_dtype="fp8"))
    with pytest.raises(UserError, match=r"--dense-dtype fp8 and --quantization-config both say"):
        resolve(request, MACHINE, KNOWN)

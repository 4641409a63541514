"""What makes the drafts, and what a step with it reads and computes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import QWEN3_NEXT_NVFP4, understood

from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import cache, decode_speed, drafter, gb10
from dgx_vllm.plan.architecture import Attention
from dgx_vllm.plan.cache import Options
from dgx_vllm.plan.decode_speed import Step
from dgx_vllm.plan.drafter import Drafter
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.weights import Loading
from dgx_vllm.util.errors import UserError
from helpers.draft_configs import DFLASH2_27B, DSPARK_LIGHTNING, EAGLE3_GPT_OSS

#: A dense model as wide as the drafters' target, with a head in BF16.
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 248320,
    "hidden_size": 5120,
    "num_hidden_layers": 64,
    "num_attention_heads": 24,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "intermediate_size": 17408,
    "max_position_embeddings": 131072,
}
HEAD = 248320 * 5120 * 2
NOWHERE = {"HF_HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def llama() -> Model:
    return understood(LLAMA)


def read(config: dict[str, Any], folder: Path, method: str | None = None) -> Drafter:
    (folder / "config.json").write_text(json.dumps(config))
    return drafter.find(str(folder), NOWHERE, Loading(), method)


@pytest.fixture(scope="module")
def dflash2(tmp_path_factory: pytest.TempPathFactory) -> Drafter:
    return read(DFLASH2_27B, tmp_path_factory.mktemp("dflash2"))


def step(model: Model, by: Drafter | None, batch: int = 1, drafts: int = 7, context: int = 1024) -> Step:
    kept = cache.of(model.architecture, Options(drafts=drafts), by.attention if by else None)
    return decode_speed.step(
        model.architecture, model.weights, kept, batch, context, drafts, drafter=by if drafts else None
    )


def drafting(found: Step) -> float:
    return next(part.bytes for part in found.traffic if part.part.startswith("drafts"))


def test_a_block_draft_reads_its_layers_and_the_head_once(llama: Model, dflash2: Drafter) -> None:
    """3.70 GB of layers, fc and key/value copy, and the model's lm_head, whatever the number of drafts."""
    assert (dflash2.method, dflash2.most, dflash2.at_once) == ("dflash", 7, True)
    assert drafting(step(llama, dflash2, drafts=7)) == pytest.approx(3.70e9 + HEAD, rel=2e-3)
    assert drafting(step(llama, dflash2, drafts=3)) == drafting(step(llama, dflash2, drafts=7))


def test_a_block_draft_keeps_a_copy_of_its_key_and_value_matrices(dflash2: Drafter) -> None:
    assert dflash2.bytes == 3_848_808_960 + 104_857_600
    assert dflash2.attention == (Attention(5, 8, 128, 2048),)


def test_a_quantized_drafter_keeps_no_copy(tmp_path: Path) -> None:
    config = {**DSPARK_LIGHTNING, "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}
    joined = [weight for weight in read(config, tmp_path).weights if weight.part is Part.ATTENTION_QKV]
    assert [weight.precision for weight in joined] == ["NVFP4"]


def test_eagle3_reads_layer_and_head_for_each_draft(tmp_path: Path) -> None:
    """Its own head, and `fc` once: 431 MB without, 1158 MB of head."""
    by = read(EAGLE3_GPT_OSS, tmp_path)
    assert (by.method, by.at_once, by.own_head) == ("eagle3", False, True)
    llama = understood(LLAMA)
    fc = 3 * 2880 * 2880 * 2
    one, three = (drafting(step(llama, by, drafts=count)) for count in (1, 3))
    assert three - one == 2 * (one - fc)
    assert one == pytest.approx(215_470_080 * 2 + 201_088 * 2880 * 2, rel=1e-3)


def test_dspark_reads_its_markov_head_for_each_draft(tmp_path: Path) -> None:
    by = read(DSPARK_LIGHTNING, tmp_path)
    head = next(weight.bytes for weight in by.weights if weight.part is Part.DRAFT_HEAD)
    llama = understood(LLAMA)
    one, seven = (drafting(step(llama, by, drafts=count)) for count in (1, 7))
    assert seven - one == 6 * head
    assert by.most == 7


def test_a_model_that_drafts_alone_shares_nothing(tmp_path: Path) -> None:
    small = {**LLAMA, "hidden_size": 1024, "num_hidden_layers": 2, "tie_word_embeddings": True}
    by = read(small, tmp_path, "draft_model")
    assert drafting(step(understood(LLAMA), by, drafts=2)) == 2 * by.bytes


def test_the_model_s_own_layers_draft_where_nothing_else_does() -> None:
    model = understood(QWEN3_NEXT_NVFP4)
    by = drafter.own(model.architecture, model.weights)
    assert by is not None
    assert step(model, by, drafts=2) == step(model, None, drafts=2)
    assert drafter.own(understood(LLAMA).architecture, ()) is None


def test_known_sizes_are_enough_without_the_checkpoint() -> None:
    by = drafter.find("z-lab/Qwen3.8-27B-DFlash2", NOWHERE, Loading(), "dflash", fetch=False)
    assert by.bytes == 3_848_808_960 + 104_857_600
    assert by.attention == (Attention(5, 8, 128, 2048),)
    with pytest.raises(UserError, match=r"^owner/unknown is not in "):
        drafter.find("owner/unknown", NOWHERE, Loading(), fetch=False)


def test_many_tokens_are_bound_by_computing(llama: Model, dflash2: Drafter) -> None:
    """64 tokens of a dense model in BF16 are read in the time that they are multiplied in; 640 are not."""
    few, many = (step(llama, dflash2, batch) for batch in (1, 80))
    assert sum(part.seconds for part in few.traffic) == few.least_seconds
    products = sum(2 * weight.parameters for weight in llama.weights if weight.part is Part.MLP)
    at_least = products * 80 * 8 / gb10.GEMM_RATE
    assert many.seconds > at_least > many.least_seconds


@given(batch=st.integers(1, 64), drafts=st.integers(1, 15), context=st.integers(1, 262144))
def test_time_never_falls_with_more_work(
    llama: Model, dflash2: Drafter, batch: int, drafts: int, context: int
) -> None:
    here = step(llama, dflash2, batch, drafts, context).seconds
    assert here <= step(llama, dflash2, batch + 1, drafts, context).seconds
    assert here <= step(llama, dflash2, batch, drafts + 1, context).seconds
    assert here <= step(llama, dflash2, batch, drafts, context + 1).seconds
    assert here > step(llama, None, batch, 0, context).seconds


def test_each_pass_reads_the_drafter_s_cache(tmp_path: Path) -> None:
    by = read(EAGLE3_GPT_OSS, tmp_path)
    llama = understood(LLAMA)

    def kept(drafts: int) -> float:
        return next(part.bytes for part in step(llama, by, drafts=drafts).traffic if part.part == "KV cache")

    assert kept(3) - kept(1) == 2 * (2 * 8 * 64 * 2) * 1024


def test_a_config_that_says_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        read({"model_type": "new"}, tmp_path)

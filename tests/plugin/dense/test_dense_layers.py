"""`--dense-dtype fp8` in vLLM's layers: which become FP8, when, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.live_tensors import Live

pytest.importorskip("vllm")

from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers import linear, vocab_parallel_embedding
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
    UnquantizedLinearMethod,
)
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (
    CompressedTensorsConfig,
)
from vllm.model_executor.layers.quantization.modelopt import ModelOptNvFp4Config
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)
from vllm.model_executor.model_loader.base_loader import _has_online_quant
from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader
from vllm.model_executor.model_loader.reload import finalize_layerwise_processing
from vllm.model_executor.model_loader.utils import process_weights_after_loading

from dgx_vllm import plugin
from dgx_vllm.formats import dense_dtype, fp8
from dgx_vllm.formats.nvfp4 import by_rows as nvfp4_rows
from dgx_vllm.host import meminfo
from dgx_vllm.kernels import reference
from dgx_vllm.plugin.dense import fp8_linear
from dgx_vllm.plugin.dense import method as dense_method
from dgx_vllm.plugin.dense.fp8_method import Fp8Method
from dgx_vllm.plugin.dense.nvfp4_method import Nvfp4Method

pytestmark = pytest.mark.usefixtures("logged", "process_group")

K = 64
BF16 = {"params_dtype": torch.bfloat16}


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    plugin.register()


@contextmanager
def asking(dtype: str = "fp8") -> Iterator[None]:
    config = VllmConfig(additional_config=dense_dtype.additional_config(dtype) or {})  # type: ignore[arg-type]
    with set_current_vllm_config(config):
        yield


def made(make: Callable[[], Any], dtype: str = "fp8") -> Any:
    with asking(dtype):
        return make()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def load(layer: Any, *parts: tuple[torch.Tensor, Any]) -> None:
    """As vLLM's loader does: each shard of a checkpoint by the parameter's own loader."""
    for tensor, shard in parts:
        parameter = layer.weight
        parameter.weight_loader(parameter, tensor, *([] if shard is None else [shard]))


def finish(*layers: Any) -> None:
    """What vLLM does after loading."""
    model = torch.nn.ModuleList(layers)
    config: Any = SimpleNamespace(
        dtype=torch.bfloat16, word_embeddings_untied_by_checkpoint=False, quantization=None
    )
    if _has_online_quant(model):
        finalize_layerwise_processing(model, config)
    process_weights_after_loading(model, config, torch.device("cpu"))


def outputs(layer: Any, x: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, ParallelLMHead):
        return layer.quant_method.apply(layer, x)
    out = layer(x)
    return out[0] if isinstance(out, tuple) else out


def column(prefix: str = "model.layers.3.mlp.up_proj", rows: int = 48, k: int = K, **kwargs: Any) -> Any:
    return ColumnParallelLinear(k, rows, bias=False, prefix=prefix, **{**BF16, **kwargs})


def merged(**kwargs: Any) -> Any:
    name = "model.layers.0.linear_attn.in_proj_qkvz"
    return MergedColumnParallelLinear(K, [32, 32, 64, 64], bias=False, prefix=name, **{**BF16, **kwargs})


def qkv(**kwargs: Any) -> Any:
    name = "model.layers.3.self_attn.qkv_proj"
    return QKVParallelLinear(K, 16, 4, 2, bias=False, prefix=name, **{**BF16, **kwargs})


def row(rows: int = 48, **kwargs: Any) -> Any:
    return RowParallelLinear(
        K, rows, bias=False, prefix="mtp.layers.0.self_attn.o_proj", **{**BF16, **kwargs}
    )


def head(vocabulary: int = 192, prefix: str = "lm_head") -> Any:
    return ParallelLMHead(vocabulary, K, prefix=prefix, params_dtype=torch.bfloat16)


MATRIX = random(192, K)
# Each kind of layer, what a checkpoint holds for it, its rows, and those that rank 1 of 2 gets of MATRIX.
KINDS: dict[str, tuple[Callable[[], Any], list[tuple[torch.Tensor, Any]], int, Any]] = {
    "column": (column, [(MATRIX[:48], None)], 48, [*range(24, 48)]),
    "merged": (
        merged,
        [(MATRIX[:128], (0, 1, 2)), (MATRIX[128:], 3)],
        192,
        [*range(16, 32), *range(48, 64), *range(96, 128), *range(160, 192)],
    ),
    "qkv": (
        qkv,
        [(MATRIX[:64], "q"), (MATRIX[64:96], "k"), (MATRIX[96:128], "v")],
        128,
        [*range(32, 64), *range(80, 96), *range(112, 128)],
    ),
    "row": (row, [(MATRIX[:48], None)], 48, None),
    "head": (head, [(MATRIX, None)], 192, [*range(96, 192)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_quantized_when_its_last_part_is_loaded(kind: str, logged: list[str]) -> None:
    make, parts, rows, _ = KINDS[kind]
    layer = made(make)
    assert isinstance(layer.quant_method, Fp8Method)
    for part in parts:
        assert layer.weight.is_meta
        load(layer, part)
    expected = fp8.quantize(MATRIX[:rows])
    assert torch.equal(layer.weight.view(torch.uint8), expected.weight.view(torch.uint8))
    assert torch.equal(layer.weight_scale, expected.scale)
    finish(layer)
    x = random(5, K, seed=1)
    exact = x.double() @ fp8.dequantize(expected).double().T
    torch.testing.assert_close(outputs(layer, x).double(), exact, rtol=2**-8, atol=1e-2)
    assert logged == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_rank_quantizes_its_part(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (linear, vocab_parallel_embedding):
        monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: 1)
        monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 2)
    make, parts, rows, mine = KINDS[kind]
    if kind == "column":
        make, parts, mine = lambda: column(rows=96), [(MATRIX[:96], None)], [*range(48, 96)]
    layer = made(make)
    load(layer, *parts)
    finish(layer)
    shard = MATRIX[:rows, K // 2 :] if kind == "row" else MATRIX[mine]
    expected = fp8.quantize(shard.contiguous())
    assert torch.equal(layer.weight.view(torch.uint8), expected.weight.view(torch.uint8))
    assert torch.equal(layer.weight_scale, expected.scale)


def test_a_padded_vocabulary_is_quantized_at_the_end() -> None:
    """vLLM pads to a multiple of 64; no checkpoint holds those rows."""
    layer = made(lambda: head(vocabulary=100))
    load(layer, (MATRIX[:100], None))
    assert layer.weight.is_meta
    finish(layer)
    padded = torch.cat((MATRIX[:100], torch.zeros(28, K, dtype=torch.bfloat16)))
    assert torch.equal(layer.weight.view(torch.uint8), fp8.quantize(padded).weight.view(torch.uint8))
    assert (layer.weight[100:].float() == 0).all()


def test_a_bias_is_kept() -> None:
    layer = made(lambda: ColumnParallelLinear(K, 48, bias=True, prefix="a.self_attn.qkv_proj", **BF16))
    bias = random(48, seed=3)
    layer.bias.weight_loader(layer.bias, bias)
    assert layer.weight.is_meta
    load(layer, (MATRIX[:48], None))
    finish(layer)
    zero = torch.zeros(1, K, dtype=torch.bfloat16)
    assert torch.equal(outputs(layer, zero)[0], bias)


def test_dummy_weights_are_quantized_too() -> None:
    """What `--load-format dummy` fills and processes, as it does for vLLM's own online quantization."""
    model = torch.nn.ModuleList([made(column), made(head)])
    DummyModelLoader(SimpleNamespace(model_loader_extra_config=None)).load_weights(model, None)  # type: ignore[arg-type]
    finish(*model)
    for layer in model:
        assert layer.weight.dtype == torch.float8_e4m3fn
        assert layer.weight.float().unique().numel() > 50


def test_no_more_than_one_layer_is_there_twice() -> None:
    """Bytes at the worst moment of making and loading eight layers, beside the checkpoint's own."""
    rows, k, count = 256, 1024, 8
    weights = [random(rows, k, seed=seed) for seed in range(count)]
    with Live() as live:
        layers = [made(lambda: column(rows=rows, k=k)) for _ in range(count)]
        made_at_most = live.peak
        for layer, weight in zip(layers, weights, strict=True):
            load(layer, (weight, None))
        finish(*layers)
    one_in_bf16, all_in_fp8 = 2 * rows * k, count * rows * (k + 4)
    assert one_in_bf16 <= made_at_most < 2 * one_in_bf16
    assert live.bytes == all_in_fp8
    assert live.peak <= all_in_fp8 + one_in_bf16 + fp8.room(weights[0])


@pytest.mark.parametrize("kind", KINDS)
def test_unasked_a_layer_is_vllms(kind: str) -> None:
    make, parts, rows, _ = KINDS[kind]
    layer = made(make, "bf16")
    assert type(layer.quant_method) in (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
    load(layer, *parts)
    assert torch.equal(layer.weight, MATRIX[:rows])


def test_layers_keep_the_names_of_their_classes() -> None:
    """compressed-tensors finds what it quantizes by the class's name."""
    assert type(made(column)).__name__ == "ColumnParallelLinear"
    assert type(made(column)) is not ColumnParallelLinear


@pytest.mark.parametrize(
    "name",
    ["model.layers.0.linear_attn.in_proj_ba", "model.layers.0.mlp.gate", "visual.blocks.0.attn.qkv_proj"],
)
def test_what_is_to_stay_stays(name: str, logged: list[str]) -> None:
    assert isinstance(made(lambda: column(prefix=name)).quant_method, UnquantizedLinearMethod)
    assert logged == []


@pytest.mark.parametrize("kind", KINDS)
def test_nvfp4_is_what_its_quantizer_says(kind: str, logged: list[str]) -> None:
    """By the checkpoint's own way, with block scales where the tensor cores want them."""
    make, parts, rows, _ = KINDS[kind]
    if kind in ("column", "row"):  # whose 48 rows are not a multiple of 64
        make = {"column": lambda: column(rows=64), "row": lambda: row(64)}[kind]
        parts, rows = [(MATRIX[:64], None)], 64
    elif rows % 64:
        pytest.skip(f"{rows} rows are not a multiple of 64")
    layer = made(make, "nvfp4")
    assert isinstance(layer.quant_method, Nvfp4Method)
    for part in parts:
        assert layer.weight.is_meta
        load(layer, part)
    finish(layer)
    expected = nvfp4_rows.quantize(MATRIX[:rows])
    assert expected is not None
    assert torch.equal(layer.weight, expected.weight)
    assert torch.equal(layer.weight_scale.view(torch.uint8), expected.weight_scale.view(torch.uint8))
    assert torch.equal(layer.weight_global_scale, expected.weight_scale_2)
    x = random(5, K, seed=1)
    held = reference.weight(layer.weight, layer.weight_scale, layer.weight_global_scale)
    torch.testing.assert_close(
        outputs(layer, x).double(), x.double() @ held.double().T, rtol=2**-8, atol=1e-2
    )
    assert logged == []


def test_nvfp4_holds_no_more_than_one_layer_twice() -> None:
    rows, k, count = 256, 1024, 8
    weights = [random(rows, k, seed=seed) for seed in range(count)]
    with Live() as live:
        layers = [made(lambda: column(rows=rows, k=k), "nvfp4") for _ in range(count)]
        for layer, weight in zip(layers, weights, strict=True):
            load(layer, (weight, None))
        finish(*layers)
    one_in_bf16, all_quantized = 2 * rows * k, count * (rows * k * 9 // 16 + 4)
    assert live.bytes == all_quantized
    assert live.peak <= all_quantized + one_in_bf16 + nvfp4_rows.room(weights[0])


def test_a_layer_that_cannot_be_nvfp4_stays(logged: list[str]) -> None:
    layer = made(lambda: column(rows=48), "nvfp4")
    assert isinstance(layer.quant_method, UnquantizedLinearMethod)
    why = "its 48 outputs are not a multiple of 64"
    assert logged == [f"dense_dtype nvfp4 leaves model.layers.*.mlp.up_proj in BF16: {why}"]


def test_an_unknown_dtype_is_an_error() -> None:
    with (
        set_current_vllm_config(VllmConfig(additional_config={"dgx_dense_dtype": "int3"})),
        pytest.raises(ValueError, match="not 'int3'"),
    ):
        column()


@pytest.mark.parametrize(
    ("make", "name", "why"),
    [
        (lambda: column(rows=40), "model.layers.*.mlp.up_proj", "its 40 outputs are not a multiple of 16"),
        (lambda: column(k=24), "model.layers.*.mlp.up_proj", "its 24 inputs are not a multiple of 16"),
        (
            lambda: column(params_dtype=torch.float16),
            "model.layers.*.mlp.up_proj",
            "its weights are torch.float16 and not torch.bfloat16",
        ),
    ],
)
def test_a_layer_that_cannot_be_quantized_stays(
    make: Callable[[], Any], name: str, why: str, logged: list[str]
) -> None:
    """One line for all of a kind; and the layer serves."""
    layers = [made(make), made(make)]
    assert logged == [f"dense_dtype fp8 leaves {name} in BF16: {why}"]
    for layer in layers:
        assert isinstance(layer.quant_method, UnquantizedLinearMethod)
        load(layer, (torch.ones_like(layer.weight), None))
    finish(*layers)


def test_other_devices_leave_all_layers_in_bf16(logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp8_linear.current_platform, "is_cpu", lambda: False)
    assert isinstance(made(qkv).quant_method, UnquantizedLinearMethod)
    assert logged == [
        "dense_dtype fp8 leaves model.layers.*.self_attn.qkv_proj in BF16: "
        "vLLM's CUTLASS has no FP8 for this device"
    ]


def test_results_that_may_not_depend_on_the_batch(logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    monkeypatch.setattr(dense_method.envs, "VLLM_BATCH_INVARIANT", True, raising=False)
    assert isinstance(made(qkv).quant_method, UnquantizedLinearMethod)
    assert len(logged) == 1
    assert "VLLM_BATCH_INVARIANT" in logged[0]


def drafting(method: str, model: str | None = None) -> SimpleNamespace:
    """vLLM's speculative config, as far as it is asked."""
    draft = SimpleNamespace(hf_config=SimpleNamespace(model_type=model)) if model else None
    return SimpleNamespace(method=method, draft_model_config=draft)


@pytest.mark.parametrize(
    ("model", "drafts", "why"),
    [
        ({"head_dtype": torch.float32}, None, "its logits are asked for in torch.float32"),
        ({}, drafting("eagle3"), "drafts by eagle3 may compare it with their own"),
        ({}, drafting("mtp", "nemotron_h_mtp"), "drafts by nemotron_h_mtp may compare it with their own"),
    ],
)
def test_a_head_that_is_needed_as_it_is(
    model: dict[str, Any],
    drafts: SimpleNamespace | None,
    why: str,
    logged: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SimpleNamespace(
        model_config=SimpleNamespace(**{"dtype": torch.bfloat16, "head_dtype": torch.bfloat16, **model}),
        speculative_config=drafts,
    )
    monkeypatch.setattr(dense_method, "get_current_vllm_config", lambda: config)
    assert isinstance(made(head).quant_method, UnquantizedEmbeddingMethod)
    assert logged == [f"dense_dtype fp8 leaves lm_head in BF16: {why}"]
    assert isinstance(made(column).quant_method, Fp8Method)


@pytest.mark.parametrize("kind", [("mtp", "qwen3_next_mtp"), ("mtp", "qwen3_5_mtp"), ("ngram",)])
def test_a_head_that_drafts_share(kind: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(model_config=None, speculative_config=drafting(*kind))
    monkeypatch.setattr(dense_method, "get_current_vllm_config", lambda: config)
    assert isinstance(made(head).quant_method, Fp8Method)


def test_a_head_tied_to_its_embedding_stays(logged: list[str]) -> None:
    with asking():
        embedding = VocabParallelEmbedding(192, K, params_dtype=torch.bfloat16)
        tied = head().tie_weights(embedding)
    assert tied.weight is embedding.weight
    embedding.weight.weight_loader(embedding.weight, MATRIX)
    finish(embedding, tied)
    assert tied.weight is embedding.weight
    x = random(2, K, seed=1)
    torch.testing.assert_close(outputs(tied, x), x @ MATRIX.T)
    assert logged == ["dense_dtype fp8 leaves lm_head in BF16: it shares its weights with the embedding"]


def test_too_little_memory_leaves_a_layer_in_bf16(logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made(column)
    monkeypatch.setattr(meminfo, "available", lambda: 1_000)
    load(layer, (MATRIX[:48], None))
    finish(layer)
    assert logged == [
        "dense_dtype fp8 leaves model.layers.*.mlp.up_proj in BF16: "
        f"quantizing it takes {fp8.room(MATRIX[:48]) / 1e6:.1f} MB, and 0.0 MB are free"
    ]
    x = random(2, K, seed=1)
    torch.testing.assert_close(outputs(layer, x), x @ MATRIX[:48].T)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_stay_in_bf16(value: float, logged: list[str]) -> None:
    layer = made(column)
    damaged = MATRIX[:48].clone()
    damaged[7, 3] = value
    load(layer, (damaged, None))
    finish(layer)
    assert logged == [
        "dense_dtype fp8 leaves model.layers.*.mlp.up_proj in BF16: it holds weights that are not finite"
    ]
    assert not outputs(layer, random(1, K)).isfinite()[0, 7]
    assert outputs(layer, random(1, K)).isfinite().sum() == 47


MODELOPT = {"quant_algo": "NVFP4", "group_size": 16, "ignore": ["model.layers.3.self_attn.q_proj"]}
COMPRESSED = {
    "format": "nvfp4-pack-quantized",
    "quant_method": "compressed-tensors",
    "ignore": ["model.layers.3.self_attn.q_proj"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 4,
                "type": "float",
                "strategy": "tensor_group",
                "group_size": 16,
                "symmetric": True,
                "dynamic": False,
            },
            "input_activations": {
                "num_bits": 4,
                "type": "float",
                "strategy": "tensor_group",
                "group_size": 16,
                "symmetric": True,
                "dynamic": "local",
            },
        }
    },
}


@pytest.mark.parametrize(
    "config",
    [
        lambda: ModelOptNvFp4Config.from_config(MODELOPT),
        lambda: CompressedTensorsConfig.from_config(COMPRESSED),
    ],
    ids=["ModelOpt", "compressed-tensors"],
)
def test_only_what_the_checkpoint_leaves_out_is_quantized(
    config: Callable[[], Any], logged: list[str]
) -> None:
    """The other layers are the checkpoint's own method's, which is told their class and name as ever."""
    with asking():
        left = column(prefix="model.layers.3.self_attn.q_proj", quant_config=config())
        taken = column(prefix="model.layers.3.self_attn.o_proj", quant_config=config())
    assert isinstance(left.quant_method, Fp8Method)
    assert "Unquantized" not in type(taken.quant_method).__name__
    assert not isinstance(taken.quant_method, Fp8Method)
    assert taken.weight.dtype == torch.uint8 if hasattr(taken, "weight") else taken.weight_packed is not None
    assert logged == []

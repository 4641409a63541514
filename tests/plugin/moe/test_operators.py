"""The kernels' PyTorch operators without a GPU: what they mean, and that torch.compile may have them."""

import math

import numpy as np
import pytest
import torch

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, pack, quantize, tiles, unpack
from dgx_vllm.formats.nvfp4.sparsity_pattern import TWO_OF_FOUR
from dgx_vllm.kernels import NoLibraryError, find, operators, reference
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert
from helpers.nvfp4_layout import reference_values

pytest.importorskip("vllm")

from vllm.model_executor.layers.quantization.utils.nvfp4_utils import swizzle_blockscale

HIDDEN, INTERMEDIATE, SHARED, EXPERTS, TOP_K, TOKENS = 128, 64, 128, 6, 3, 5
GATES = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's `swizzle_blockscale`, whose layout the operator takes, moves its result to one."""
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)


def experts(seed: int, rows: int, columns: int, count: int = EXPERTS) -> Nvfp4Tensor:
    generator = torch.Generator().manual_seed(seed)
    return quantize(torch.randn(count, rows, columns, generator=generator))


def scales_as_bytes(tensor: Nvfp4Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `swizzled`; opcheck compares tensors, and torch compares no float8."""
    weight, scale, global_scale = swizzled(tensor)
    return weight, scale.view(torch.uint8), global_scale


def swizzled(tensor: Nvfp4Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return tensor.weight, swizzle_blockscale(tensor.weight_scale), tensor.weight_scale_2


def values(tensor: Nvfp4Tensor, expert: int) -> np.ndarray:
    one = Nvfp4Tensor(tensor.weight[expert], tensor.weight_scale[expert], tensor.weight_scale_2[expert])
    return reference_values(one).astype(np.float64)


@pytest.fixture
def w13() -> Nvfp4Tensor:
    return experts(0, 2 * INTERMEDIATE, HIDDEN)


@pytest.fixture
def w2() -> Nvfp4Tensor:
    return experts(
        1,  # vLLM's, whose layout the operator takes, moves its result to a GPU.
        HIDDEN,
        INTERMEDIATE,
    )


@pytest.fixture
def routed() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, ids with one expert twice in a token and one slot empty, and weights."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(TOKENS, HIDDEN, generator=generator).bfloat16()
    ids = torch.randint(0, EXPERTS, (TOKENS, TOP_K), generator=generator, dtype=torch.int32)
    ids[0, 1] = ids[0, 0]
    ids[1, 2] = -1
    return x, ids, torch.rand(TOKENS, TOP_K, generator=generator)


@pytest.mark.parametrize(("rows", "blocks"), [(128, 4), (1, 1), (130, 7), (300, 32)])
def test_unswizzling_undoes_what_vllm_does(rows: int, blocks: int) -> None:
    scale = torch.randint(0, 127, (rows, blocks), dtype=torch.uint8).view(torch.float8_e4m3fn)
    got = reference.unswizzle(swizzle_blockscale(scale), rows, blocks)
    assert torch.equal(got.view(torch.uint8), scale.view(torch.uint8))


@pytest.mark.parametrize("activation", sorted(GATES))
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("shared", [None, "ungated", "gated"])
def test_moe_decode_is_the_weighted_sum_of_its_experts(
    w13: Nvfp4Tensor,
    w2: Nvfp4Tensor,
    routed: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    activation: str,
    mapped: bool,
    shared: str | None,
) -> None:
    x, ids, weights = routed
    # With a map, half of the experts are elsewhere and the rest have other places.
    places = [3, -1, 0, -1, 5, -1] if mapped else list(range(EXPERTS))
    expected = np.zeros((TOKENS, HIDDEN))
    for token, slot in np.ndindex(TOKENS, TOP_K):
        place = places[ids[token, slot]] if ids[token, slot] >= 0 else -1
        if place < 0:
            continue
        gate, up = np.split(values(w13, place) @ x[token].double().numpy(), 2)
        expected[token] += float(weights[token, slot]) * (values(w2, place) @ (GATES[activation](gate) * up))
    out = torch.full((TOKENS, HIDDEN), float("nan"), dtype=torch.bfloat16)
    expert_map = torch.tensor(places, dtype=torch.int32) if mapped else None
    one_more = experts(3, 2 * SHARED, HIDDEN, 1), experts(4, HIDDEN, SHARED, 1)
    row = torch.linspace(-0.3, 0.2, HIDDEN).bfloat16() if shared == "gated" else None
    for token in range(TOKENS) if shared else ():
        gate, up = np.split(values(one_more[0], 0) @ x[token].double().numpy(), 2)
        weight = 1.0 if row is None else 1 / (1 + np.exp(-float(x[token].double() @ row.double())))
        expected[token] += weight * (values(one_more[1], 0) @ (GATES[activation](gate) * up))
    routed_experts = ExpertWeights(*swizzled(w13), *swizzled(w2))
    one = SharedExpert(ExpertWeights(*swizzled(one_more[0]), *swizzled(one_more[1])), row)
    routing = Routing(ids, weights, expert_map)
    operators.moe_decode(out, x, routed_experts, routing, one if shared else None, activation)
    error = np.linalg.norm(out.double().numpy() - expected) / np.linalg.norm(expected)
    assert error < 2**-8  # one rounding to bfloat16


def test_opcheck(
    w13: Nvfp4Tensor, w2: Nvfp4Tensor, routed: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    """The schema says what is written to, and the fake implementation what comes out."""
    x, ids, weights = routed
    out = torch.empty_like(x)
    shared = [
        *scales_as_bytes(experts(3, 2 * SHARED, HIDDEN, 1)),
        *scales_as_bytes(experts(4, HIDDEN, SHARED, 1)),
    ]
    gate = torch.zeros(HIDDEN, dtype=torch.bfloat16)
    arguments = (
        out,
        x,
        *scales_as_bytes(w13),
        *scales_as_bytes(w2),
        ids,
        weights,
        None,
        shared,
        gate,
        "silu",
    )
    torch.library.opcheck(torch.ops.dgx_vllm.moe_decode.default, arguments)


@pytest.fixture
def sparse() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """w13 and w2 of 2:4, 256 by 256, with swizzled scales."""
    out = []
    for seed, rows in ((0, 512), (1, 256)):
        drawn = experts(seed, rows, 256)
        kept = TWO_OF_FOUR.keep(torch.rand(EXPERTS, rows, 256, generator=torch.Generator().manual_seed(seed)))
        zeros = Nvfp4Tensor(pack(unpack(drawn.weight) * kept), drawn.weight_scale, drawn.weight_scale_2)
        out.append(scales_as_bytes(zeros))
    return out


def test_sparse_weights_mean_the_same_in_tiles(
    sparse: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    routed: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    """Bit by bit, and they come back as they were."""
    _, ids, weights = routed
    x = torch.randn(TOKENS, 256, generator=torch.Generator().manual_seed(3)).bfloat16()
    dense, compressed = torch.empty_like(x), torch.full_like(x, float("nan"))
    routing = Routing(ids, weights)
    operators.moe_decode(dense, x, ExpertWeights(*sparse[0], *sparse[1]), routing, None, "silu")
    in_tiles = []
    for (weight, scale, global_scale), halves in zip(sparse, (True, False), strict=True):
        in_tiles += [operators.compress_24(weight, scale, halves), global_scale]
        assert in_tiles[-2].shape == tiles.shape(weight)
        again = torch.empty_like(weight), torch.empty_like(scale)
        operators.decompress_24(*again, in_tiles[-2], halves)
        assert torch.equal(again[0], weight)
        assert torch.equal(again[1], scale)
    operators.moe_decode_24(compressed, x, ExpertTiles(*in_tiles), routing, "silu")
    assert torch.equal(dense, compressed)


def test_opcheck_of_the_sparse_ones(
    sparse: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    routed: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    x, out = torch.zeros(TOKENS, 256).bfloat16(), torch.empty(TOKENS, 256).bfloat16()
    (w13, s13, g13), (w2, s2, g2) = sparse
    t13, t2 = operators.compress_24(w13, s13, True), operators.compress_24(w2, s2, False)
    torch.library.opcheck(operators.compress_24, (w13, s13, True))
    torch.library.opcheck(operators.decompress_24, (w2.clone(), s2.clone(), t2, False))
    arguments = (out, x, t13, g13, t2, g2, *routed[1:], None, "silu")
    torch.library.opcheck(torch.ops.dgx_vllm.moe_decode_24.default, arguments)


def test_a_compiled_graph_holds_the_operator_whole(
    w13: Nvfp4Tensor, w2: Nvfp4Tensor, routed: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    x, ids, weights = routed
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    def layer(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        torch.ops.dgx_vllm.moe_decode(out, x, *swizzled_13, *swizzled_2, ids, weights, None, [], None, "silu")
        return out

    swizzled_13, swizzled_2 = swizzled(w13), swizzled(w2)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=backend)
    assert torch.equal(compiled(x), layer(x))
    assert len([name for name in seen if "dgx_vllm.moe_decode" in name]) == 1


def test_without_a_library_it_says_where_it_looked(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("DGX_VLLM_KERNELS_LIBRARY", f"{tmp_path}/absent.so")
    with pytest.raises(NoLibraryError, match=r"there is no kernel library .*/absent\.so"):
        find()

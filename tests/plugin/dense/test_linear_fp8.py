"""The operator `linear_fp8`: on the CPU against float64, and what it calls on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.doctoring import cubin
from helpers.doctoring import library as made_of

pytest.importorskip("vllm")

from dgx_vllm.formats import fp8
from dgx_vllm.kernels import reference
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.plugin import device
from dgx_vllm.plugin.dense import common, fp8_linear
from dgx_vllm.plugin.dense.fp8_linear import linear_fp8, on_gpu

BF16 = 2.0**-8


def layer(rows: int, k: int, seed: int = 0, bias: bool = True) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    quantized = fp8.quantize(torch.randn(rows, k, generator=generator).bfloat16())
    offset = torch.randn(rows, generator=generator).bfloat16() if bias else None
    return quantized.weight, quantized.scale, offset


def activations(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16()


def expected(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> Any:
    """In float64, by numpy."""
    matrix = weight.double().numpy() * scale.double().numpy()
    return x.double().numpy() @ matrix.T + (0 if bias is None else bias.double().numpy())


@given(
    tokens=st.integers(0, 20),
    rows=st.integers(1, 9).map(lambda n: 16 * n),
    k=st.integers(1, 9).map(lambda n: 16 * n),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_on_the_cpu_it_is_the_product(tokens: int, rows: int, k: int, bias: bool, seed: int) -> None:
    held = layer(rows, k, seed, bias)
    x = activations(tokens, k)
    out = linear_fp8(x, *held)
    exact = expected(x, *held)
    assert out.dtype == torch.bfloat16
    np.testing.assert_allclose(out.double().numpy(), exact, rtol=BF16, atol=1e-4 * k**0.5)


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    held, x = layer(80, 64), activations(3, 64)
    whole = linear_fp8(x, *held)
    monkeypatch.setattr(reference, "_CHUNK", 3 * 64)
    torch.testing.assert_close(linear_fp8(x, *held), whole)


def test_leading_dimensions_are_kept() -> None:
    held, x = layer(32, 64), activations(2, 3, 64)
    flat = linear_fp8(x.view(6, 64), *held)
    assert torch.equal(linear_fp8(x, *held), flat.view(2, 3, 32))
    assert linear_fp8(x[:, :0], *held).shape == (2, 0, 32)


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_an_operator(bias: bool) -> None:
    """By PyTorch's own checks; that of the schema cannot compare FP8."""
    torch.library.opcheck(
        torch.ops.dgx_vllm.linear_fp8.default,
        (activations(3, 64), *layer(32, 64, bias=bias)),
        test_utils=("test_autograd_registration", "test_faketensor"),
    )


def test_compiled_it_is_one_node_for_any_number_of_tokens() -> None:
    held = layer(32, 64)
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append([node.target for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    compiled = torch.compile(lambda x: linear_fp8(x, *held), backend=backend, fullgraph=True, dynamic=True)
    for tokens in (2, MAX_TOKENS, MAX_TOKENS + 1, 40):
        x = activations(tokens, 64)
        assert torch.equal(compiled(x), linear_fp8(x, *held))
    assert len(graphs) == 1
    assert sum("linear_fp8" in str(target) for target in graphs[0]) == 1


class Calls:
    """What the CUDA implementation calls, in the place of our kernel and of vLLM's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[Any, ...]] = []
        monkeypatch.setattr(fp8_linear.calls, "linear_decode_fp8", self.decode)
        monkeypatch.setattr(fp8_linear._custom_ops, "scaled_fp8_quant", self.quantize)
        monkeypatch.setattr(fp8_linear._custom_ops, "cutlass_scaled_mm", self.multiply)

    def decode(self, out: torch.Tensor, x: torch.Tensor, *held: Any) -> None:
        self.made.append(("linear_decode_fp8", x, *held))
        out.copy_(reference.linear_fp8(x, *held))

    def quantize(
        self, x: torch.Tensor, *, use_per_token_if_dynamic: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert use_per_token_if_dynamic
        assert x.is_contiguous()
        scale = x.float().abs().amax(dim=1, keepdim=True) / 448
        return (x / scale).to(torch.float8_e4m3fn), scale

    def multiply(
        self, x: torch.Tensor, weight: torch.Tensor, token_scale: Any, scale: Any, dtype: Any, bias: Any
    ) -> torch.Tensor:
        self.made.append(("cutlass_scaled_mm", x, weight, scale, bias))
        return reference.linear_fp8(x.float() * token_scale, weight.t(), scale, bias).to(dtype)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.setattr(fp8_linear, "decode_refusal", lambda: None)
    return Calls(monkeypatch)


@pytest.mark.parametrize("tokens", [1, MAX_TOKENS, MAX_TOKENS + 1, 100])
def test_few_tokens_go_to_our_kernel_and_more_to_cutlass(calls: Calls, tokens: int) -> None:
    held, x = layer(48, 64), activations(tokens, 64)
    out = on_gpu(x, *held)
    (call,) = calls.made
    assert call[0] == ("linear_decode_fp8" if tokens <= MAX_TOKENS else "cutlass_scaled_mm")
    tolerance = 0.01 if tokens <= MAX_TOKENS else 0.06
    exact = expected(x, *held)
    assert np.linalg.norm(out.double().numpy() - exact) < tolerance * np.linalg.norm(exact)


def test_both_read_the_same_bytes(calls: Calls) -> None:
    """CUTLASS wants [k, rows] by columns: the transposed view of what the kernel reads."""
    weight, scale, bias = layer(48, 64)
    for tokens in (MAX_TOKENS, MAX_TOKENS + 1):
        on_gpu(activations(tokens, 64), weight, scale, bias)
    (_, _, decoded, *_), (_, _, multiplied, *_) = calls.made
    assert decoded.data_ptr() == multiplied.data_ptr() == weight.data_ptr()
    assert (multiplied.shape, multiplied.stride()) == ((64, 48), (1, 64))


def test_without_our_kernel_cutlass_takes_all(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp8_linear, "decode_refusal", lambda: "why")
    on_gpu(activations(1, 64), *layer(48, 64))
    assert [call[0] for call in calls.made] == ["cutlass_scaled_mm"]


def test_no_tokens_call_nothing(calls: Calls) -> None:
    assert on_gpu(activations(0, 64), *layer(48, 64)).shape == (0, 48)
    assert calls.made == []


def strided(tokens: torch.Tensor, gap: int, offset: int) -> torch.Tensor:
    """The same values, in rows that lie `gap` values apart and start `offset` values in."""
    rows, k = tokens.shape
    held = torch.full((rows * (k + gap) + offset,), float("nan"), dtype=tokens.dtype)
    view = torch.as_strided(held, (rows, k), (k + gap, 1), offset)
    view.copy_(tokens)
    return view


@pytest.mark.parametrize(
    ("gap", "offset", "copied"), [(0, 0, False), (8, 8, False), (4, 0, True), (0, 1, True)]
)
def test_the_kernel_gets_rows_that_it_can_fetch(calls: Calls, gap: int, offset: int, copied: bool) -> None:
    plain = activations(3, 64)
    x = strided(plain, gap, offset)
    if x.data_ptr() % 16 != 2 * offset % 16:
        pytest.skip("PyTorch gave memory that is not aligned")
    on_gpu(x, *layer(48, 64))
    ((_, fetched, *_),) = calls.made
    assert torch.equal(fetched, plain)
    assert (fetched.data_ptr() != x.data_ptr()) is copied
    assert fetched.data_ptr() % 16 == 0
    assert fetched.stride(0) % 8 == 0


@pytest.mark.parametrize(
    ("supported", "why"), [(True, None), (False, "vLLM's CUTLASS has no FP8 for this device")]
)
def test_a_gpu_needs_cutlass_for_fp8(
    on_gb10: None, supported: bool, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`on_gb10` tells vLLM's CPU build that it runs on one; the CUDA wheel's extension would answer."""
    monkeypatch.setattr(
        fp8_linear._custom_ops, "cutlass_scaled_mm_supports_fp8", {121: supported}.__getitem__
    )
    assert fp8_linear.refusal() == why


def test_our_kernel_is_for_its_gpus_and_needs_its_library(
    on_gb10: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = common.decode_refusal
    library = tmp_path / "libdgx_kernels.so"
    monkeypatch.setenv("DGX_VLLM_KERNELS_LIBRARY", str(library))
    refusal.cache_clear()
    assert refusal() == f"there is no kernel library {library}"
    library.write_bytes(made_of(cubin("sm_121a")))
    refusal.cache_clear()
    assert refusal() is None
    for content, reason in (
        (made_of(cubin("sm_90a")), "is for sm_90a, not sm_121a"),
        (made_of(), "is for no GPU, not sm_121a"),
        (b"", "cannot be read: cannot mmap an empty file"),
    ):
        library.write_bytes(content)
        device._architecture_mismatch.cache_clear()
        refusal.cache_clear()
        assert refusal() == f"the kernel library {library} {reason}"
    device._architecture_mismatch.cache_clear()
    from vllm import platforms
    from vllm.platforms.interface import DeviceCapability

    monkeypatch.setattr(
        type(platforms.current_platform),
        "get_device_capability",
        classmethod(lambda cls, device_id=0: DeviceCapability(12, 0)),
    )
    refusal.cache_clear()
    assert refusal() == "its kernels are for compute capability 12.1 (9.0 to verify), not 12.0"
    refusal.cache_clear()

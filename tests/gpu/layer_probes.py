"""Layers of a running engine, called as vLLM calls them and held against float64.

Weights are the layer's own, dequantized; of a checkpoint of 2:4 they are read from its file a second time, as
the layer holds them in tiles.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from job import Figure
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import silu

#: Of a layer's output in BF16 against float64, relative L2: the kernels' own (tests/kernels).
BOUND = 4e-3
_REPEATS = 3
#: An error that is no number, as JSON has none of these.
_NOT_FINITE = 1e30
#: The values of FP4's codes.
_E2M1 = (0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6)
#: Gate and up rows, and down, of an expert: float64.
Matrices = Callable[[int], tuple[Tensor, Tensor]]


def probe(model: torch.nn.Module, checkpoint: str | None) -> tuple[dict[str, str], list[Figure]]:
    """What a rank's worker is asked: `experts`, and `figures` if there is a checkpoint."""
    return experts(model), [] if checkpoint is None else list(figures(model, checkpoint))


def experts(model: torch.nn.Module) -> dict[str, str]:
    """What computes each layer's routed experts, by its class's name."""
    return {name: type(kernel.fused_experts).__name__ for name, _, kernel in _layers(model)}


def figures(model: torch.nn.Module, checkpoint: str) -> Iterator[Figure]:
    """Of a model's first layer of experts, and of one of each kind of linear layer that is ours."""
    from dgx_vllm.kernels import reference
    from dgx_vllm.plugin.dense.fp8_method import Fp8Method
    from dgx_vllm.plugin.dense.linear_backend import DecodeNvFp4LinearKernel
    from dgx_vllm.plugin.dense.nvfp4_method import Nvfp4Method
    from dgx_vllm.plugin.moe.experts import DecodeExperts
    from dgx_vllm.plugin.moe.shared_slot import kernel_of

    device = next(model.parameters()).device
    with torch.inference_mode():
        for name, layer, kernel in _layers(model):
            if isinstance(kernel.fused_experts, DecodeExperts):
                yield from _routed(name, layer, kernel, device, Path(checkpoint))
                break
        kinds = {name.rpartition(".")[2]: (name, module) for name, module in model.named_modules()}
        for name, module in kinds.values():
            method = getattr(module, "quant_method", None)
            if isinstance(method, Fp8Method):
                weight = module.weight.double() * module.weight_scale.double()
                yield from _linear(name, "FP8", module, weight, device)
            elif isinstance(method, Nvfp4Method) or (
                method is not None and isinstance(kernel_of(module), DecodeNvFp4LinearKernel)
            ):
                held = module.weight, module.weight_scale, module.weight_global_scale
                yield from _linear(name, "NVFP4", module, reference.weight(*held).double(), device)


def _layers(model: torch.nn.Module) -> Iterator[tuple[str, Any, Any]]:
    for name, module in model.named_modules():
        kernel = getattr(getattr(module, "quant_method", None), "moe_kernel", None)
        if kernel is not None:
            yield name, module, kernel


def _routed(name: str, layer: Any, kernel: Any, device: torch.device, checkpoint: Path) -> Iterator[Figure]:
    from dgx_vllm.plugin.moe.experts_24 import SparseExperts

    ours = kernel.fused_experts
    sparse = isinstance(ours, SparseExperts)
    matrices = _in_file(checkpoint, name, device) if sparse else _of_layer(layer, ours)
    count, hidden, top_k = (
        layer.w13_weight.shape[0],
        ours.moe_config.hidden_dim,
        ours.moe_config.experts_per_token,
    )
    # As of two ranks, of which this one holds the even experts.
    ids = torch.arange(count, device=device, dtype=torch.int32)
    mapped = torch.where(ids % 2 == 0, ids // 2, -1).to(torch.int32)
    # Beyond, on a GB10, vLLM's CUTLASS quantizes activations: another function.
    sizes = [tokens for tokens in (1, 4, 16, 17, 40) if tokens <= ours.max_tokens]
    cases = [("all experts", tokens, None, False) for tokens in sizes]
    cases += [("half of the experts", 4, mapped, False), ("weights on the input", 4, None, True)]
    slot = ours.shared
    for case, tokens, where, on_input in cases:
        ours.shared = None if on_input else slot  # beside a slot such weights are refused
        x, chosen, weights = _inputs(tokens, hidden, count, 1 if on_input else top_k, device)
        held = layer.w13_weight, layer.w2_weight
        call = partial(kernel.apply, x, *held, weights, chosen, layer.activation, count, where, on_input)
        scaled = (x * weights.to(x.dtype), torch.ones_like(weights)) if on_input else (x, weights)
        wanted = _sum(scaled[0], matrices, chosen, scaled[1], where)
        if ours.shared is not None:
            wanted += _shared(ours.shared, x)
        yield _compared(name, case, tokens, call, wanted)
        if sparse and case == "all experts" and tokens <= 16:
            dense = partial(_by_dense_kernel, layer, ours, x, chosen, weights)
            yield _compared(name, "moe_decode on them uncompressed", tokens, dense, wanted)
            yield _compared(name, "against moe_decode on them uncompressed", tokens, call, dense().double())
    ours.shared = slot


def _linear(name: str, case: str, module: Any, weight: Tensor, device: torch.device) -> Iterator[Figure]:
    for tokens in (1, 16):
        generator = torch.Generator(device).manual_seed(tokens)
        x = torch.randn(tokens, weight.shape[1], generator=generator, device=device, dtype=torch.bfloat16)
        call = partial(module.quant_method.apply, module, x)
        yield _compared(name, case, tokens, call, x.double() @ weight.T)


def _inputs(tokens: int, hidden: int, experts: int, top_k: int, device: torch.device) -> tuple[Tensor, ...]:
    """bfloat16 [tokens, hidden]; chosen experts, int32, and their weights, float32 [tokens, top_k]."""
    generator = torch.Generator(device).manual_seed(tokens)
    x = torch.randn(tokens, hidden, generator=generator, device=device, dtype=torch.bfloat16)
    chosen = torch.rand(tokens, experts, generator=generator, device=device).topk(top_k).indices
    weights = torch.rand(tokens, top_k, generator=generator, device=device)
    return x, chosen.to(torch.int32), weights / weights.sum(dim=1, keepdim=True)


def _sum(x: Tensor, matrices: Matrices, chosen: Tensor, weights: Tensor, where: Tensor | None) -> Tensor:
    """The routed experts' weighted sum, float64 [tokens, hidden], one slot after the other."""
    out = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    for token, row in enumerate(chosen.tolist()):
        for slot, asked in enumerate(row):
            expert = asked if where is None else int(where[asked])
            if expert >= 0:
                w13, w2 = matrices(expert)
                gate, up = (w13 @ x[token].double()).chunk(2)
                out[token] += weights[token, slot].double() * (w2 @ (silu(gate) * up))
    return out


def _shared(slot: Any, x: Tensor) -> Tensor:
    """What a shared expert in a slot of the kernel adds, float64 [tokens, hidden]."""
    from dgx_vllm.kernels import reference

    expert = slot.expert()
    tensors, gate = [tensor[0] for tensor in expert.weights.tensors], expert.gate
    w13, w2 = reference.weight(*tensors[:3]).double(), reference.weight(*tensors[3:]).double()
    gates, up = (x.double() @ w13.T).chunk(2, dim=1)
    out = (silu(gates) * up) @ w2.T
    return out if gate is None else out * (x.double() @ gate.double()).sigmoid()[:, None]


def _compared(name: str, case: str, tokens: int, call: Callable[[], Tensor], wanted: Tensor) -> Figure:
    first, *others = (call().clone() for _ in range(_REPEATS))
    error = (first.double() - wanted).norm() / wanted.norm()
    finite = float(error.nan_to_num(_NOT_FINITE, _NOT_FINITE))
    return Figure(name, case, tokens, finite, all(torch.equal(first, other) for other in others))


def _of_layer(layer: Any, ours: Any) -> Matrices:
    from dgx_vllm.kernels import reference

    def matrices(expert: int) -> tuple[Tensor, Tensor]:
        w13 = reference.weight(layer.w13_weight[expert], ours.w1_scale[expert], ours.w13_global[expert])
        w2 = reference.weight(layer.w2_weight[expert], ours.w2_scale[expert], ours.w2_global[expert])
        return w13.double(), w2.double()

    return matrices


def _in_file(checkpoint: Path, layer: str, device: torch.device) -> Matrices:
    """A layer's experts as a checkpoint in one file has them, by the definition of its format."""
    prefix = layer.partition(".experts")[0]
    held = load_file(checkpoint / "model.safetensors", device=str(device))
    values = torch.tensor(_E2M1, dtype=torch.float64, device=device)

    def matrix(expert: int, leaf: str) -> Tensor:
        name = f"{prefix}.experts.{expert}.{leaf}_proj.weight"
        codes = torch.stack([held[name] & 15, held[name] >> 4], dim=-1).flatten(1)
        scale = held[f"{name}_scale"].double().repeat_interleave(16, dim=1)
        return values[codes.long()] * scale * held[f"{name}_scale_2"].double()

    def matrices(expert: int) -> tuple[Tensor, Tensor]:
        return torch.cat([matrix(expert, leaf) for leaf in ("gate", "up")]), matrix(expert, "down")

    return matrices


def _by_dense_kernel(layer: Any, ours: Any, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """`moe_decode` on the layer's weights, uncompressed."""
    from dgx_vllm.kernels.moe_layer import ExpertWeights, Routing
    from dgx_vllm.kernels.operators import decompress_24, moe_decode

    def uncompressed(compressed: Tensor, halves: bool) -> tuple[Tensor, Tensor]:
        experts, rows, columns = compressed.shape[0], compressed.shape[1] * 16, compressed.shape[2] * 256
        packed = x.new_empty(experts, rows, columns // 2, dtype=torch.uint8)
        scale = x.new_empty(experts, rows, columns // 16, dtype=torch.float8_e4m3fn)
        decompress_24(packed, scale, compressed, halves)
        return packed, scale

    out = torch.full_like(x, float("nan"))
    w13, w2 = uncompressed(layer.w13_weight, True), uncompressed(layer.w2_weight, False)
    routed = ExpertWeights(*w13, ours.w13_global, *w2, ours.w2_global)
    moe_decode(out, x, routed, Routing(chosen, weights), None, "silu")
    return out

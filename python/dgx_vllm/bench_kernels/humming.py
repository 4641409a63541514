"""Humming, called as vLLM 0.32 calls it for NVFP4 (fused_moe/experts/fused_humming_moe.py, indexed experts).

It is what stock vLLM takes on compute capability 9.0, for MoE and dense layers alike, with BF16 activations.
Its kernels are compiled by NVRTC when a layer is first run. A layer is: align, GEMM, SiLU and product (its
own kernel), GEMM, sum weighted by the router. Its shared expert is two dense products.
"""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from dgx_vllm.bench_kernels import shared_expert_overlap, vllm_modules
from dgx_vllm.bench_kernels.align import Alignment
from dgx_vllm.bench_kernels.implementation import Case, Layer, Unavailable
from dgx_vllm.bench_kernels.layer_inputs import Inputs
from dgx_vllm.bench_kernels.random_experts import Weights
from dgx_vllm.bench_kernels.shapes import Moe

# What vLLM pads to (quantization/utils/humming/moe.py, linear.py).
_ROWS, _COLUMNS = 256, 128
_LOCKS_PER_MULTIPROCESSOR = 8
_SCHEMA = {"quant_method": "modelopt", "quant_algo": "nvfp4"}
_SETTINGS = {"use_batch_invariant": False, "use_f16_accum": False}
#: Of a gate's value a and an up value b, in Humming's kernel.
_SILU = {"activation_type": "binary_split", "activation_impl": "a / (1.f + expf(-a)) * b"}

#: (rows above, rows up to, settings) of each of Humming's choices.
Tuning = list[tuple[int, int, dict[str, Any]]]


def among(tuning: Tuning, sizes: Iterable[int]) -> Tuning:
    """The choices for these numbers of rows; vLLM compiles the others too, for sizes not measured here."""
    return [choice for choice in tuning if any(choice[0] < size <= choice[1] for size in sizes)]


def block(tuning: Tuning, size: int) -> int:
    """The rows of a block that the choice for `size` rows works on; vLLM's 64 where there is none."""
    return next((choice[2]["block_shape"][0] for choice in tuning if choice[0] < size <= choice[1]), 64)


class Matrices:
    """One matrix of each expert, or a single one, in Humming's layout.

    Args:
        weight: uint8 [experts, n, k / 2] or [n, k / 2].
        scale: E4M3 bytes, [..., n, k / 16].
        global_scale: float32 [experts] or [1].
        parts: how many matrices lie behind one another in n.
        sizes: the numbers of rows that will be multiplied.
    """

    def __init__(
        self, weight: Tensor, scale: Tensor, global_scale: Tensor, parts: int, sizes: Iterable[int]
    ) -> None:
        from humming.schema import BaseWeightSchema, HummingInputSchema
        from humming.transform import prepare_and_transform_humming_tensors
        from humming.tune import get_heuristics_config

        experts = weight.shape[0] if weight.dim() == 3 else None
        n, k = weight.shape[-2], weight.shape[-1] * 2
        schema, tensors = BaseWeightSchema.from_config(_SCHEMA).convert_humming(
            tensors={"weight": weight, "weight_scale": scale, "weight_scale_2": global_scale},
            shape_n_stacks=[n // parts] * parts,
            shape_k_stacks=[k],
            param_dtype=torch.bfloat16,
            num_experts=experts,
        )
        self.config, self.tensors = prepare_and_transform_humming_tensors(
            tensors=tensors,
            shape_n=n,
            shape_k=k,
            weight_schema=schema,
            input_schema=HummingInputSchema(),
            num_experts=experts,
            pad_n_to_multiple=_ROWS,
            pad_k_to_multiple=_COLUMNS,
            torch_dtype=torch.bfloat16,
            device=weight.device,
        )
        kind = "indexed" if experts else "dense"
        chosen = get_heuristics_config(layer_config=self.config, gemm_type=kind, **_SETTINGS)
        self.n, self.k = n, k
        self.tuning = among(chosen, sizes)
        self.device = weight.device
        self.settings = {
            "compute_config": json.dumps({**_SETTINGS, "gemm_type": kind}),
            "tuning_config": json.dumps(self.tuning),
        }

    def compile(self) -> None:
        """Compiles its kernels, which the first product would do otherwise."""
        from humming.kernel.humming import HummingKernel

        HummingKernel.prepare_kernels(self.config.to_str(), **self.settings, device=self.device)

    def multiply(self, x: Tensor, out: Tensor, locks: Tensor, **more: Any) -> None:
        """out = x @ matrix, bfloat16."""
        from humming.forward import humming_forward

        humming_forward(
            self.config,
            inputs=x,
            weight=self.tensors["weight"],
            weight_scale=self.tensors["weight_scale"],
            weight_scale_2=self.tensors["weight_scale_2"],
            outputs=out,
            locks=locks,
            **self.settings,
            **more,
        )


def locks(device: torch.device) -> Tensor:
    """Humming's workspace; products that run at the same time need one each."""
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    return torch.zeros(multiprocessors * _LOCKS_PER_MULTIPROCESSOR, dtype=torch.int32, device=device)


class Routed:
    """The routed experts of one layer."""

    def __init__(self, gate_up: Matrices, down: Matrices, experts: int, inputs: Inputs) -> None:
        self.gate_up, self.down, self.inputs, self.locks = gate_up, down, inputs, locks(inputs.x.device)
        (tokens, hidden), self.slots = inputs.x.shape, inputs.ids.numel()
        first, second = (block(matrices.tuning, self.slots) for matrices in (gate_up, down))
        self.alignments = [Alignment(inputs.ids, experts, first)]
        if second != first:
            self.alignments.append(Alignment(inputs.ids, experts, second))
        self.both = inputs.x.new_empty(self.slots, gate_up.n)
        self.hidden = inputs.x.new_empty(self.slots, down.k)
        self.products, self.out = inputs.x.new_empty(self.slots, hidden), inputs.x.new_empty(tokens, hidden)

    def multiply(self, matrices: Matrices, x: Tensor, out: Tensor, a: Alignment, top_k: int) -> None:
        matrices.multiply(
            x,
            out,
            self.locks,
            sorted_ids=a.sorted,
            expert_ids=a.experts,
            num_tokens_padded=a.padded,
            top_k=top_k,
            valid_shape_m=self.slots,
        )

    def __call__(self) -> Tensor:
        from humming.forward import may_process_input

        from dgx_vllm.bench_kernels.weighted_sum import weighted_sum

        tokens, top_k = self.inputs.ids.shape
        for alignment in self.alignments:
            alignment()
        self.multiply(self.gate_up, self.inputs.x, self.both, self.alignments[0], top_k)
        may_process_input(self.down.config, inputs=self.both, outputs=self.hidden, **_SILU)
        self.multiply(self.down, self.hidden, self.products, self.alignments[-1], 1)
        weighted_sum(self.products.view(tokens, top_k, -1), self.inputs.weights, self.out)
        return self.out


class Shared:
    """The shared expert of one layer."""

    def __init__(self, gate_up: Matrices, down: Matrices, x: Tensor) -> None:
        self.gate_up, self.down, self.x, self.locks = gate_up, down, x, locks(x.device)
        tokens = x.shape[0]
        self.both, self.hidden = x.new_empty(tokens, gate_up.n), x.new_empty(tokens, down.k)
        self.out = x.new_empty(tokens, down.n)

    def __call__(self) -> Tensor:
        self.gate_up.multiply(self.x, self.both, self.locks)
        torch.ops._C.silu_and_mul(self.hidden, self.both)
        self.down.multiply(self.hidden, self.out, self.locks)
        return self.out


class Prepared:
    def __init__(self, weights: Weights, shape: Moe, tokens: Sequence[int]) -> None:
        self.weights = weights
        self.expert_bytes, self.shared_bytes = weights.routed.bytes_each, weights.shared.bytes_each
        e, s = weights.routed, weights.shared
        # The first product is chosen by the number of tokens in its input, or by their slots.
        slots = [*tokens, *(count * shape.top_k for count in tokens)]
        self.routed = Matrices(e.w13, e.s13, e.g13, 2, slots), Matrices(e.w2, e.s2, e.g2, 1, slots)
        self.shared = (
            Matrices(s.w13[0], s.s13[0], s.g13, 2, tokens),
            Matrices(s.w2[0], s.s2[0], s.g2, 1, tokens),
        )
        with ThreadPoolExecutor() as pool:
            list(pool.map(Matrices.compile, (*self.routed, *self.shared)))

    def layers(self, case: Case, inputs: Inputs) -> Sequence[Layer]:
        if not case.swizzled:  # of our scales alone
            return []
        shared = (lambda: Shared(*self.shared, inputs.x)) if case.shared else None
        return shared_expert_overlap.ways(
            lambda: Routed(*self.routed, self.weights.routed.count, inputs), shared, inputs.logits
        )


class Humming:
    """The package humming-kernels, with vLLM's alignment."""

    name = "Humming"
    tolerance = 2e-2

    def __init__(self) -> None:
        vllm_modules.load()
        try:
            import humming  # noqa: F401
            import triton  # noqa: F401
        except Exception as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error

    def kernel(self, case: Case) -> str:
        return f"{self.name}, {case.name}"

    def prepare(self, weights: Weights, shape: Moe, tokens: Sequence[int]) -> Prepared:
        return Prepared(weights, shape, tokens)

"""Layers: the tensors of one attention, GDN, Mamba 2, MLP or MoE layer. Matrices are [outputs, inputs]."""

from collections.abc import Iterator
from dataclasses import dataclass

from dgx_vllm.plan.architecture import Tensor


def linear(name: str, outputs: int, inputs: int, bias: bool = False, copies: int = 1) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (outputs, inputs), copies, linear=True)
    if bias:
        yield Tensor(f"{name}.bias", (outputs,), copies)


@dataclass(frozen=True)
class AttentionShape:
    """Full attention.

    Args:
        hidden: the input's width.
        heads: query heads.
        kv_heads: key/value heads.
        head_size: numbers in a head.
        gated: whether q_proj yields a gate with each query (Qwen3-Next, Qwen3.5).
        qkv_bias, out_bias: biases.
        norms: whether queries and keys are normalized, head by head.
        sinks: whether each head has a sink (gpt-oss).
    """

    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    gated: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    norms: bool = False
    sinks: bool = False

    @property
    def widest(self) -> int:
        """Outputs of the q, k and v projections."""
        return (self.heads * (2 if self.gated else 1) + 2 * self.kv_heads) * self.head_size

    def tensors(self, prefix: str) -> Iterator[Tensor]:
        queries = self.heads * self.head_size * (2 if self.gated else 1)
        keys = self.kv_heads * self.head_size
        yield from linear(f"{prefix}.q_proj", queries, self.hidden, self.qkv_bias)
        yield from linear(f"{prefix}.k_proj", keys, self.hidden, self.qkv_bias)
        yield from linear(f"{prefix}.v_proj", keys, self.hidden, self.qkv_bias)
        yield from linear(f"{prefix}.o_proj", self.hidden, self.heads * self.head_size, self.out_bias)
        if self.norms:
            yield Tensor(f"{prefix}.q_norm.weight", (self.head_size,))
            yield Tensor(f"{prefix}.k_norm.weight", (self.head_size,))
        if self.sinks:
            yield Tensor(f"{prefix}.sinks", (self.heads,))


@dataclass(frozen=True)
class DeltaNetShape:
    """A Gated DeltaNet layer.

    Args:
        hidden: the input's width.
        key_heads, value_heads, key_size, value_size: heads and the numbers in each.
        kernel: width of the short convolution.
        split: whether the checkpoint holds the input projections apart (Qwen3.5) or fused (Qwen3-Next).
    """

    hidden: int
    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    kernel: int
    split: bool

    @property
    def channels(self) -> int:
        return 2 * self.key_heads * self.key_size + self.value_heads * self.value_size

    @property
    def values(self) -> int:
        return self.value_heads * self.value_size

    @property
    def widest(self) -> int:
        return self.channels + self.values

    def tensors(self, prefix: str) -> Iterator[Tensor]:
        if self.split:
            projections = {
                "qkv": self.channels,
                "z": self.values,
                "b": self.value_heads,
                "a": self.value_heads,
            }
        else:
            projections = {"qkvz": self.channels + self.values, "ba": 2 * self.value_heads}
        for name, outputs in projections.items():
            yield from linear(f"{prefix}.in_proj_{name}", outputs, self.hidden)
        yield Tensor(f"{prefix}.conv1d.weight", (self.channels, 1, self.kernel))
        yield Tensor(f"{prefix}.A_log", (self.value_heads,))
        yield Tensor(f"{prefix}.dt_bias", (self.value_heads,))
        yield Tensor(f"{prefix}.norm.weight", (self.value_size,))
        yield from linear(f"{prefix}.out_proj", self.hidden, self.values)


@dataclass(frozen=True)
class MambaShape:
    """A Mamba 2 layer as Nemotron-H has it.

    Args:
        hidden: the input's width.
        heads, head_size: heads and the numbers in each.
        groups, state_size: groups that share B and C, and the numbers in each.
        kernel: width of the short convolution.
        bias, conv_bias: biases.
    """

    hidden: int
    heads: int
    head_size: int
    groups: int
    state_size: int
    kernel: int
    bias: bool
    conv_bias: bool

    @property
    def inner(self) -> int:
        return self.heads * self.head_size

    @property
    def channels(self) -> int:
        return self.inner + 2 * self.groups * self.state_size

    @property
    def widest(self) -> int:
        return self.inner + self.channels + self.heads

    def tensors(self, prefix: str) -> Iterator[Tensor]:
        yield from linear(f"{prefix}.in_proj", self.widest, self.hidden, self.bias)
        yield Tensor(f"{prefix}.conv1d.weight", (self.channels, 1, self.kernel))
        if self.conv_bias:
            yield Tensor(f"{prefix}.conv1d.bias", (self.channels,))
        for name in ("A_log", "D", "dt_bias"):
            yield Tensor(f"{prefix}.{name}", (self.heads,))
        yield Tensor(f"{prefix}.norm.weight", (self.inner,))
        yield from linear(f"{prefix}.out_proj", self.hidden, self.inner, self.bias)


@dataclass(frozen=True)
class MlpShape:
    """A feed-forward block: SwiGLU with gate, up and down, or up and down alone.

    Args:
        hidden: input and output width.
        inner: the width between.
        gated: whether there is a gate.
        bias: biases.
        names: the matrices' names, gate (if any), up, down.
    """

    hidden: int
    inner: int
    gated: bool = True
    bias: bool = False
    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")

    def tensors(self, prefix: str, copies: int = 1) -> Iterator[Tensor]:
        *into, out = self.names if self.gated else self.names[1:]
        for name in into:
            yield from linear(f"{prefix}.{name}", self.inner, self.hidden, self.bias, copies)
        yield from linear(f"{prefix}.{out}", self.hidden, self.inner, self.bias, copies)


@dataclass(frozen=True)
class MoeShape:
    """Routed experts with their router, and a shared expert where there is one.

    Args:
        expert: one routed expert.
        experts: how many of them.
        per_token: of which a token uses so many.
        router: the router's name, with a bias if `router_bias`.
        fused: whether the checkpoint holds all experts in one tensor per matrix (gpt-oss).
        shared: the shared expert and its name.
        shared_gate: whether the shared expert has a gate of its own.
        correction: whether the router has a bias of its own for load balancing (Nemotron-H).
        hidden: the router's input width, None where it is the experts'.
    """

    expert: MlpShape
    experts: int
    per_token: int
    router: str = "gate"
    router_bias: bool = False
    fused: bool = False
    shared: tuple[str, MlpShape] | None = None
    shared_gate: bool = False
    correction: bool = False
    hidden: int | None = None

    @property
    def widest(self) -> int:
        """Activations of the experts that one token uses."""
        return self.per_token * (2 * self.expert.inner + self.expert.hidden)

    def tensors(self, prefix: str) -> Iterator[Tensor]:
        hidden = self.hidden or self.expert.hidden
        yield from linear(f"{prefix}.{self.router}", self.experts, hidden, self.router_bias)
        if self.correction:
            yield Tensor(f"{prefix}.{self.router}.e_score_correction_bias", (self.experts,))
        if self.fused:
            yield from self._fused(prefix)
        else:
            yield from self.expert.tensors(f"{prefix}.experts.0", self.experts)
        if self.shared:
            name, shape = self.shared
            yield from shape.tensors(f"{prefix}.{name}")
        if self.shared_gate:
            yield from linear(f"{prefix}.shared_expert_gate", 1, hidden)

    def _fused(self, prefix: str) -> Iterator[Tensor]:
        hidden, inner = self.expert.hidden, self.expert.inner
        for name, outputs, inputs in (("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)):
            yield Tensor(f"{prefix}.experts.{name}", (outputs, inputs), self.experts, linear=True)
            if self.expert.bias:
                yield Tensor(f"{prefix}.experts.{name}_bias", (outputs,), self.experts)

"""Implementations of a MoE layer, ours and peers': what `moe.measure` asks of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from dgx_vllm.bench_kernels.layer_inputs import Inputs
from dgx_vllm.bench_kernels.random_experts import Weights
from dgx_vllm.bench_kernels.shapes import Moe

Layer = Callable[[], Tensor]


class Unavailable(Exception):  # noqa: N818 - not an error of the benchmark: it goes on without the peer
    """An implementation cannot run here; the message says why, in one line."""


@dataclass(frozen=True)
class Case:
    """How a layer is used.

    Attributes:
        name: as rows call it.
        overlap: tokens may share experts; else every slot has one of its own.
        shared: the shared expert counts too.
        swizzled: scales in the 128x4 layout, for implementations that read the checkpoint's.
    """

    name: str
    overlap: bool = False
    shared: bool = False
    swizzled: bool = True


CASES = (
    Case("routed"),
    Case("routed, linear scales", swizzled=False),
    Case("routed + shared", shared=True),
    Case("routed, overlapping", overlap=True),
)


class Prepared(Protocol):
    """A layer's weights, as an implementation wants them."""

    @property
    def weights(self) -> Weights | None:
        """What the layer computes with, to check it against; None where it computes nothing."""

    @property
    def expert_bytes(self) -> int:
        """Of one routed expert."""

    @property
    def shared_bytes(self) -> int:
        """Of the shared one."""

    def layers(self, case: Case, inputs: Inputs) -> Sequence[Layer]:
        """The ways to run the case, of which the fastest counts; none where it does not apply.

        A layer returns bfloat16 [tokens, hidden] and keeps alive what it needs: graphs hold addresses.
        """


class Implementation(Protocol):
    """One way to compute a MoE layer."""

    name: str
    #: The relative L2 error against float64 that is accepted.
    tolerance: float

    def kernel(self, case: Case) -> str:
        """What its rows are called."""

    def prepare(self, weights: Weights, shape: Moe, tokens: Sequence[int]) -> Prepared:
        """The weights for layers of these numbers of tokens."""

"""moe_decode and moe_decode_24, emulated, against float64."""

import ctypes
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from formats import aligned, bf16, dequantize, from_bf16, keep_two, pointer, swizzle

GATES = ["silu", "gelu_tanh", "gelu"]


@dataclass
class Case:
    tokens: int = 1
    hidden: int = 256
    intermediate: int = 128
    experts: int = 6
    top_k: int = 3
    shared: int = 0  # its intermediate size
    swizzled: bool = False
    sparse: bool = False  # 2:4, in tiles made of these scales
    up_first: bool = False
    globals13: int = 1
    weight_on_input: bool = False
    gate: str = "silu"
    mapped: bool = False
    duplicates: bool = False
    shared_gate: bool = False
    scales: str = "usual"
    seed: int = 0
    special: dict = field(default_factory=dict)


@dataclass
class Weights:
    w13: np.ndarray
    s13: np.ndarray
    g13: np.ndarray
    w2: np.ndarray
    s2: np.ndarray
    g2: np.ndarray


def draw_weights(case: Case, rng: np.random.Generator, experts: int, intermediate: int) -> Weights:
    def scales(*shape: int) -> np.ndarray:
        if case.scales == "extreme":
            return rng.choice(np.array([0x00, 0x01, 0x07, 0x08, 0x38, 0x7E], np.uint8), shape)
        return rng.integers(0x30, 0x60, shape, np.uint8)

    i, h = intermediate, case.hidden
    globals13 = (rng.random((experts, case.globals13)) + 0.5).astype(np.float32) / (8 * math.sqrt(h))

    def codes(*shape: int) -> np.ndarray:
        drawn = rng.integers(0, 256, shape, np.uint8)
        return keep_two(drawn, rng) if case.sparse else drawn

    return Weights(
        codes(experts, 2 * i, h // 2), scales(experts, 2 * i, h // 16), globals13,
        codes(experts, h, i // 2), scales(experts, h, i // 16),
        (rng.random(experts) + 0.5).astype(np.float32) / (8 * math.sqrt(i)),
    )  # fmt: skip


def activate(gate: str, x: np.ndarray) -> np.ndarray:
    if gate == "silu":
        with np.errstate(over="ignore"):
            return x / (1 + np.exp(-x))
    if gate == "gelu_tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def expert_output(
    case: Case, w: Weights, e: int, x: np.ndarray, on_input: float, on_hidden: float = 1.0
) -> np.ndarray:
    intermediate = w.w2.shape[2] * 2
    both = dequantize(w.w13[e], w.s13[e]) @ x * on_input
    first, second = both[:intermediate], both[intermediate:]
    gate, up = (second, first) if case.up_first else (first, second)
    gate, up = gate * w.g13[e, 0], up * w.g13[e, -1]
    # The layer keeps it in BF16, as vLLM's does.
    hidden = from_bf16(bf16(activate(case.gate, gate) * up * on_hidden))
    return dequantize(w.w2[e], w.s2[e]) @ hidden * w.g2[e]


class ExpertsC(ctypes.Structure):
    _fields_ = (
        [(n, ctypes.c_void_p) for n in ("w13", "s13", "g13", "w2", "s2", "g2")]
        + [(n, ctypes.c_int) for n in ("intermediate", "globals13", "swizzled", "up_first", "sparse")]
    )  # fmt: skip


def in_tiles(
    emulated: ctypes.CDLL, packed: np.ndarray, scales: np.ndarray, halves: bool, swizzled: bool
) -> np.ndarray:
    """By the kernel, of which test_sparse24 shows that it is right."""
    experts, rows, half_k = packed.shape
    out, count = (
        aligned(np.empty((experts, rows // 16, half_k // 128, 1792), np.uint8)),
        aligned(np.zeros(experts, np.int32)),
    )
    held = aligned(packed), aligned(scales)
    emulated.compress_24(
        *map(ctypes.c_void_p, map(pointer, (out, count, *held))), experts, rows, 2 * half_k, halves, swizzled
    )
    assert not count.any()
    return out


def as_c(emulated: ctypes.CDLL, case: Case, w: Weights, keep: list) -> ExpertsC:
    s13, s2 = (swizzle(w.s13), swizzle(w.s2)) if case.swizzled else (w.s13, w.s2)
    if case.sparse:
        w13 = in_tiles(emulated, w.w13, s13, True, case.swizzled)
        w2 = in_tiles(emulated, w.w2, s2, False, case.swizzled)
        arrays = [w13, None, aligned(w.g13), w2, None, aligned(w.g2)]
    else:
        arrays = [aligned(a) for a in (w.w13, s13, w.g13, w.w2, s2, w.g2)]
    keep += arrays
    return ExpertsC(
        *map(pointer, arrays), w.w2.shape[2] * 2, case.globals13, case.swizzled, case.up_first, case.sparse
    )


def run(emulated: ctypes.CDLL, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's output and the reference's."""
    rng = np.random.default_rng(case.seed)
    m, h, k = case.tokens, case.hidden, case.top_k
    routed = draw_weights(case, rng, case.experts, case.intermediate)
    shared = draw_weights(case, rng, 1, case.shared) if case.shared else None
    stride = h + 64
    x = aligned(np.full((m, stride), 0x7FC0, np.uint16))
    x[:, :h] = bf16(rng.standard_normal((m, h)))
    for at, value in case.special.items():
        x[at] = bf16(np.array([value], np.float32))[0]
    map_size = case.experts * 2 if case.mapped else case.experts
    expert_map = None
    if case.mapped:
        expert_map = np.full(map_size, -1, np.int32)
        expert_map[rng.choice(map_size, case.experts, replace=False)] = rng.permutation(case.experts)
    ids = np.stack([rng.choice(map_size, k, replace=case.duplicates) for _ in range(m)]).astype(np.int32)
    if case.mapped:
        ids[rng.random(ids.shape) < 0.1] = -1
    weights = rng.random((m, k)).astype(np.float32)
    shared_gate = aligned(bf16(rng.standard_normal(h) * 2 / h**0.5)) if case.shared_gate else None

    expected = np.zeros((m, h))
    with np.errstate(invalid="ignore"):
        for t in range(m):
            xt = from_bf16(x[t, :h])
            for j in range(k):
                e = ids[t, j] if expert_map is None or ids[t, j] < 0 else expert_map[ids[t, j]]
                if e < 0:
                    continue
                on_input, on_output = (weights[t, j], 1.0) if case.weight_on_input else (1.0, weights[t, j])
                expected[t] += on_output * expert_output(case, routed, e, xt, on_input)
            if shared is not None:
                factor = 1.0
                if shared_gate is not None:
                    factor = 1 / (1 + np.exp(-(from_bf16(shared_gate).astype(np.float64) @ xt)))
                expected[t] += expert_output(case, shared, 0, xt, 1.0, factor)

    keep: list = []
    ids, weights, expert_map = (
        aligned(ids),
        aligned(weights),
        None if expert_map is None else aligned(expert_map),
    )
    out = aligned(np.full((m, h), 0x7FC0, np.uint16))
    hidden_states = aligned(np.full(m * (k * case.intermediate + case.shared), 0x7FC0, np.uint16))
    shared_c = ctypes.byref(as_c(emulated, case, shared, keep)) if shared is not None else None
    error = emulated.moe_decode(
        ctypes.byref(as_c(emulated, case, routed, keep)), shared_c, *map(ctypes.c_void_p, map(pointer, (
            x, ids, weights, expert_map, shared_gate, hidden_states, out))),
        ctypes.c_int64(stride), m, k, h, case.experts, map_size, GATES.index(case.gate), case.weight_on_input,
    )  # fmt: skip
    assert error == 0
    return from_bf16(out), expected


def assert_close(out: np.ndarray, expected: np.ndarray) -> None:
    assert np.isfinite(out).all()
    error = np.linalg.norm(out - expected) / np.linalg.norm(expected)
    assert error < 3e-3, f"relative L2 {error:.2e}"


def assert_close_or_zero(out: np.ndarray, expected: np.ndarray) -> None:
    if np.abs(expected).max() == 0:  # every expert elsewhere
        assert (out == 0).all()
    else:
        assert_close(out, expected)


CASES = {
    "one token": Case(),
    "shared expert": Case(shared=128),
    "shared expert of another size": Case(tokens=2, shared=320, shared_gate=True),
    "shared gate": Case(shared=64, shared_gate=True),
    "swizzled": Case(swizzled=True),
    "swizzled, sizes not whole tiles": Case(swizzled=True, hidden=192, intermediate=64, tokens=2),
    "swizzled, several tokens": Case(swizzled=True, tokens=5, experts=4, shared=128),
    "up first": Case(up_first=True, globals13=2),
    "two globals": Case(globals13=2),
    "half a chunk": Case(hidden=192, intermediate=192, tokens=3),
    "one half only": Case(hidden=64, intermediate=64, top_k=1),
    "long rows": Case(hidden=1280, intermediate=64, top_k=1, experts=2, tokens=2),
    "longer rows, of two warps": Case(
        swizzled=True, hidden=2368, intermediate=64, shared=64, top_k=1, experts=2, tokens=3
    ),
    "the longest rows": Case(hidden=16384, intermediate=64, top_k=1, experts=2, tokens=3),
    "one token, long rows": Case(
        hidden=1280, intermediate=64, shared=128, shared_gate=True, top_k=1, experts=2
    ),
    "long intermediate": Case(hidden=64, intermediate=1472, top_k=2, experts=2, tokens=2),
    "eight tokens sharing experts": Case(tokens=8, experts=5),
    "sixteen tokens": Case(tokens=16, experts=4, top_k=2, hidden=128, intermediate=64, shared=64),
    "nine tokens, experts of either half": Case(tokens=9, experts=12, top_k=2, hidden=128, intermediate=192),
    "duplicates within a token": Case(
        tokens=4, experts=3, top_k=4, duplicates=True, hidden=128, intermediate=64
    ),
    "one token, duplicates": Case(tokens=1, experts=2, top_k=4, duplicates=True, hidden=128, intermediate=64),
    "experts elsewhere": Case(tokens=6, mapped=True, hidden=128, intermediate=64),
    "weight on input": Case(tokens=2, weight_on_input=True, top_k=1, shared=64),
    "gelu": Case(gate="gelu", hidden=128),
    "gelu_tanh": Case(gate="gelu_tanh", hidden=128),
    "swizzled, whole stages": Case(
        swizzled=True, hidden=256, intermediate=256, tokens=5, shared=256, top_k=2
    ),
    "four tokens of too many slots for the direct kernels": Case(
        swizzled=True, hidden=256, intermediate=256, tokens=4, experts=9, top_k=9
    ),
    "linear, whole stages": Case(hidden=512, intermediate=256, tokens=5, experts=2, top_k=2),
    "swizzled, up rows astride tiles": Case(
        swizzled=True, hidden=256, intermediate=192, shared=64, up_first=True
    ),
    "extreme scales": Case(scales="extreme", tokens=2),
    "direct, swizzled": Case(swizzled=True, hidden=512, intermediate=256, top_k=2, shared=512, up_first=True),
    "direct, linear, two globals": Case(hidden=256, intermediate=512, top_k=2, tokens=2, globals13=2),
    "direct, two warps a slot": Case(swizzled=True, intermediate=768, shared=256, top_k=2, shared_gate=True),
    "direct, experts elsewhere": Case(tokens=2, intermediate=256, mapped=True, experts=3, top_k=3),
    "direct, duplicates": Case(tokens=2, intermediate=256, experts=2, top_k=4, duplicates=True),
    "direct, weight on input": Case(intermediate=256, weight_on_input=True, top_k=1, shared=256),
    "direct, extreme scales": Case(scales="extreme", intermediate=256, swizzled=True),
    "direct, four tokens sharing experts": Case(
        tokens=4, intermediate=256, experts=4, top_k=3, shared=256, shared_gate=True
    ),
    "direct, as many slots as they take": Case(swizzled=True, tokens=4, intermediate=256, experts=8, top_k=8),
    "2:4": Case(sparse=True, intermediate=256, tokens=5),
    "2:4, shared expert": Case(
        sparse=True, intermediate=256, shared=512, tokens=5, shared_gate=True, top_k=2
    ),
    "2:4, long rows": Case(
        sparse=True, hidden=2304, intermediate=256, top_k=1, experts=2, tokens=5, globals13=2
    ),
    "2:4, long intermediate": Case(sparse=True, intermediate=1536, top_k=2, experts=2, tokens=5),
    "2:4, sixteen tokens sharing experts": Case(sparse=True, tokens=16, experts=3, top_k=2, intermediate=256),
    "2:4, duplicates within a token": Case(
        sparse=True, tokens=5, experts=3, top_k=4, duplicates=True, intermediate=256
    ),
    "2:4, experts elsewhere": Case(sparse=True, tokens=6, mapped=True, intermediate=256),
    "2:4, weight on input": Case(
        sparse=True, tokens=5, weight_on_input=True, top_k=1, shared=256, intermediate=256
    ),
    "2:4, gelu": Case(sparse=True, gate="gelu", intermediate=256, experts=3, tokens=5, top_k=2),
    "2:4, extreme scales": Case(
        sparse=True, scales="extreme", tokens=5, intermediate=256, experts=3, top_k=2
    ),
    "2:4, of swizzled scales": Case(
        sparse=True, swizzled=True, intermediate=256, experts=3, tokens=5, top_k=2
    ),
    "2:4, direct": Case(sparse=True, hidden=512, intermediate=256, top_k=2, shared=512),
    "2:4, direct, two globals": Case(sparse=True, intermediate=512, top_k=2, tokens=2, globals13=2),
    "2:4, direct, two warps a slot": Case(
        sparse=True, intermediate=768, shared=256, top_k=2, shared_gate=True
    ),
    "2:4, direct, experts elsewhere": Case(
        sparse=True, tokens=2, intermediate=256, mapped=True, experts=3, top_k=3
    ),
    "2:4, direct, duplicates": Case(
        sparse=True, tokens=2, intermediate=256, experts=2, top_k=4, duplicates=True
    ),
    "2:4, direct, weight on input": Case(
        sparse=True, intermediate=256, weight_on_input=True, top_k=1, shared=256
    ),
    "2:4, direct, extreme scales": Case(sparse=True, scales="extreme", intermediate=256),
    "2:4, direct, four tokens sharing experts": Case(
        sparse=True, tokens=4, intermediate=256, experts=4, top_k=3, shared=256, shared_gate=True
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_moe_decode_matches_float64(emulated: ctypes.CDLL, case: Case) -> None:
    assert_close(*run(emulated, case))


# Swizzled, in whole blocks of 128 rows, and longer than the 256 values that a stage copies. Rows of the first
# product have `hidden` values, those of the second `intermediate`.
SEVERAL_STAGES = [
    (5, 512, 256, 0),
    (5, 256, 512, 0),
    (6, 768, 768, 512),
    (16, 512, 512, 256),
    (1, 320, 128, 0),
    (3, 640, 128, 128),
    (5, 128, 640, 0),
    (9, 384, 384, 384),
    (2, 1088, 256, 0),
]


@pytest.mark.parametrize("up_first", [False, True])
@pytest.mark.parametrize(("tokens", "hidden", "intermediate", "shared"), SEVERAL_STAGES)
def test_scales_of_several_stages(
    emulated: ctypes.CDLL, tokens: int, hidden: int, intermediate: int, shared: int, up_first: bool
) -> None:
    case = Case(
        swizzled=True,
        tokens=tokens,
        hidden=hidden,
        intermediate=intermediate,
        shared=shared,
        experts=3,
        top_k=2,
        up_first=up_first,
        seed=hidden + intermediate,
    )
    assert_close(*run(emulated, case))


def test_plan_of_a_larger_chip_gives_the_same(emulated: ctypes.CDLL) -> None:
    case = Case(tokens=5, experts=4, top_k=3, hidden=128, intermediate=1088, shared=64)
    small, expected = run(emulated, case)
    emulated.set_block_shared_bytes(227 * 1024)
    try:
        large, _ = run(emulated, case)
    finally:
        emulated.set_block_shared_bytes(99 * 1024)
    assert_close(small, expected)
    assert_close(large, expected)


@pytest.mark.parametrize("seed", range(8))
def test_moe_decode_of_random_shapes_matches_float64(emulated: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    experts = int(rng.integers(2, 9))
    case = Case(
        tokens=int(rng.integers(1, 17)), hidden=64 * int(rng.integers(1, 5)), intermediate=64 * int(rng.integers(1, 4)),  # noqa: E501
        experts=experts, top_k=int(rng.integers(1, min(experts, 4) + 1)), shared=64 * int(rng.integers(0, 3)),
        swizzled=bool(rng.integers(2)), up_first=bool(rng.integers(2)), globals13=int(rng.integers(1, 3)),
        mapped=bool(rng.integers(2)), gate=GATES[rng.integers(3)], seed=seed,
    )  # fmt: skip
    assert_close_or_zero(*run(emulated, case))


@pytest.mark.parametrize("seed", range(4))
def test_random_sparse_shapes(emulated: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    experts = int(rng.integers(2, 5))
    case = Case(
        sparse=True, tokens=int(rng.integers(1, 9)), hidden=256 * int(rng.integers(1, 4)),
        intermediate=256 * int(rng.integers(1, 3)), shared=256 * int(rng.integers(0, 3)),
        experts=experts, top_k=int(rng.integers(1, min(experts, 3) + 1)),
        globals13=int(rng.integers(1, 3)), mapped=bool(rng.integers(2)), duplicates=bool(rng.integers(2)),
        gate=GATES[rng.integers(3)], seed=seed,
    )  # fmt: skip
    assert_close_or_zero(*run(emulated, case))


@pytest.mark.parametrize("seed", range(4))
def test_random_whole_shapes_of_few_tokens(emulated: ctypes.CDLL, seed: int) -> None:
    """These the direct kernels take."""
    rng = np.random.default_rng(2000 + seed)
    case = Case(
        tokens=int(rng.integers(1, 5)),
        hidden=256 * int(rng.integers(1, 4)),
        intermediate=256 * int(rng.integers(1, 4)),
        experts=4,
        top_k=int(rng.integers(1, 4)),
        shared=256 * int(rng.integers(0, 3)),
        swizzled=bool(rng.integers(2)),
        up_first=bool(rng.integers(2)),
        globals13=int(rng.integers(1, 3)),
        gate=GATES[rng.integers(3)],
        seed=seed,
    )
    assert_close(*run(emulated, case))


def test_no_expert_here_gives_zeros(emulated: ctypes.CDLL) -> None:
    case = Case(tokens=2, mapped=True, top_k=1, experts=1, hidden=64, intermediate=64)
    for seed in range(20):
        case.seed = seed
        out, expected = run(emulated, case)
        if (expected == 0).all():
            assert (out == 0).all()
            return
    pytest.fail("no seed leaves both tokens without an expert")


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_special_values_stay_in_their_token(emulated: ctypes.CDLL, value: float, sparse: bool) -> None:
    sizes = {"hidden": 256, "intermediate": 256} if sparse else {"hidden": 128, "intermediate": 64}
    case = Case(tokens=5, experts=3, top_k=2, sparse=sparse, special={(1, 5): value}, **sizes)
    out, expected = run(emulated, case)
    assert np.isnan(out[1]).any() or np.isinf(out[1]).any()
    others = [0, 2, 3, 4]
    assert_close(out[others], expected[others])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_special_values_stay_in_their_token_of_two(emulated: ctypes.CDLL, value: float, sparse: bool) -> None:
    case = Case(tokens=2, experts=3, top_k=2, intermediate=256, sparse=sparse, special={(1, 5): value})
    out, expected = run(emulated, case)
    assert np.isnan(out[1]).any() or np.isinf(out[1]).any()
    assert_close(out[:1], expected[:1])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("exponent", [-30, 15])
def test_activations_far_from_one(emulated: ctypes.CDLL, exponent: int, sparse: bool) -> None:
    """They are held 2^90 times as large, as BF16."""
    case = Case(tokens=2, top_k=2, experts=3, hidden=256, intermediate=128, up_first=True, globals13=2)
    if sparse:
        case.sparse, case.intermediate, case.up_first = True, 256, False
    case.special = {(t, k): math.ldexp(1 + k / 256, exponent) for t in range(2) for k in range(256)}
    assert_close(*run(emulated, case))

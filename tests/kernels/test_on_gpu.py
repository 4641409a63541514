"""The compiled kernels on a GPU; DGX_VLLM_KERNELS_LIBRARY names the library."""

import os
from dataclasses import replace

import pytest

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch")
tvm_ffi = pytest.importorskip("tvm_ffi")
from dgx_vllm.formats.nvfp4.tiles import to_tiles, violations  # noqa: E402
from dgx_vllm.kernels import abi  # noqa: E402
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert  # noqa: E402

if not torch.cuda.is_available() or "DGX_VLLM_KERNELS_LIBRARY" not in os.environ:
    pytest.skip("needs a CUDA device and DGX_VLLM_KERNELS_LIBRARY", allow_module_level=True)

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]


@pytest.fixture(scope="module")
def kernels():
    return tvm_ffi.load_module(os.environ["DGX_VLLM_KERNELS_LIBRARY"])


def e4m3_values(codes):
    return codes.view(torch.float8_e4m3fn).double()


def dequantize(packed, scales):
    table = torch.tensor(E2M1 + [-v for v in E2M1], dtype=torch.float64, device="cuda")
    values = torch.stack([table[(packed & 15).long()], table[(packed >> 4).long()]], -1).flatten(-2)
    return values * e4m3_values(scales).repeat_interleave(16, -1)


def swizzle(scales):
    rows, blocks = scales.shape[-2:]
    padded = torch.zeros(
        *scales.shape[:-2], -(-rows // 128) * 128, -(-blocks // 4) * 4, dtype=scales.dtype, device="cuda"
    )
    padded[..., :rows, :blocks] = scales
    tiles = padded.view(-1, padded.shape[-2] // 128, 4, 32, padded.shape[-1] // 4, 4).permute(
        0, 1, 4, 3, 2, 5
    )
    return tiles.contiguous().view(padded.shape)


def codes(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")


def keep_two(packed):
    """Two of every four values, drawn at random, set to +0."""
    codes = torch.stack([packed & 15, packed >> 4], -1).flatten(-2).unflatten(-1, (-1, 4))
    kept = torch.rand(codes.shape, device="cuda").argsort(-1) < 2
    codes = torch.where(kept, codes, torch.zeros_like(codes)).flatten(-2)
    return codes[..., ::2] | codes[..., 1::2] << 4


def compress(kernels, packed, scales, halves, swizzled):
    experts, rows, half_k = packed.shape
    tiles = torch.full((experts, rows // 16, half_k // 128, 1792), 0xAA, dtype=torch.uint8, device="cuda")
    count = torch.zeros(experts, dtype=torch.int32, device="cuda")
    abi.compress_24(tiles, count, packed, scales, halves=halves, swizzled=swizzled)(kernels)
    return tiles, count


def block_scales(*shape):
    return torch.randint(0x30, 0x58, shape, dtype=torch.uint8, device="cuda")


def unswizzle(scales, rows, blocks):
    tiles = scales.view(scales.shape[0] // 128, scales.shape[1] // 4, 32, 4, 4).permute(0, 3, 2, 1, 4)
    return tiles.reshape(scales.shape)[:rows, :blocks]


def relative_l2(out, expected):
    return float((out.double() - expected).norm() / expected.norm())


def reference_codes(x):
    """PTX's definition by its decision points, in the order of the codes; a tie goes to the even code."""
    a = x.abs()
    code = torch.zeros(x.shape, dtype=torch.uint8, device="cuda")
    for point, up_on_tie in (
        (0.25, False),
        (0.75, True),
        (1.25, False),
        (1.75, True),
        (2.5, False),
        (3.5, True),
        (5.0, False),
    ):
        code += (a >= point) if up_on_tie else (a > point)
    code += torch.signbit(x).to(torch.uint8) * 8
    return torch.where(x.isnan(), torch.tensor(7, dtype=torch.uint8, device="cuda"), code)


@pytest.mark.parametrize("software", [False, True])
def test_e2m1_of_every_float(kernels, software):
    count = 1 << 27
    out = torch.empty(count, dtype=torch.uint8, device="cuda")
    for part in range(32):
        start = part * count - (1 << 31)
        x = torch.arange(start, start + count, dtype=torch.int64, device="cuda").int().view(torch.float32)
        out.fill_(0xAA)
        abi.convert_e2m1(out, x, software=software)(kernels)
        assert torch.equal(out, reference_codes(x)), f"part {part}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("swizzled", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(1, 2048), (130, 2880), (1000, 512)])
def test_quantize_nvfp4_on_a_gpu_matches_the_reference(kernels, dtype, swizzled, rows, columns):
    x = (torch.randn(rows, columns, device="cuda") * torch.randn(rows, 1, device="cuda").exp()).to(dtype)
    scale = (448 * 6 / x.abs().max().float()).reshape(1)
    packed = torch.full((rows, columns // 2), 0xAA, dtype=torch.uint8, device="cuda")
    shape = (-(-rows // 128) * 128, -(-(columns // 16) // 4) * 4) if swizzled else (rows, columns // 16)
    scales = torch.full(shape, 0xAA, dtype=torch.uint8, device="cuda")
    abi.quantize_nvfp4(packed, scales, x, scale, swizzled=swizzled)(kernels)
    blocks = x.float().view(rows, -1, 16)
    exact = scale * (blocks.abs().amax(-1) * (1 / 6))
    if swizzled:
        assert torch.equal(swizzle(exact > 0), scales > 0)
        scales = unswizzle(scales, rows, columns // 16)
    # The kernel's reciprocals are approximate: what is near a tie may go either way.
    off = 2**-20
    ways = [(exact * (1 + o)).clamp(max=448).to(torch.float8_e4m3fn).view(torch.uint8) for o in (-off, off)]
    assert ((scales == ways[0]) | (scales == ways[1])).all()
    wanted = scales.view(torch.float8_e4m3fn)
    factor = torch.where(wanted.float() > 0, scale / wanted.float(), 0)
    scaled = (blocks * factor[..., None]).reshape(rows, columns)
    found = torch.stack([packed & 15, packed >> 4], -1).reshape(rows, columns)
    ways = [reference_codes(scaled * (1 + o)) for o in (-off, off)]
    assert ((found == ways[0]) | (found == ways[1])).all()


@pytest.mark.parametrize("tokens", [1, 2, 5, 8, 9, 16])
@pytest.mark.parametrize(("rows", "k"), [(2048, 4096), (512, 2048), (2880, 2880), (16, 64)])
def test_linear_nvfp4_on_a_gpu_matches_the_reference(kernels, tokens, rows, k):
    x = torch.randn(tokens, k, device="cuda").bfloat16()
    weight, scale = codes(rows, k // 2), block_scales(rows, k // 16)
    global_scale = torch.tensor([0.01], device="cuda")
    bias = torch.randn(rows, device="cuda").bfloat16()
    expected = x.double() @ dequantize(weight, scale).T * 0.01
    for swizzled in (False, True):
        for with_bias in (None, bias):
            for overlap in (False, True):
                out = torch.full((tokens, rows), float("nan"), dtype=torch.bfloat16, device="cuda")
                abi.linear_decode_nvfp4(
                    out,
                    x,
                    weight,
                    swizzle(scale) if swizzled else scale,
                    global_scale,
                    with_bias,
                    swizzled=swizzled,
                    overlap=overlap,
                )(kernels)
                assert relative_l2(out, expected + (0 if with_bias is None else bias.double())) < 3e-3


@pytest.mark.parametrize("tokens", [1, 3, 8, 16])
@pytest.mark.parametrize(("rows", "k"), [(12288, 2048), (2048, 4096), (528, 720)])
@pytest.mark.parametrize("kind", ["tensor", "channel", "block"])
def test_linear_fp8_on_a_gpu_matches_the_reference(kernels, tokens, rows, k, kind):
    x = torch.randn(tokens, k, device="cuda").bfloat16()
    weight = torch.randn(rows, k, device="cuda").to(torch.float8_e4m3fn)
    shape = {"tensor": (1,), "channel": (rows, 1), "block": (-(-rows // 128), -(-k // 128))}[kind]
    scale = torch.rand(shape, device="cuda") + 0.5
    full = scale if kind != "block" else scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:rows, :k]
    expected = x.double() @ (weight.double() * full.double()).T
    out = torch.full((tokens, rows), float("nan"), dtype=torch.bfloat16, device="cuda")
    abi.linear_decode_fp8(out, x, weight, scale)(kernels)
    assert relative_l2(out, expected) < 3e-3


class Moe:
    """A layer's tensors; `result` is a fresh output, filled with NaN before the call."""

    def __init__(self, tokens, hidden, intermediate, experts, top_k, shared, swizzled=True):
        def weights(count, i):
            s13, s2 = block_scales(count, 2 * i, hidden // 16), block_scales(count, hidden, i // 16)
            self.linear_scales = getattr(self, "linear_scales", []) + [(s13, s2)]  # noqa: RUF005
            if swizzled:
                s13, s2 = swizzle(s13), swizzle(s2)
            g13, g2 = (
                torch.rand(count, device="cuda") / hidden**0.5 / 6,
                torch.rand(count, device="cuda") / i**0.5 / 6,
            )
            return ExpertWeights(
                codes(count, 2 * i, hidden // 2), s13, g13, codes(count, hidden, i // 2), s2, g2
            )

        self.routed = weights(experts, intermediate)
        shared_weights = weights(1, shared) if shared else None
        self.x = torch.randn(tokens, hidden, device="cuda").bfloat16()
        self.ids = torch.stack([torch.randperm(experts)[:top_k] for _ in range(tokens)]).int().cuda()
        self.weights = torch.rand(tokens, top_k, device="cuda")
        gate = (torch.randn(hidden, device="cuda") / hidden**0.5).bfloat16() if shared else None
        self.shared = SharedExpert(shared_weights, gate) if shared else None
        self.workspace = torch.empty(
            tokens * (top_k * intermediate + shared), dtype=torch.bfloat16, device="cuda"
        )
        self.swizzled = swizzled

    def call(self, out, overlap=True):
        routing = Routing(self.ids, self.weights)
        return abi.moe_decode(
            *(out, self.x, self.routed, routing, self.shared, self.workspace, "silu"),
            swizzled=self.swizzled,
            overlap=overlap,
        )

    def result(self, kernels, overlap=True):
        out = torch.full_like(self.x, float("nan"))
        self.workspace.fill_(float("nan"))
        self.call(out, overlap)(kernels)
        return out

    def expected(self):
        def expert(w, scales, e, x):
            gate, up = (dequantize(w.w13[e], scales[0][e]) @ x * w.w13_global[e].double()).chunk(2)
            hidden = gate * torch.sigmoid(gate) * up
            return dequantize(w.w2[e], scales[1][e]) @ hidden * w.w2_global[e].double()

        out = torch.zeros(self.x.shape, dtype=torch.float64, device="cuda")
        for t, x in enumerate(self.x.double()):
            for j, e in enumerate(self.ids[t].tolist()):
                out[t] += self.weights[t, j].double() * expert(self.routed, self.linear_scales[0], e, x)
            if self.shared is not None:
                out[t] += torch.sigmoid(x @ self.shared.gate.double()) * expert(
                    self.shared.weights, self.linear_scales[1], 0, x
                )
        return out


def pruned(weights):
    return replace(weights, w13=keep_two(weights.w13), w2=keep_two(weights.w2))


class SparseMoe(Moe):
    """The same on 2:4 in tiles."""

    def __init__(self, kernels, *shape, **options):
        super().__init__(*shape, **options)
        self.routed = pruned(self.routed)
        self.tiles, self.shared_tiles = self.in_tiles(kernels, self.routed), None
        if self.shared is not None:
            self.shared = replace(self.shared, weights=pruned(self.shared.weights))
            self.shared_tiles = SharedExpert(self.in_tiles(kernels, self.shared.weights), self.shared.gate)

    def in_tiles(self, kernels, weights):
        return ExpertTiles(
            w13=compress(kernels, weights.w13, weights.w13_scale, True, self.swizzled)[0],
            w13_global=weights.w13_global,
            w2=compress(kernels, weights.w2, weights.w2_scale, False, self.swizzled)[0],
            w2_global=weights.w2_global,
        )

    def call(self, out, overlap=True):
        routing = Routing(self.ids, self.weights)
        return abi.moe_decode_24(
            *(out, self.x, self.tiles, routing, self.shared_tiles, self.workspace, "silu"), overlap=overlap
        )


SPARSE_SIZES = [(3, 1024, 2048), (2, 2048, 512), (1, 128, 256), (5, 384, 768)]


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("swizzled", [False, True])
@pytest.mark.parametrize(("experts", "rows", "k"), SPARSE_SIZES)
def test_sparse_weights_come_back(kernels, halves, swizzled, experts, rows, k):
    packed, linear = keep_two(codes(experts, rows, k // 2)), codes(experts, rows, k // 16)
    scales = swizzle(linear) if swizzled else linear
    tiles, count = compress(kernels, packed, scales, halves, swizzled)
    assert not count.any()
    assert torch.equal(tiles, to_tiles(packed, linear, halves=halves))
    weight, scale = torch.full_like(packed, 0xAA), torch.full_like(scales, 0xAA)
    abi.decompress_24(weight, scale, tiles, halves=halves, swizzled=swizzled)(kernels)
    assert torch.equal(weight, packed)
    assert torch.equal(scale, scales)


def test_what_is_not_sparse_is_counted(kernels):
    packed = codes(4, 256, 1024)
    packed[2] = keep_two(packed[2])
    assert torch.equal(
        compress(kernels, packed, block_scales(4, 256, 128), True, True)[1], violations(packed)
    )


SHAPES = [(2048, 512, 64, 10, 512), (2880, 704, 12, 4, 1408), (192, 64, 5, 3, 0), (4096, 1536, 8, 2, 0)]


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 7, 8, 9, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("swizzled", [False, True])
def test_moe_against_float64(kernels, tokens, shape, swizzled):
    layer = Moe(tokens, *shape, swizzled=swizzled)
    out = layer.result(kernels)
    assert not out.isnan().any()
    assert relative_l2(out, layer.expected()) < 4e-3


SPARSE_SHAPES = [
    (2048, 512, 64, 10, 512),
    (2816, 768, 12, 4, 1536),
    (256, 256, 5, 3, 0),
    (4096, 1536, 8, 2, 0),
]


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 7, 8, 9, 16])
@pytest.mark.parametrize("shape", SPARSE_SHAPES, ids=str)
def test_sparse_moe_against_float64(kernels, tokens, shape):
    layer = SparseMoe(kernels, tokens, *shape)
    out = layer.result(kernels)
    assert not out.isnan().any()
    assert relative_l2(out, layer.expected()) < 4e-3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_special_values_stay_in_their_token(kernels, value):
    layer = SparseMoe(kernels, 4, *SPARSE_SHAPES[2])
    clean = layer.result(kernels)
    layer.x[1, 5] = value
    out = layer.result(kernels)
    assert not out[1].isfinite().all()
    assert torch.equal(out[[0, 2, 3]], clean[[0, 2, 3]])


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "2:4"])
@pytest.mark.parametrize("tokens", [1, 4, 8, 16])
def test_moe_gives_the_same_bits(kernels, tokens, sparse):
    layer = SparseMoe(kernels, tokens, *SHAPES[0]) if sparse else Moe(tokens, *SHAPES[0])
    first = layer.result(kernels, overlap=False)
    for _ in range(100):
        assert torch.equal(layer.result(kernels), first)
    out = torch.empty_like(first)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(8):
            layer.call(out)(kernels)
    for _ in range(100):
        out.fill_(float("nan"))
        layer.workspace.fill_(float("nan"))
        graph.replay()
        assert torch.equal(out, first)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("tokens", [2, 8])
def test_moe_runs_on_its_tensors_gpu(kernels, tokens):
    """Whichever is the current one, which it stays."""
    layer = Moe(tokens, 512, 256, 16, 4, 256)
    first = layer.result(kernels)
    out = torch.full_like(first, float("nan"), device="cuda:1")
    call = layer.call(out)
    moved = {k: v.to("cuda:1") if torch.is_tensor(v) else v for k, v in call.arguments.items()}
    torch.cuda.synchronize(1)
    abi.Call(call.function, moved)(kernels)
    assert torch.cuda.current_device() == 0
    assert torch.equal(out.cpu(), first.cpu())


def refused(kernels, layer, change, message):
    """A layer's call with some arguments changed: `change` gets all of them, and returns the others."""
    call = layer.call(torch.empty_like(layer.x))
    changes = change(call.arguments)
    assert set(changes) <= set(call.arguments)
    with pytest.raises((ValueError, TypeError), match=message):
        abi.Call(call.function, call.arguments | changes)(kernels)


def rows(*shape):
    """Another x, and an output of its shape."""
    x = torch.empty(shape, dtype=torch.bfloat16, device="cuda")
    return {"out": x, "x": x}


def not_aligned(tokens, hidden):
    return torch.empty(tokens * hidden + 1, dtype=torch.bfloat16, device="cuda")[1:].view(tokens, hidden)


REFUSALS = {
    "too many tokens": (lambda a: rows(17, 192), "1 to 16 rows"),
    "a large hidden size": (lambda a: rows(2, 16448), "hidden size must be at most 16384, not 16448"),
    "float x": (lambda a: {"x": a["x"].float()}, "x must be bfloat16"),
    "x on the host": (lambda a: {"x": a["x"].cpu()}, "x must be on a CUDA device"),
    "x by columns": (lambda a: {"x": a["x"].T.contiguous().T}, "contiguous rows"),
    "x not aligned": (lambda a: {"x": not_aligned(2, 192)}, "multiple of 16 bytes"),
    "another hidden size": (
        lambda a: {"w13": a["w13"][:, :, :64].contiguous()},
        r"w13 must have shape \[5, 128, 96\]",
    ),
    "w2 not contiguous": (
        lambda a: {"w2": torch.cat([a["w2"], a["w2"]], 2)[:, :, :32]},
        "w2 must be contiguous",
    ),
    "linear scales called swizzled": (lambda a: {"swizzled": True}, "w2_scale must have shape"),
    "wide ids": (lambda a: {"topk_ids": a["topk_ids"].long()}, "topk_ids must be int32"),
    "half of a shared expert": (lambda a: {"shared_w13": a["w13"][:1]}, "six tensors"),
    "a gate without a shared expert": (
        lambda a: {"shared_gate": torch.zeros(2, device="cuda")},
        "shared_gate must come with the shared expert's tensors",
    ),
    "small workspace": (lambda a: {"workspace": a["workspace"][:8]}, "workspace must hold 384 values"),
    "activation": (lambda a: {"activation": "relu"}, "silu, gelu or gelu_tanh"),
    "output's shape": (lambda a: {"out": a["out"][:1]}, "out must have shape"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_moe_on_a_gpu_refuses_wrong_arguments(kernels, name):
    layer = Moe(2, 192, 64, 5, 3, 0, swizzled=False)
    refused(kernels, layer, *REFUSALS[name])


SPARSE_REFUSALS = {
    "hidden size": (lambda a: rows(2, 128), "hidden size must be a positive multiple of 256, not 128"),
    "weights that are not in tiles": (
        lambda a: {"w13": codes(5, 512, 128)},
        r"w13 must have shape \[experts, 2 \* intermediate / 16",
    ),
    "another intermediate size": (
        lambda a: {"w2": codes(5, 16, 2, 1792)},
        r"w13 must have shape \[5, 64, 1, 1792\]",
    ),
    "scales in between": (
        lambda a: {"w13_global": block_scales(5, 512, 16)},
        "w13_global must be float32",
    ),
    "half of a shared expert": (lambda a: {"shared_w13": a["w13"][:1]}, "four tensors"),
    "small workspace": (lambda a: {"workspace": a["workspace"][:8]}, "workspace must hold 1536 values"),
}


@pytest.mark.parametrize("name", SPARSE_REFUSALS)
def test_sparse_moe_refuses(kernels, name):
    refused(kernels, SparseMoe(kernels, 2, *SPARSE_SHAPES[2]), *SPARSE_REFUSALS[name])


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 120, 128), "number of rows must be a positive multiple of 128, not 120"),
     ((2, 128, 96), "k must be a positive multiple of 256, not 192"), ((128, 128), "packed must have shape")],
)  # fmt: skip
def test_compression_refuses_wrong_arguments(kernels, shape, message):
    packed = codes(*shape)
    call = abi.compress_24(
        codes(1), torch.zeros(1, dtype=torch.int32, device="cuda"), packed, codes(1), halves=False
    )
    with pytest.raises(ValueError, match=message):
        call(kernels)

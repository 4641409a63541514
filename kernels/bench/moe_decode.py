"""moe_decode on a GPU: checked against float64, then timed in CUDA graphs of 48 layers over experts that no cache holds.

    python bench/moe_decode.py LIBRARY BOUNDS_LIBRARY [--shapes qwen3-next,awkward] [--tokens 1,2,4,8,16] [--no-check]
        [--marlin DIRECTORY] [--json FILE]

`--marlin` names a directory with vLLM's extension modules: its Marlin MoE then runs on the same experts, ids and activations.
"""

import argparse
import datetime
import json
import math
import statistics
import sys

import torch
import tvm_ffi

# hidden, expert intermediate, experts, top-k, shared intermediate
SHAPES = {
    "qwen3-next": (2048, 512, 512, 10, 512),
    "qwen3.6-35b": (2048, 512, 256, 8, 512),
    "awkward": (2880, 704, 96, 5, 1408),
}
E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]


def e4m3_table() -> torch.Tensor:
    return torch.arange(256, dtype=torch.uint8, device="cuda").view(torch.float8_e4m3fn).double()


def dequantize(packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    table = torch.tensor(E2M1, dtype=torch.float64, device="cuda")
    values = torch.stack([table[(packed & 15).long()], table[(packed >> 4).long()]], -1).flatten(-2)
    return values * e4m3_table()[scales.long()].repeat_interleave(16, -1)


def swizzle(scales: torch.Tensor) -> torch.Tensor:
    e, rows, blocks = scales.shape
    padded_rows, padded_blocks = -(-rows // 128) * 128, -(-blocks // 4) * 4
    padded = torch.zeros(e, padded_rows, padded_blocks, dtype=scales.dtype, device=scales.device)
    padded[:, :rows, :blocks] = scales
    tiles = padded.view(e, padded_rows // 128, 4, 32, padded_blocks // 4, 4).permute(0, 1, 4, 3, 2, 5)
    return tiles.contiguous().view(e, padded_rows, padded_blocks)


class Experts:
    def __init__(self, count: int, hidden: int, intermediate: int, generator: torch.Generator) -> None:
        def codes(*shape: int) -> torch.Tensor:
            return torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda", generator=generator)

        def scales(*shape: int) -> torch.Tensor:
            return torch.randint(0x30, 0x58, shape, dtype=torch.uint8, device="cuda", generator=generator)

        def globals_(n: int, k: int) -> torch.Tensor:
            return (torch.rand(n, device="cuda", generator=generator) + 0.5) / (6 * math.sqrt(k))

        self.w13, self.s13 = (
            codes(count, 2 * intermediate, hidden // 2),
            scales(count, 2 * intermediate, hidden // 16),
        )
        self.w2, self.s2 = codes(count, hidden, intermediate // 2), scales(count, hidden, intermediate // 16)
        self.g13, self.g2 = globals_(count, hidden), globals_(count, intermediate)
        self.s13_swizzled, self.s2_swizzled = swizzle(self.s13), swizzle(self.s2)

    def arguments(self, swizzled: bool) -> tuple:
        s13, s2 = (self.s13_swizzled, self.s2_swizzled) if swizzled else (self.s13, self.s2)
        return self.w13, s13, self.g13, self.w2, s2, self.g2

    def output(self, e: int, x: torch.Tensor) -> torch.Tensor:
        both = dequantize(self.w13[e], self.s13[e]) @ x * self.g13[e].double()
        gate, up = both.chunk(2)
        return dequantize(self.w2[e], self.s2[e]) @ (gate * torch.sigmoid(gate) * up) * self.g2[e].double()


def reference(routed: Experts, shared: Experts | None, gate: torch.Tensor | None, x: torch.Tensor, ids: torch.Tensor,
              weights: torch.Tensor) -> torch.Tensor:  # fmt: skip
    out = torch.zeros(x.shape, dtype=torch.float64, device="cuda")
    for t in range(x.shape[0]):
        for j in range(ids.shape[1]):
            out[t] += weights[t, j].double() * routed.output(int(ids[t, j]), x[t].double())
        if shared is not None:
            out[t] += torch.sigmoid(gate[t].double()) * shared.output(0, x[t].double())
    return out


class Call:
    """One layer's launch with everything it needs; kept alive, as graphs hold addresses."""

    def __init__(
        self, function, routed, shared, gate, x, ids, weights, workspace, swizzled, overlap=True
    ) -> None:
        self.out = torch.full_like(x, float("nan"))
        shared_arguments = (None,) * 6 if shared is None else shared.arguments(swizzled)
        self.arguments = (
            self.out, x, *routed.arguments(swizzled), ids, weights, None, *shared_arguments,
            None if shared is None else gate, workspace, "silu", swizzled, False, False, True, overlap,
        )  # fmt: skip
        self.function = function

    def __call__(self) -> torch.Tensor:
        self.function(*self.arguments)
        return self.out


def relative_l2(out: torch.Tensor, expected: torch.Tensor) -> float:
    return float((out.double() - expected).norm() / expected.norm())


def graph_of(calls) -> torch.cuda.CUDAGraph:
    calls[0]()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def microseconds(graph: torch.cuda.CUDAGraph, repeats: int = 30) -> float:
    times = []
    for r in range(repeats + 3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if r >= 3:
            times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)


def distinct_ids(layers: int, tokens: int, top_k: int, experts: int, generator) -> list[torch.Tensor]:
    """Each layer's slots have experts of their own, and layers rotate through all of them."""
    out, deck = [], torch.empty(0, dtype=torch.long)
    for _ in range(layers):
        if len(deck) < tokens * top_k:
            deck = torch.randperm(experts, generator=generator)
        taken, deck = deck[: tokens * top_k], deck[tokens * top_k :]
        out.append(taken.view(tokens, top_k).int().cuda())
    return out


def random_ids(layers: int, tokens: int, top_k: int, experts: int, generator) -> list[torch.Tensor]:
    return [torch.stack([torch.randperm(experts, generator=generator)[:top_k] for _ in range(tokens)]).int().cuda()
            for _ in range(layers)]  # fmt: skip


CASES = (
    ("routed", "distinct", False, True),
    ("routed, linear scales", "distinct", False, False),
    ("routed + shared", "distinct", True, True),
    ("routed, overlapping", "random", False, True),
)  # name, how experts are drawn, with the shared one, swizzled scales


def measure(name: str, options: argparse.Namespace, library, bounds, marlin) -> tuple[int, list[dict]]:
    """The streaming read in GB/s, and a row for each case."""
    hidden, intermediate, experts, top_k, shared_intermediate = SHAPES[name]
    generator = torch.Generator("cuda").manual_seed(7)
    cpu = torch.Generator().manual_seed(7)
    buffer, sink = (
        torch.randint(0, 255, (2 << 30,), dtype=torch.uint8, device="cuda"),
        torch.zeros(1, dtype=torch.int32, device="cuda"),
    )
    read = min(microseconds(graph_of([lambda: bounds.stream_read(buffer, sink)]), 8) for _ in range(2))
    read_gbs = buffer.numel() / read / 1e3
    del buffer
    print(f"{torch.cuda.get_device_name()}, {name}: streaming read {read_gbs:.0f} GB/s")

    routed = Experts(experts, hidden, intermediate, generator)
    shared = Experts(1, hidden, shared_intermediate, generator)
    peer = (
        marlin
        and hidden % 128 == 0
        and (marlin.Experts(*routed.arguments(False)), marlin.Experts(*shared.arguments(False)))
    )
    expert_bytes = (routed.w13[0].numel() + routed.w2[0].numel()) * 9 // 8
    shared_bytes = (shared.w13.numel() + shared.w2.numel()) * 9 // 8
    rows = []

    def record(kernel: str, tokens: int, us: float, size: float, vs_marlin: float | None = None) -> None:
        gbs = size / us / 1e3
        rows.append({"kernel": kernel, "shape": name, "m": tokens, "us": round(us, 2), "gbps": round(gbs),
                     "fraction_of_read": round(gbs / read_gbs, 3),
                     "vs_marlin": vs_marlin and round(vs_marlin, 2), "vs_humming": None})  # fmt: skip
        against = f"  {vs_marlin:5.2f}x Marlin" if vs_marlin else ""
        print(
            f"M={tokens:<3} {kernel:<32} {us:8.2f} us  {gbs:6.0f} GB/s  {gbs / read_gbs:6.1%} of read{against}"
        )

    for tokens in map(int, options.tokens.split(",")):
        workspace = torch.zeros(
            library.moe_decode_workspace(tokens, top_k, intermediate, shared_intermediate),
            dtype=torch.bfloat16,
            device="cuda",
        )

        def inputs(how: str, layers: int):
            draw = distinct_ids if how == "distinct" else random_ids
            xs = [
                torch.randn(tokens, hidden, device="cuda", generator=generator).bfloat16()
                for _ in range(layers)
            ]
            weights = [
                torch.rand(tokens, top_k, device="cuda", generator=generator) / top_k for _ in range(layers)
            ]
            gates = [torch.randn(tokens, device="cuda", generator=generator) for _ in range(layers)]
            return list(zip(xs, draw(layers, tokens, top_k, experts, cpu), weights, gates, strict=True))

        if not options.no_check:
            for with_shared in (None, shared):
                x, ids, weights, gate = inputs("random", 1)[0]
                expected = reference(routed, with_shared, gate, x, ids, weights)
                for swizzled in (False, True):
                    for overlap in (False, True):
                        call = Call(
                            library.moe_decode,
                            routed,
                            with_shared,
                            gate,
                            x,
                            ids,
                            weights,
                            workspace,
                            swizzled,
                            overlap,
                        )
                        error = relative_l2(call(), expected)
                        if not error < 3e-3:
                            sys.exit(
                                f"M={tokens} swizzled={swizzled} shared={with_shared is not None}: relative L2 {error:.2e}"
                            )
                if peer:
                    error = relative_l2(
                        marlin.Call(peer[0], with_shared and peer[1], gate, x, ids, weights)(), expected
                    )
                    if not error < 2e-2:
                        sys.exit(
                            f"Marlin, M={tokens} shared={with_shared is not None}: relative L2 {error:.2e}"
                        )

        peers = {}
        for case, how, with_shared, swizzled in CASES[: 1 if options.brief else None]:
            if how == "distinct" and tokens * top_k > experts:
                continue
            drawn = inputs(how, options.layers)
            size = statistics.mean(len(i.unique()) for _, i, _, _ in drawn) * expert_bytes + (
                shared_bytes if with_shared else 0
            )
            own_shared = shared if with_shared else None
            calls = [
                Call(library.moe_decode, routed, own_shared, g, x, i, w, workspace, swizzled)
                for x, i, w, g in drawn
            ]
            us = microseconds(graph_of(calls)) / options.layers
            if peer and (how, with_shared) not in peers:
                calls = [
                    marlin.Call(peer[0], (with_shared and peer[1]) or None, g, x, i, w)
                    for x, i, w, g in drawn
                ]
                peers[how, with_shared] = microseconds(graph_of(calls)) / options.layers
                record(f"Marlin, {case}", tokens, peers[how, with_shared], size)
            record(f"moe_decode, {case}", tokens, us, size, (peer and peers[how, with_shared] / us) or None)
        if tokens * top_k <= experts:
            drawn = distinct_ids(options.layers, tokens, top_k, experts, cpu)
            us = microseconds(graph_of([lambda i=i: bounds.moe_bytes(routed.w13, routed.s13, routed.w2, routed.s2, i, sink)
                                        for i in drawn])) / options.layers  # fmt: skip
            record("bytes only", tokens, us, tokens * top_k * expert_bytes)
    return round(read_gbs), rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("bounds")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--tokens", default="1,2,4,8,16")
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--no-check", action="store_true")
    parser.add_argument("--brief", action="store_true", help="routed experts, distinct, swizzled scales only")
    parser.add_argument("--marlin", help="directory of vLLM's extension modules")
    parser.add_argument("--json")
    options = parser.parse_args()
    library, bounds = tvm_ffi.load_module(options.library), tvm_ffi.load_module(options.bounds)
    marlin = None
    if options.marlin:
        import marlin

        marlin.load(options.marlin)
    read, rows = {}, []
    for name in options.shapes.split(","):
        read[name], of_shape = measure(name, options, library, bounds, marlin)
        rows += of_shape
    if options.json:
        head = {"date": datetime.date.today().isoformat(), "device": torch.cuda.get_device_name(),
                "command": "python bench/moe_decode.py LIBRARY BOUNDS_LIBRARY --marlin DIRECTORY --json FILE", "read_gbps": read}  # fmt: skip
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        with open(options.json, "w") as file:
            file.write(json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n  {lines}\n ]\n}}\n')


if __name__ == "__main__":
    main()

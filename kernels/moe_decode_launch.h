// The two launches of a mixture-of-experts layer.
#pragma once

#include <algorithm>

#include <common/launch.h>
#include <moe_direct.cuh>
#include <moe_down.cuh>
#include <moe_gate_up.cuh>

namespace dgx {
namespace moe {

struct Plan {
  LaunchShape gate_up;
  LaunchShape down;
};

// One token wants its few blocks spread over many warps; more tokens want few warps that work long.
template <Shapes kShapes>
inline LaunchShape gate_up_plan(Layer& p, const Chip& chip) {
  const bool shared = p.shared.weight13 != nullptr, one = p.tokens == 1;
  const int tiles = one ? 1 : kGateUpTiles, goal = one ? 4 : 8;
  const auto bytes = [&](int parts) { return GateUpRoom::of<kShapes>(p.hidden, parts * tiles).bytes; };
  int parts = std::min((nvfp4::stages(p.hidden) + goal - 1) / goal, kGateUpMaxWarps / tiles);
  while (parts > 1 && bytes(parts) > chip.block_shared_bytes) parts--;
  p.gate_up_parts = parts;
  const auto blocks = [&](const Experts& e) { return e.intermediate / (8 * tiles); };
  const int64_t all = static_cast<int64_t>(p.tokens) * p.top_k * blocks(p.routed) +
                      (shared ? (p.tokens + 1) / 2 * blocks(p.shared) : 0);
  // One token's few blocks leave room for moe_down beside them.
  const int room = one ? chip.multiprocessor_shared_bytes / 2 : chip.multiprocessor_shared_bytes;
  return {dim3(std::max(blocks(p.routed), shared ? blocks(p.shared) : 0), p.top_k + shared, p.tokens),
          dim3(parts * tiles * 32), even_share(chip, room, all, bytes(parts)), true};
}

template <Shapes kShapes>
inline LaunchShape down_plan(const Layer& p, const Chip& chip) {
  // As many warps as have equal shares of the stages.
  const int stages = p.tokens * p.top_k * nvfp4::stages(p.routed.intermediate) +
                     (p.shared.weight13 ? (p.tokens + 1) / 2 * nvfp4::stages(p.shared.intermediate) : 0);
  const int warp_bytes = kRingBytes<kShapes> + p.tokens * 16 * static_cast<int>(sizeof(float));
  const int table_bytes = nvfp4::kZeroBytes + unit_table_bytes(p);
  const int most_warps = std::min(kDownMaxWarps, (chip.block_shared_bytes - table_bytes) / warp_bytes);
  const int share = (stages + most_warps - 1) / most_warps, warps = (stages + share - 1) / share;
  const size_t bytes = table_bytes + warps * warp_bytes;
  // With more tokens than one, a multiprocessor that takes more than its share of blocks would leave another one idle.
  const int blocks = p.hidden / 16, blocks_each = (blocks + chip.multiprocessors - 1) / chip.multiprocessors;
  const size_t least = p.tokens == 1 ? 0 : chip.multiprocessor_shared_bytes / (blocks_each + 1);
  return {dim3(blocks), dim3(warps * 32), std::max(bytes, least), true};
}

template <Shapes kShapes>
inline Plan plan(Layer& p, const Chip& chip) {
  return {gate_up_plan<kShapes>(p, chip), down_plan<kShapes>(p, chip)};
}

inline void set_strides(Experts& e, int64_t hidden) {
  const int64_t intermediate = e.intermediate;
  if (e.sparse) {
    e.weight13_stride = sparse24::matrix_bytes(2 * intermediate, hidden);
    e.weight2_stride = sparse24::matrix_bytes(hidden, intermediate);
    return;
  }
  e.weight13_stride = intermediate * hidden;
  e.weight2_stride = hidden * intermediate / 2;
  e.scale13_stride = scale_bytes(e.layout, 2 * intermediate, hidden / 16);
  e.scale2_stride = scale_bytes(e.layout, hidden, intermediate / 16);
}

inline Shapes shapes(const Layer& p) {
  if (p.routed.sparse) return Shapes::kSparse;
  const auto whole = [](int size) { return size % nvfp4::kStage == 0; };
  const bool shared = p.shared.weight13 != nullptr;
  if (!whole(p.hidden) || !whole(p.routed.intermediate) || (shared && !whole(p.shared.intermediate))) return Shapes::kAny;
  if (shared && p.shared.layout != p.routed.layout) return Shapes::kAny;
  return p.routed.layout == ScaleLayout::kSwizzled ? Shapes::kSwizzled : Shapes::kLinear;
}

inline int gate_up_direct_warps(const Layer& p) { return p.hidden / (kGateUpChunks * nvfp4::kChunk); }

// One token wants its rows spread over more warps.
inline int down_direct_chunks(const Layer& p) { return p.tokens == 1 ? 2 : 4; }

inline int down_direct_warps(const Layer& p) {
  const int chunks = down_direct_chunks(p);
  return p.top_k * down_parts(p.routed.intermediate, chunks) +
         (p.shared.weight13 ? down_parts(p.shared.intermediate, chunks) : 0);
}

// Whether the direct kernels take a layer whose sizes are multiples of 256.
inline bool direct(const Layer& p) {
  return p.tokens <= kDirectTokens && p.tokens * p.top_k <= kDirectSlots &&
         gate_up_direct_warps(p) <= kGateUpDirectMaxWarps &&
         down_direct_warps(p) * down_direct_chunks(p) <= kDownWarpChunks;
}

inline Plan direct_plan(const Layer& p) {
  const bool shared = p.shared.weight13 != nullptr;
  const int intermediate = std::max(p.routed.intermediate, shared ? p.shared.intermediate : 0);
  const int gate_up_warps = gate_up_direct_warps(p), down_warps = down_direct_warps(p);
  const auto bytes = [](int warps, int chunks, int sums) {
    return static_cast<size_t>(DirectRoom::of(warps, chunks, sums).bytes);
  };
  return {{dim3(intermediate / 8, p.top_k + shared, p.tokens), dim3(gate_up_warps * 32),
           bytes(gate_up_warps, kGateUpChunks, kGateUpSums)},
          {dim3(p.hidden / 16, p.tokens), dim3(down_warps * 32), bytes(down_warps, down_direct_chunks(p), kDownSums)}};
}

inline cudaError_t launch_both(void (*gate_up)(Layer), void (*down)(Layer), const Layer& p, const Plan& plan,
                               cudaStream_t stream, bool overlap) {
  const cudaError_t error = launch(gate_up, plan.gate_up, stream, overlap, p);
  return error != cudaSuccess ? error : launch(down, plan.down, stream, overlap, p);
}

template <Shapes kShapes>
inline cudaError_t run(Layer& p, const Chip& chip, cudaStream_t stream, bool overlap) {
  if constexpr (kShapes != Shapes::kAny)
    if (direct(p)) {
      const auto down = down_direct_chunks(p) == 2 ? moe_down_direct<kShapes, 2> : moe_down_direct<kShapes, 4>;
      return launch_both(moe_gate_up_direct<kShapes>, down, p, direct_plan(p), stream, overlap);
    }
  const Plan grids = plan<kShapes>(p, chip);
  return launch_both(moe_gate_up<kShapes>, moe_down<kShapes>, p, grids, stream, overlap);
}

// `overlap`: each grid may start before the one in front of it ends, the layer's second before its first too.
inline cudaError_t run(Layer p, cudaStream_t stream, bool overlap) {
  set_strides(p.routed, p.hidden);
  set_strides(p.shared, p.hidden);
  Chip chip;
  cudaError_t error = this_chip(chip);
  if (error != cudaSuccess) return error;
  switch (shapes(p)) {
    case Shapes::kSwizzled: return run<Shapes::kSwizzled>(p, chip, stream, overlap);
    case Shapes::kLinear: return run<Shapes::kLinear>(p, chip, stream, overlap);
    case Shapes::kSparse: return run<Shapes::kSparse>(p, chip, stream, overlap);
    default: return run<Shapes::kAny>(p, chip, stream, overlap);
  }
}

}  // namespace moe
}  // namespace dgx

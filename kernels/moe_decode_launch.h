// The two launches of a mixture-of-experts layer.
#pragma once

#include <algorithm>

#include <common/launch.h>
#include <moe_decode.cuh>

namespace dgx {
namespace moe {

struct Plan {
  LaunchShape gate_up;
  LaunchShape down;
};

inline Plan plan(Layer& p, const Chip& chip) {
  const bool shared = p.shared.weight13 != nullptr;
  const int slots = p.tokens * p.top_k;
  // One token wants its few blocks spread over many warps; more tokens want few warps that work long.
  const int hidden_stages = nvfp4::stages(p.hidden), goal = p.tokens == 1 ? 4 : 8;
  p.gate_up_stages = std::max(goal, (hidden_stages + kGateUpMaxWarps - 1) / kGateUpMaxWarps);
  const int gate_up_warps = (hidden_stages + p.gate_up_stages - 1) / p.gate_up_stages;
  // As many warps as have equal shares of the stages.
  const int stages = slots * nvfp4::stages(p.routed.intermediate) +
                     (shared ? (p.tokens + 1) / 2 * nvfp4::stages(p.shared.intermediate) : 0);
  const int down_warp_bytes = kRingBytes + p.tokens * 16 * static_cast<int>(sizeof(float));
  const int room = (chip.block_shared_bytes - kZeroBytes - unit_table_bytes(p)) / down_warp_bytes;
  const int most_warps = std::min(kDownMaxWarps, room);
  const int share = (stages + most_warps - 1) / most_warps;
  const int down_warps = (stages + share - 1) / share;
  const int intermediate = std::max(p.routed.intermediate, shared ? p.shared.intermediate : 0);
  const int64_t gate_up_blocks = static_cast<int64_t>(slots) * (p.routed.intermediate / 8) +
                                 (shared ? (p.tokens + 1) / 2 * (p.shared.intermediate / 8) : 0);
  const int whole = chip.multiprocessor_shared_bytes, half = whole / 2;
  const size_t down_bytes = kZeroBytes + unit_table_bytes(p) + down_warps * down_warp_bytes;
  // One token's few blocks leave room for moe_down beside them; with more, blocks of moe_down in pairs would leave
  // multiprocessors idle, and over half of the shared memory keeps them apart.
  const bool beside = p.tokens == 1;
  return {{dim3(intermediate / 8, p.top_k + shared, p.tokens), dim3(gate_up_warps * 32),
           even_share(chip, beside ? half : whole, gate_up_blocks, gate_up_warps * kGateUpWarpBytes), true},
          {dim3(p.hidden / 16), dim3(down_warps * 32),
           beside ? down_bytes : std::max(down_bytes, static_cast<size_t>(half)), true}};
}

inline void set_strides(Experts& e, int64_t hidden) {
  const int64_t intermediate = e.intermediate;
  e.weight13_stride = intermediate * hidden;
  e.weight2_stride = hidden * intermediate / 2;
  e.scale13_stride = scale_bytes(e.layout, 2 * intermediate, hidden / 16);
  e.scale2_stride = scale_bytes(e.layout, hidden, intermediate / 16);
}

inline Shapes shapes(const Layer& p) {
  const auto whole = [](int size) { return size % nvfp4::kStage == 0; };
  const bool shared = p.shared.weight13 != nullptr;
  if (!whole(p.hidden) || !whole(p.routed.intermediate) || (shared && !whole(p.shared.intermediate))) return Shapes::kAny;
  if (shared && p.shared.layout != p.routed.layout) return Shapes::kAny;
  return p.routed.layout == ScaleLayout::kSwizzled ? Shapes::kSwizzled : Shapes::kLinear;
}

template <Shapes kShapes>
inline cudaError_t run(const Layer& p, const Plan& plan, cudaStream_t stream, bool overlap) {
  const cudaError_t error = launch(moe_gate_up<kShapes>, plan.gate_up, stream, overlap, p);
  if (error != cudaSuccess) return error;
  return launch(moe_down<kShapes>, plan.down, stream, overlap, p);
}

// `overlap`: the first grid may start before the one in front of it ends.
inline cudaError_t run(Layer p, cudaStream_t stream, bool overlap) {
  set_strides(p.routed, p.hidden);
  set_strides(p.shared, p.hidden);
  Chip chip;
  cudaError_t error = this_chip(chip);
  if (error != cudaSuccess) return error;
  const Plan grids = plan(p, chip);
  switch (shapes(p)) {
    case Shapes::kSwizzled: return run<Shapes::kSwizzled>(p, grids, stream, overlap);
    case Shapes::kLinear: return run<Shapes::kLinear>(p, grids, stream, overlap);
    default: return run<Shapes::kAny>(p, grids, stream, overlap);
  }
}

}  // namespace moe
}  // namespace dgx

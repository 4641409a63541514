// The layer of moe_layer.cuh for one or two tokens, whose few bytes are under way at once: weights go straight to registers,
// all that a warp needs before it waits for any, and there are no stages to take turns.
//
//   moe_gate_up_direct   one block a slot and kDirectTiles tiles of 8 values, one warp kGateUpChunks chunks of the hidden size
//   moe_down_direct      one block a token and 16 values, one warp kChunks chunks of a slot's hidden state
//
// A slot has a product of its own. Two tokens that chose the same expert read it from DRAM once and once more from L2.
#pragma once

#include <type_traits>

#include <common/nvfp4_rows.cuh>
#include <common/sparse24_rows.cuh>
#include <moe_layer.cuh>
#include <ptx/grid.cuh>
#include <ptx/load.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace moe {

constexpr int kDirectTokens = 2;
constexpr int kDirectTiles = 2, kGateUpChunks = 2, kGateUpDirectMaxWarps = 8;
constexpr int kDownWarpChunks = 48;  // the most of one token: warps of a block times chunks of a warp
constexpr int kRunsBytes = nvfp4::kChunk * 2;  // of a chunk of a column

// Where a lane reads its part of the chunks of two octets of rows.
struct LaneRows {
  const uint8_t* weight[2];
  const uint8_t* scale[2];
  int scale_step;  // bytes from one chunk's scales to the next

  __device__ __forceinline__ LaneRows(const uint8_t* weights, const uint8_t* scales, ScaleLayout layout, int row_low,
                                      int row_high, int k, int first_chunk, int lane) {
    const int t = lane & 3, group = scale_group_stride(layout);
    const int rows[2] = {row_low, row_high};
    scale_step = 2 * group;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      weight[i] = weights + (static_cast<uint32_t>(rows[i]) * (k / 2) + first_chunk * (nvfp4::kChunk / 2) + t * 16);
      scale[i] = scales + (scale_row_offset(layout, rows[i], k / 16) + first_chunk * scale_step + (t & 1) * group);
    }
  }

  __device__ __forceinline__ nvfp4::LaneChunk part(int index) const {
    nvfp4::LaneChunk chunk;
#pragma unroll
    for (int i = 0; i < 2; i++) chunk.rows[i] = ptx::ld_once_16(weight[i] + index * (nvfp4::kChunk / 2));
#pragma unroll
    for (int i = 0; i < 2; i++) chunk.scales[i] = ptx::ld_constant_4(scale[i] + index * scale_step);
    return chunk;
  }
};

// The same of tiles of 2:4, each two chunks.
struct LaneTiles {
  const uint8_t* tiles;
  int lane;

  __device__ __forceinline__ LaneTiles(const uint8_t* matrix, int tile, int k, int first_chunk, int lane) : lane(lane) {
    const uint32_t index = static_cast<uint32_t>(tile) * (k / sparse24::kTileColumns) + first_chunk / 2;
    tiles = matrix + index * sparse24::kTileBytes;
  }

  __device__ __forceinline__ sparse24::LaneTile part(int index) const {
    const uint8_t* tile = tiles + index * sparse24::kTileBytes;
    const uint8_t* mine = tile + lane * 16;
    return {{ptx::ld_once_16(mine), ptx::ld_once_16(mine + sparse24::kCodeBytes)},
            ptx::ld_once_16(mine + sparse24::kPositions),
            ptx::ld_once_16(tile + sparse24::lane_scales(lane))};
  }
};

template <Shapes kShapes>
using LaneSource = std::conditional_t<kShapes == Shapes::kSparse, LaneTiles, LaneRows>;

template <Shapes kShapes>
__device__ __forceinline__ LaneSource<kShapes> gate_up_lane(const Layer& p, const Experts& e, int expert, int tile, int first,
                                                            int lane) {
  const uint8_t* weights = e.weight13 + expert * e.weight13_stride;
  if constexpr (kShapes == Shapes::kSparse) {
    return LaneTiles(weights, tile, p.hidden, first, lane);
  } else {
    const int row = tile_row<8>(strided<kShapes>(e, e.intermediate), tile, lane >> 2), gate = e.up_first ? e.intermediate : 0;
    return LaneRows(weights, e.scale13 + expert * e.scale13_stride, layout<kShapes>(e), gate + row,
                    e.intermediate - gate + row, p.hidden, first, lane);
  }
}

template <Shapes kShapes>
__device__ __forceinline__ LaneSource<kShapes> down_lane(const Layer& p, const Experts& e, int expert, int tile, int first,
                                                         int lane) {
  const uint8_t* weights = e.weight2 + expert * e.weight2_stride;
  if constexpr (kShapes == Shapes::kSparse)
    return LaneTiles(weights, tile, e.intermediate, first, lane);
  else
    return LaneRows(weights, e.scale2 + expert * e.scale2_stride, layout<kShapes>(e), down_row<kShapes>(p, e, tile, lane >> 2),
                    down_row<kShapes>(p, e, tile, 8 + (lane >> 2)), e.intermediate, first, lane);
}

// A lane's run of a chunk of the one column, where it has one.
__device__ __forceinline__ void read_run(const char* runs, int lane, uint4 (&run)[4]) {
  if (lane >> 2 != (lane & 3)) return;
#pragma unroll
  for (int i = 0; i < 4; i++) run[i] = *reinterpret_cast<const uint4*>(runs + (lane & 3) * nvfp4::kRunBytes + i * 16);
}

// A lane's part of kChunks chunks, of which the first `count` are there.
template <Shapes kShapes, int kChunks>
struct LaneWeights {
  static constexpr bool kSparse = kShapes == Shapes::kSparse;
  static constexpr int kPartChunks = kSparse ? 2 : 1, kParts = kChunks / kPartChunks;
  static_assert(kChunks % 2 == 0, "The lanes of a warp bring two chunks of a column at a time.");
  std::conditional_t<kSparse, sparse24::LaneTile, nvfp4::LaneChunk> parts[kParts];

  __device__ __forceinline__ void read(const LaneSource<kShapes>& from, int count = kChunks) {
#pragma unroll
    for (int i = 0; i < kParts; i++)
      if (i * kPartChunks < count) parts[i] = from.part(i);
  }

  __device__ __forceinline__ void multiply(const char* runs, float (&sum)[2], int lane, int count = kChunks) const {
    [[maybe_unused]] uint4 run[4] = {};
#pragma unroll
    for (int i = 0; i < kParts; i++) {
      if (i * kPartChunks >= count) continue;
      if constexpr (kSparse) {
        sparse24::multiply_runs(parts[i], sparse24::Runs(ptx::shared_address(runs) + i * nvfp4::kColumnBytes, false, lane), sum);
      } else {
        read_run(runs + i * kRunsBytes, lane, run);
        nvfp4::multiply_runs(parts[i], run, sum);
      }
    }
    nvfp4::add_runs(sum);
  }
};

__host__ __device__ inline size_t direct_bytes(int warps, int chunks, int rows) {
  return warps * (chunks * kRunsBytes + rows * sizeof(float));
}

template <Shapes kShapes>
__global__ void __launch_bounds__(kGateUpDirectMaxWarps * 32, 3) moe_gate_up_direct(const __grid_constant__ Layer p) {
  constexpr int kUnits = kGateUpChunks * nvfp4::kChunk / 8;
  static_assert(kUnits == 32, "A lane brings one unit of 16 bytes of the warp's part of x.");
  char* memory = reinterpret_cast<char*>(ptx::dynamic_shared_memory());
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, g = lane >> 2, t = lane & 3;
  char* runs = memory + warp * kGateUpChunks * kRunsBytes;
  float* sums = reinterpret_cast<float*>(memory + warps * kGateUpChunks * kRunsBytes);
  constexpr int kSums = kDirectTiles * 16 + 1;  // of a warp: [tile][row], then the gate's logit
  const bool shared = has_shared(p) && blockIdx.y == 0;
  const int tile = blockIdx.x * kDirectTiles, token = blockIdx.z;
  const int slot = token * p.top_k + static_cast<int>(blockIdx.y) - has_shared(p);
  const Experts& e = shared ? p.shared : p.routed;
  if (tile * 8 >= e.intermediate) return;

  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  const int first = warp * kGateUpChunks;
  const int k = first * nvfp4::kChunk + lane * 8;
  const uint4 x = ptx::ld_cg_16(p.x + token * p.x_stride + k);
  const bool gated = shared && p.shared_gate;
  const uint4 gates = gated ? ptx::ld_constant_16(p.shared_gate + k) : make_uint4(0, 0, 0, 0);
  const int expert = shared ? 0 : local_expert(p, p.ids[slot]);
  if (expert < 0) return;
  LaneWeights<kShapes, kGateUpChunks> weights[kDirectTiles];
#pragma unroll
  for (int i = 0; i < kDirectTiles; i++) weights[i].read(gate_up_lane<kShapes>(p, e, expert, tile + i, first, lane));
  const float* global = e.global13 + expert * e.globals13;
  const float gate_scale = global[0] * nvfp4::kRunProductScale, up_scale = global[e.globals13 - 1] * nvfp4::kRunProductScale;
  *reinterpret_cast<uint4*>(runs + lane * 16) = run_unit<kShapes>(x, lane);
  if (gated) {
    const float logit = warp_sum(gate_product(x, gates));
    if (lane == 0) sums[warp * kSums + kSums - 1] = logit;
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kDirectTiles; i++) {
    float sum[2] = {};
    weights[i].multiply(runs, sum, lane);
    float* at = sums + warp * kSums + i * 16 + g;
    if (t == 0) at[0] = sum[0], at[8] = sum[1];
  }
  __syncthreads();
  if (threadIdx.x >= kDirectTiles * 8) return;
  const int i = threadIdx.x / 8, row = threadIdx.x % 8;
  float gate = 0.0f, up = 0.0f, logit = 0.0f;
  for (int w = 0; w < warps; w++) {
    const float* from = sums + w * kSums;
    gate += from[i * 16 + row], up += from[i * 16 + 8 + row];
    if (gated) logit += from[kSums - 1];
  }
  const float weight = gated ? sigmoid(logit) : 1.0f;
  write_hidden<kShapes>(p, shared, shared ? token : slot, tile + i, row, gate * gate_scale, up * up_scale, weight);
}

// Warps of moe_down_direct for one slot of an expert of this intermediate size.
__host__ __device__ inline int down_parts(int intermediate, int chunks) {
  return (intermediate + chunks * nvfp4::kChunk - 1) / (chunks * nvfp4::kChunk);
}

template <Shapes kShapes, int kChunks>
__global__ void __launch_bounds__(kDownWarpChunks / kChunks * 32) moe_down_direct(const __grid_constant__ Layer p) {
  char* memory = reinterpret_cast<char*>(ptx::dynamic_shared_memory());
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, g = lane >> 2, t = lane & 3;
  char* runs = memory + warp * kChunks * kRunsBytes;
  float* sums = reinterpret_cast<float*>(memory + warps * kChunks * kRunsBytes);  // [warp][row]
  const int tile = blockIdx.x, token = blockIdx.y, parts = down_parts(p.routed.intermediate, kChunks);
  const bool shared = warp >= p.top_k * parts;
  const Experts& e = shared ? p.shared : p.routed;
  const int item = shared ? warp - p.top_k * parts : warp, slot = token * p.top_k + (shared ? 0 : item / parts);
  const int first = (shared ? item : item % parts) * kChunks;

  // The grid in front is moe_gate_up_direct, which lets this one start only after its own wait: the ids are there to be read.
  const int expert = shared ? 0 : local_expert(p, ptx::ld_relaxed(p.ids + slot));
  const int count = expert < 0 ? 0 : nvfp4::chunks(e.intermediate) - first;
  LaneWeights<kShapes, kChunks> weights;
  float factor = 0.0f;
  if (expert >= 0) {
    weights.read(down_lane<kShapes>(p, e, expert, tile, first, lane), count);
    factor = e.global2[expert] * nvfp4::kRunProductScale;
    if (!shared && !p.weight_on_input) factor *= ptx::ld_relaxed(p.router_weights + slot);
  }
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  const bf16_bits* hidden = hidden_row(p, shared, shared ? token : slot) + first * nvfp4::kChunk + lane * 8;
#pragma unroll
  for (int c = 0; c < kChunks; c += 2)
    if (c < count) *reinterpret_cast<uint4*>(runs + c * kRunsBytes + lane * 16) = ptx::ld_cg_16(hidden + c * nvfp4::kChunk);
  __syncwarp();
  float sum[2] = {};
  weights.multiply(runs, sum, lane, count);
  float* at = sums + warp * 16 + g;
  if (t == 0) at[0] = sum[0] * factor, at[8] = sum[1] * factor;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const int row = threadIdx.x % 16;
  float out = 0.0f;
  for (int w = threadIdx.x / 16; w < warps; w += 2) out += sums[w * 16 + row];
  out += __shfl_xor_sync(kAllLanes, out, 16);
  if (threadIdx.x < 16) p.out[static_cast<int64_t>(token) * p.hidden + down_row<kShapes>(p, p.routed, tile, row)] = to_bf16(out);
}

}  // namespace moe
}  // namespace dgx

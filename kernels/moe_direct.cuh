// The layer of moe_layer.cuh for few slots, whose few bytes are under way at once: weights go straight to registers,
// all that a warp needs before it waits for any, and there are no stages to take turns.
//
//   moe_gate_up_direct   one block a slot and a tile of 8 values, one warp kGateUpChunks chunks of the hidden size
//   moe_down_direct      one block a token and 16 values, one warp kChunks chunks of a slot's hidden state
//
// A slot has a product of its own. Tokens that chose the same expert read it from DRAM once, and each further one from L2.
//
// What a block waits for first, which expert it is about, is asked for first; addresses are computed meanwhile, and what is left
// of them once the expert is known is an addition.
#pragma once

#include <type_traits>

#include <common/nvfp4_rows.cuh>
#include <common/nvfp4_runs.cuh>
#include <common/sparse24_rows.cuh>
#include <moe_layer.cuh>
#include <ptx/copy.cuh>
#include <ptx/grid.cuh>
#include <ptx/load.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace moe {

// Up to where it was faster than stages on an H100, with top-10 and top-8.
constexpr int kDirectTokens = 4, kDirectSlots = 32;
constexpr int kGateUpChunks = 2, kGateUpDirectMaxWarps = 8;
// Blocks that registers must suffice for: all of one token's at once, of moe_down's such that they find room beside the last of
// moe_gate_up's.
constexpr int kGateUpDirectResident = 5;
template <int kChunks>
constexpr int kDownDirectResident = kChunks / 2;
constexpr int kDownWarpChunks = 48;  // the most of one token: warps of a block times chunks of a warp
constexpr int kRunsBytes = nvfp4::kChunk * 2;  // of a chunk of a column

// Where a lane reads its part of the chunks of two octets of rows.
struct LaneRows {
  const uint8_t* weight[2];
  const uint8_t* scale[2];
  int scale_step;  // bytes from one chunk's scales to the next

  __device__ __forceinline__ LaneRows(const uint8_t* weights, const uint8_t* scales, ScaleLayout layout, int row_low,
                                      int row_high, int k, int first_chunk, int lane) {
    const int lane_quad = lane & 3, group = scale_group_stride(layout);
    const int rows[2] = {row_low, row_high};
    scale_step = 2 * group;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      weight[i] = weights + (static_cast<uint32_t>(rows[i]) * (k / 2) + first_chunk * (nvfp4::kChunk / 2) + lane_quad * 16);
      scale[i] = scales + (scale_row_offset(layout, rows[i], k / 16) + first_chunk * scale_step + (lane_quad & 1) * group);
      ptx::settle(weight[i]), ptx::settle(scale[i]);
    }
  }

  // Goes on to another expert, `weights` and `scales` bytes further.
  __device__ __forceinline__ void advance(int64_t weights, int64_t scales) {
#pragma unroll
    for (int i = 0; i < 2; i++) weight[i] += weights, scale[i] += scales;
  }

  __device__ __forceinline__ nvfp4::LaneChunk part(int index) const {
    nvfp4::LaneChunk chunk;
#pragma unroll
    for (int i = 0; i < 2; i++) chunk.rows[i] = ptx::ld_once_16(weight[i] + index * (nvfp4::kChunk / 2));
#pragma unroll
    for (int i = 0; i < 2; i++) chunk.scales[i] = ptx::ld_once_4(scale[i] + index * scale_step);
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
    ptx::settle(tiles);
  }

  __device__ __forceinline__ void advance(int64_t weights, int64_t) { tiles += weights; }

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

// Of the first of the experts.
template <Shapes kShapes>
__device__ __forceinline__ LaneSource<kShapes> gate_up_lane(const Layer& p, const Experts& e, int tile, int first, int lane) {
  if constexpr (kShapes == Shapes::kSparse) {
    return LaneTiles(e.weight13, tile, p.hidden, first, lane);
  } else {
    const int row = tile_row<8>(strided<kShapes>(e, e.intermediate), tile, lane >> 2), gate = e.up_first ? e.intermediate : 0;
    return LaneRows(e.weight13, e.scale13, layout<kShapes>(e), gate + row, e.intermediate - gate + row, p.hidden, first, lane);
  }
}

template <Shapes kShapes>
__device__ __forceinline__ LaneSource<kShapes> down_lane(const Layer& p, const Experts& e, int tile, int first, int lane) {
  if constexpr (kShapes == Shapes::kSparse)
    return LaneTiles(e.weight2, tile, e.intermediate, first, lane);
  else
    return LaneRows(e.weight2, e.scale2, layout<kShapes>(e), down_row<kShapes>(p, e, tile, lane >> 2),
                    down_row<kShapes>(p, e, tile, 8 + (lane >> 2)), e.intermediate, first, lane);
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

  // The column is at `runs`; beside it there are zeros for lanes that have no run.
  __device__ __forceinline__ void multiply(uint32_t runs, uint32_t zeros, float (&sum)[2], int lane, int count = kChunks) const {
    [[maybe_unused]] const bool has_run = lane >> 2 == (lane & 3);
    [[maybe_unused]] const uint32_t run = has_run ? runs + (lane & 3) * nvfp4::kRunBytes : zeros + 32;
    [[maybe_unused]] const uint32_t step = has_run ? kRunsBytes : 0;
#pragma unroll
    for (int i = 0; i < kParts; i++) {
      if (i * kPartChunks >= count) continue;
      if constexpr (kSparse)
        sparse24::multiply_runs(parts[i], sparse24::Runs(runs + i * nvfp4::kColumnBytes, false, lane), sum);
      else
        nvfp4::multiply_runs(parts[i], nvfp4::SharedRun{run + i * step}, sum);
    }
    nvfp4::add_runs(sum);
  }
};

// A block's shared memory: zeros, the two global scales, each warp's part of a column, and each warp's sums.
struct DirectRoom {
  int globals, runs, sums, bytes;

  __host__ __device__ static constexpr DirectRoom of(int warps, int chunks, int sums) {
    DirectRoom room{};
    room.globals = nvfp4::kZeroBytes;
    room.runs = room.globals + 16;
    room.sums = room.runs + warps * chunks * kRunsBytes;
    room.bytes = room.sums + warps * sums * static_cast<int>(sizeof(float));
    return room;
  }
};

constexpr int kGateUpSums = 16 + 1;  // of a warp: rows of gate and of up, then the logit of the shared expert's gate
constexpr int kDownSums = 16;        // of a warp: rows

template <Shapes kShapes>
__global__ void __launch_bounds__(kGateUpDirectMaxWarps * 32, kGateUpDirectResident)
    moe_gate_up_direct(const __grid_constant__ Layer p) {
  static_assert(kGateUpChunks * nvfp4::kChunk / 8 == 32, "A lane brings one unit of 16 bytes of the warp's part of x.");

  // 1. Shared memory, and which part of which product this warp computes.
  char* memory = reinterpret_cast<char*>(ptx::dynamic_shared_memory());
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int lane_row = lane >> 2, lane_quad = lane & 3;
  const DirectRoom room = DirectRoom::of(warps, kGateUpChunks, kGateUpSums);
  const uint32_t zeros = ptx::shared_address(memory), runs = zeros + room.runs + warp * kGateUpChunks * kRunsBytes;
  float* globals = reinterpret_cast<float*>(memory + room.globals);  // gate, up
  float* sums = reinterpret_cast<float*>(memory + room.sums);
  const bool shared = has_shared(p) && blockIdx.y == 0;
  const int tile = blockIdx.x, token = blockIdx.z;
  const int slot = token * p.top_k + static_cast<int>(blockIdx.y) - has_shared(p);
  const Experts& e = shared ? p.shared : p.routed;
  if (tile * 8 >= e.intermediate) return;
  const int first = warp * kGateUpChunks, k = first * nvfp4::kChunk + lane * 8;
  const bool gated = shared && p.shared_gate;
  const uint4 gates = gated ? ptx::ld_constant_16(p.shared_gate + k) : make_uint4(0, 0, 0, 0);
  nvfp4::write_zeros(zeros, threadIdx.x);

  // 2. Load the slot's expert and x, once the grid in front has written them.
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  const int id = shared ? 0 : ptx::ld_relaxed(p.ids + slot);
  const uint4 x = ptx::ld_cg_16(p.x + token * p.x_stride + k);
  LaneSource<kShapes> from = gate_up_lane<kShapes>(p, e, tile, first, lane);
  const int expert = shared ? 0 : local_expert(p, id);
  if (expert < 0) return;

  // 3. Bring x in order; compute the logit of the shared expert's gate. x is waited for before weights are asked for, so as
  //    not to be waited for together with them.
  if (gated) {
    const float logit = warp_sum(gate_product(x, gates));
    if (lane == 0) sums[warp * kGateUpSums + kGateUpSums - 1] = logit;
  }
  ptx::st_shared_16(runs + lane * 16, run_unit<kShapes>(x, lane));
  __syncwarp();

  // 4. Load the global scales and all weights, and multiply.
  if (threadIdx.x < 2) {
    ptx::cp_async_4(ptx::shared_address(globals + threadIdx.x), e.global13 + expert * e.globals13 + threadIdx.x * (e.globals13 - 1),
                    true);
    ptx::cp_async_commit();
  }
  LaneWeights<kShapes, kGateUpChunks> weights;
  from.advance(expert * e.weight13_stride, expert * e.scale13_stride);
  weights.read(from);
  __syncthreads();
  float sum[2] = {};
  weights.multiply(runs, zeros, sum, lane);

  // 5. Add the sums of the warps, and write the hidden states.
  float* at = sums + warp * kGateUpSums + lane_row;
  if (lane_quad == 0) at[0] = sum[0], at[8] = sum[1];
  ptx::cp_async_wait<0>();
  __syncthreads();
  if (threadIdx.x >= 8) return;
  const int row = threadIdx.x;
  float gate = 0.0f, up = 0.0f, logit = 0.0f;
  for (int w = 0; w < warps; w++) {
    const float* from = sums + w * kGateUpSums;
    gate += from[row], up += from[8 + row];
    if (gated) logit += from[kGateUpSums - 1];
  }
  write_hidden<kShapes>(p, shared, shared ? token : slot, tile, row, gate * globals[0] * nvfp4::kRunProductScale,
                        up * globals[1] * nvfp4::kRunProductScale, gated ? sigmoid(logit) : 1.0f);
}

// Warps of moe_down_direct for one slot of an expert of this intermediate size.
__host__ __device__ inline int down_parts(int intermediate, int chunks) {
  return (intermediate + chunks * nvfp4::kChunk - 1) / (chunks * nvfp4::kChunk);
}

template <Shapes kShapes, int kChunks>
__global__ void __launch_bounds__(kDownWarpChunks / kChunks * 32, kDownDirectResident<kChunks>)
    moe_down_direct(const __grid_constant__ Layer p) {
  // 1. Shared memory, and which part of which slot this warp computes.
  char* memory = reinterpret_cast<char*>(ptx::dynamic_shared_memory());
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int lane_row = lane >> 2, lane_quad = lane & 3;
  const DirectRoom room = DirectRoom::of(warps, kChunks, kDownSums);
  const uint32_t zeros = ptx::shared_address(memory), runs = zeros + room.runs + warp * kChunks * kRunsBytes;
  float* sums = reinterpret_cast<float*>(memory + room.sums);  // [warp][row]
  const int tile = blockIdx.x, token = blockIdx.y, parts = down_parts(p.routed.intermediate, kChunks);
  const bool shared = warp >= p.top_k * parts;
  const Experts& e = shared ? p.shared : p.routed;
  const int item = shared ? warp - p.top_k * parts : warp, slot = token * p.top_k + (shared ? 0 : item / parts);
  const int first = (shared ? item : item % parts) * kChunks;

  // 2. Load the weights. The grid in front is moe_gate_up_direct, which lets this one start only after its own wait: the ids
  //    are there to be read.
  const int id = shared ? 0 : ptx::ld_relaxed(p.ids + slot);
  LaneSource<kShapes> from = down_lane<kShapes>(p, e, tile, first, lane);
  nvfp4::write_zeros(zeros, threadIdx.x);
  const int expert = shared ? 0 : local_expert(p, id);
  const int count = expert < 0 ? 0 : nvfp4::chunks(e.intermediate) - first;
  LaneWeights<kShapes, kChunks> weights;
  float factor = 0.0f;
  if (expert >= 0) {
    from.advance(expert * e.weight2_stride, expert * e.scale2_stride);
    weights.read(from, count);
    factor = e.global2[expert] * nvfp4::kRunProductScale;
    if (!shared && !p.weight_on_input) factor *= ptx::ld_relaxed(p.router_weights + slot);
  }
  const bf16_bits* hidden = hidden_row(p, shared, shared ? token : slot) + first * nvfp4::kChunk + lane * 8;
  __syncthreads();

  // 3. Load the hidden states, once the grid in front has written them, and multiply.
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
#pragma unroll
  for (int c = 0; c < kChunks; c += 2)
    if (c < count) ptx::st_shared_16(runs + c * kRunsBytes + lane * 16, ptx::ld_cg_16(hidden + c * nvfp4::kChunk));
  __syncwarp();
  float sum[2] = {};
  weights.multiply(runs, zeros, sum, lane, count);

  // 4. Add the sums of the warps, and write the output.
  float* at = sums + warp * kDownSums + lane_row;
  if (lane_quad == 0) at[0] = sum[0] * factor, at[8] = sum[1] * factor;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const int row = threadIdx.x % 16;
  float out = 0.0f;
  for (int w = threadIdx.x / 16; w < warps; w += 2) out += sums[w * kDownSums + row];
  out += __shfl_xor_sync(kAllLanes, out, 16);
  if (threadIdx.x < 16) p.out[static_cast<int64_t>(token) * p.hidden + down_row<kShapes>(p, p.routed, tile, row)] = to_bf16(out);
}

}  // namespace moe
}  // namespace dgx

// hidden[slot, i] = gate(w1[i] . x) * (w3[i] . x): one block a slot and one or two tiles of 8 values of i. The block's x is
// brought in order once; then each warp runs through its tile's weights, or through its part of the hidden size of them.
#pragma once

#include <cstdint>

#include <common/nvfp4_rows.cuh>
#include <common/nvfp4_runs.cuh>
#include <moe_layer.cuh>
#include <ptx/copy.cuh>
#include <ptx/grid.cuh>
#include <ptx/load.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace moe {

constexpr int kGateUpMaxWarps = 8;
constexpr int kGateUpTiles = 2;  // of a block of several tokens
static_assert(nvfp4::kHalf / 8 % kGateUpTiles == 0, "Intermediate sizes are whole blocks.");
constexpr int kMaxHidden = 16384;  // whose columns, and rings, 99 KiB of shared memory hold
// Blocks of the most warps that a multiprocessor has registers for. One more would leave a thread 80, as on sm_90a; with
// these the code for sm_121a spills.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kGateUpResident = 2;
#else
constexpr int kGateUpResident = 3;
#endif

// A block's shared memory: the columns of all stages, zeros, each warp's part of the gate's logits, rings of weights.
struct GateUpRoom {
  int zeros, logits, rings, bytes;

  template <Shapes kShapes>
  __host__ __device__ static constexpr int ring_bytes() {
    return kDepth * kWeightBytes<kShapes>;
  }
  template <Shapes kShapes>
  __host__ __device__ static constexpr GateUpRoom of(int hidden, int warps) {
    GateUpRoom room{};
    room.zeros = nvfp4::stages(hidden) * kColumnsBytes;
    room.logits = room.zeros + nvfp4::kZeroBytes;
    room.rings = room.logits + kGateUpMaxWarps * kColumns * static_cast<int>(sizeof(float));
    room.bytes = room.rings + warps * ring_bytes<kShapes>();
    return room;
  }
};

// The slots of one product: the second is below 0 where there is none. `first` below 0: another slot's product has it.
struct Pair {
  int first, second;
};

// Slots of an expert pair up in order. All lanes give the slot's pair if it is the first of one.
__device__ __forceinline__ Pair pair_of(const int32_t* ids, int slots, int slot, int id, int lane) {
  constexpr int kAtOnce = 4;  // words that a lane waits for together
  int before = 0, next = -1;
  for (int base = 0; base < slots; base += kAtOnce * 32) {
    int other[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; i++) other[i] = base + i * 32 + lane < slots ? ids[base + i * 32 + lane] : ~id;
#pragma unroll
    for (int i = 0; i < kAtOnce; i++) {
      const unsigned same = __ballot_sync(kAllLanes, other[i] == id);
      const int shift = slot - base - i * 32;
      const unsigned below = shift <= 0 ? 0 : shift >= 32 ? same : same & ((1u << shift) - 1);
      const unsigned above = shift < 0 ? same : shift >= 31 ? 0 : same & ~((2u << shift) - 1);
      before += __popc(below);
      if (next < 0 && above) next = base + i * 32 + __ffs(above) - 1;
    }
  }
  return {before & 1 ? -1 : slot, next};
}

// Brings a stage of columns in order, by the lanes that have copied them; `see` is shown each column's values first.
template <Shapes kShapes, class See>
__device__ __forceinline__ void order_columns(uint32_t columns, bool second, int lane, const See& see) {
#pragma unroll
  for (int c = 0; c < kColumns; c++) {
    if (c && !second) continue;
    const uint32_t unit = columns + c * nvfp4::kColumnBytes + lane * 16;
    const uint4 values = ptx::ld_shared_16(unit);
    see(c, values);
    ptx::st_shared_16(unit, run_unit<kShapes>(values, lane));
  }
}

static_assert(GateUpRoom::of<Shapes::kAny>(kMaxHidden, kGateUpTiles).bytes <= 99 * 1024,
              "A block holds the columns of the largest hidden size, even on the chip with the least shared memory.");

template <Shapes kShapes>
__global__ void __launch_bounds__(kGateUpMaxWarps * 32, kGateUpResident) moe_gate_up(const __grid_constant__ Layer p) {
  constexpr bool kWhole = kShapes != Shapes::kAny;

  // 1. Which part of which product this warp computes.
  char* memory = reinterpret_cast<char*>(ptx::dynamic_shared_memory());
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int lane_row = lane >> 2, lane_quad = lane & 3;
  const int parts = p.gate_up_parts, tiles = warps / parts, first_tile = blockIdx.x * tiles;
  const int tile = first_tile + warp / parts, part = warp % parts, token = blockIdx.z;
  const bool shared = has_shared(p) && blockIdx.y == 0;
  const int slot = token * p.top_k + static_cast<int>(blockIdx.y) - has_shared(p);
  const Experts& e = shared ? p.shared : p.routed;
  if (first_tile * 8 >= e.intermediate || (shared && token % 2)) return;

  // 2. Shared memory, as GateUpRoom lays it out.
  const GateUpRoom room = GateUpRoom::of<kShapes>(p.hidden, warps);
  const uint32_t columns = ptx::shared_address(memory), zeros = columns + room.zeros;
  const uint32_t ring = pin_register(columns + room.rings + warp * GateUpRoom::ring_bytes<kShapes>(), lane);
  float* logits = reinterpret_cast<float*>(memory + room.logits);  // [warp][column]
  const int stages = nvfp4::stages(p.hidden);
  const auto copy_column = [&](int column, int of) {
    const bf16_bits* x = p.x + of * p.x_stride + lane * 8;
    const uint32_t to = columns + column * nvfp4::kColumnBytes + lane * 16;
    for (int s = warp; s < stages; s += warps)
      ptx::cp_async_16(to + s * kColumnsBytes, x + s * nvfp4::kStage, kWhole || s * nvfp4::kStage + lane * 8 < p.hidden);
  };
  nvfp4::write_zeros(zeros, threadIdx.x);

  // 3. Start the copies of x, once the grid in front has written it: before those of weights, behind which they would stand.
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  Pair pair = {token, shared && token + 1 < p.tokens ? token + 1 : -1};
  copy_column(0, token);
  if (pair.second >= 0) copy_column(1, pair.second);
  ptx::cp_async_commit();
  int id = 0, expert = 0;
  if (!shared) {
    id = p.ids[slot];
    expert = local_expert(p, id);
  }
  if (expert < 0) {  // a block must not end while its shared memory is being written
    ptx::cp_async_wait<0>();
    return;
  }

  // 4. Start the copies of the first weights, before it is known whether another slot's block has them too: then they are in
  //    L2 for that one.
  const int part_stages = (stages + parts - 1) / parts, first = part * part_stages, last = min(stages, first + part_stages);
  // From the first stage of a turn of the ring on.
  Source<kShapes> source = gate_up_source<kShapes>(p, e, expert, tile, lane);
  if constexpr (kWhole) source.advance(first);
  const auto copy_weights = [&](int turn, int s) {
    copy_stage<kShapes>(ring + turn % kDepth * kWeightBytes<kShapes>, source, kWhole ? turn : s, lane);
  };
#pragma unroll
  for (int d = 0; d < kDepth; d++) {
    if (first + d < last) copy_weights(d, first + d);
    ptx::cp_async_commit();
  }

  // 5. Find the pair of slots of this product, and start the copies of the second one's x.
  if (!shared) pair = pair_of(p.ids, p.tokens * p.top_k, slot, id, lane);
  if (pair.first < 0) {
    ptx::cp_async_wait<0>();
    return;
  }
  const bool second = pair.second >= 0;
  if (second && !shared) {
    copy_column(1, pair.second / p.top_k);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
  } else {
    ptx::cp_async_wait<kDepth>();
  }

  // 6. Bring x in order; compute the logits of the shared expert's gate.
  const bool gated = shared && p.shared_gate;
  float logit[kColumns] = {};
  for (int s = warp; s < stages; s += warps)
    order_columns<kShapes>(columns + s * kColumnsBytes, second, lane, [&](int column, const uint4& values) {
      const int at = s * nvfp4::kStage + lane * 8;
      if (gated && (kWhole || at < p.hidden)) logit[column] += gate_product(values, ptx::ld_constant_16(p.shared_gate + at));
    });
  if (gated) {
    const float low = warp_sum(logit[0]), high = warp_sum(logit[1]);
    if (lane < kColumns) logits[warp * kColumns + lane] = lane ? high : low;
  }
  __syncthreads();

  // 7. Multiply, stage by stage, while the next stages are copied.
  const float* global = e.global13 + expert * e.globals13;
  const float gate_scale = global[0] * nvfp4::kRunProductScale, up_scale = global[e.globals13 - 1] * nvfp4::kRunProductScale;
  const Products<kShapes> products(ring, nvfp4::run_scale_slot(strided<kShapes>(e, e.intermediate), lane), lane);
  uint32_t run = lane_run<kShapes>(columns + first * kColumnsBytes, zeros, lane);
  const uint32_t step = lane_run<kShapes>(columns + (first + 1) * kColumnsBytes, zeros, lane) - run;
  const int chunks = nvfp4::chunks(p.hidden);
  float sum[2] = {};
#pragma unroll 1
  for (int base = first; base < last; base += kDepth) {
#pragma unroll
    for (int turn = 0; turn < kDepth; turn++) {
      const int s = base + turn;
      if (s >= last) break;
      ptx::cp_async_wait<kDepth - 1>();
      __syncwarp();
      products.add(turn * kWeightBytes<kShapes>, run, kWhole ? 2 : chunks - s * 2, sum);
      __syncwarp();
      if (s + kDepth < last) copy_weights(turn + kDepth, s + kDepth);
      ptx::cp_async_commit();
      run += step;
    }
    if constexpr (kWhole) source.advance(kDepth);
  }
  nvfp4::add_runs(sum);  // lanes with an even lane_quad hold gate and up of lane_row, for column lane_quad / 2

  // 8. Add the sums of the warps of a tile, and write the hidden states.
  const auto finish = [&](int tile, int column, int row, float gate, float up) {
    const int mine = column ? pair.second : pair.first;
    if (mine < 0) return;
    float weight = 1.0f;
    if (gated) {
      float logit = 0.0f;
      for (int w = 0; w < warps; w++) logit += logits[w * kColumns + column];
      weight = sigmoid(logit);
    }
    write_hidden<kShapes>(p, shared, mine, tile, row, gate * gate_scale, up * up_scale, weight);
  };
  if (parts == 1) {
    if (lane_quad % 2 == 0) finish(tile, lane_quad >> 1, lane_row, sum[0], sum[1]);
    return;
  }
  constexpr int kSums = 32;  // of a warp: [gate, up][column][row]
  float* sums = reinterpret_cast<float*>(memory);
  __syncthreads();
  if (lane_quad % 2 == 0) {
    float* at = sums + warp * kSums + (lane_quad >> 1) * 8 + lane_row;
    at[0] = sum[0], at[16] = sum[1];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < tiles * 16; i += blockDim.x) {
    float gate = 0.0f, up = 0.0f;
    for (int w = 0; w < parts; w++) {
      const float* from = sums + (i / 16 * parts + w) * kSums + i % 16;
      gate += from[0], up += from[16];
    }
    finish(first_tile + i / 16, i / 8 % 2, i % 8, gate, up);
  }
}

}  // namespace moe
}  // namespace dgx

// out[token, n] = sum over the token's slots of weight * (w2[n] . hidden[slot]): one block 16 values of n. Its stages, of all
// units one after another, are shared out evenly among its warps.
#pragma once

#include <cstdint>

#include <common/bf16.cuh>
#include <common/block_scales.cuh>
#include <common/nvfp4_rows.cuh>
#include <common/nvfp4_runs.cuh>
#include <moe_layer.cuh>
#include <ptx/copy.cuh>
#include <ptx/grid.cuh>
#include <ptx/load.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace moe {

constexpr int kDownMaxWarps = 12;
// Blocks of the most warps that a multiprocessor has registers for. One more would leave a thread 80, as on sm_90a; with
// these the code for sm_121a spills.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kDownResident = 1;
#else
constexpr int kDownResident = 2;
#endif

// Of a stage, weights before columns; of a warp's ring of them.
template <Shapes kShapes>
constexpr int kStageBytes = kWeightBytes<kShapes> + kColumnsBytes;
template <Shapes kShapes>
constexpr int kRingBytes = kDepth * kStageBytes<kShapes>;

// A slot of a unit: of the routed experts', or a token of the shared one.
struct Member {
  int32_t slot;  // below 0: none
  int32_t token;
  float factor;  // of its product in the token's sum
  int32_t expert;
};

// Two slots of one expert.
struct Unit {
  int64_t weight, scale;  // bytes from the first expert's matrix to this one's
  Member members[kColumns];
};

static_assert(sizeof(Member) == 16 && sizeof(Unit) == 48, "Lanes read members and offsets 16 bytes at a time.");

__host__ __device__ inline int shared_units(const Layer& p) { return p.shared.weight13 ? (p.tokens + 1) / 2 : 0; }

// What a block knows of the layer's units, in shared memory.
struct UnitTable {
  Unit* units;        // the shared expert's, then the routed ones by their first slot
  int32_t* experts;   // of each slot, then -1 up to a multiple of four
  int32_t* next;      // the next slot of the same expert; kNotFirst where a slot is another's second
  uint32_t* leaders;  // a bit for each slot that is a unit's first
};

constexpr int kNotFirst = -2;

__host__ __device__ inline int most_units(const Layer& p) { return p.tokens * p.top_k + shared_units(p); }

__host__ __device__ inline int unit_table_bytes(const Layer& p) {
  const int slots = static_cast<int>(round_up(p.tokens * p.top_k, 32));
  return most_units(p) * static_cast<int>(sizeof(Unit)) + 2 * slots * 4 + static_cast<int>(round_up(slots / 32, 4)) * 4;
}

__device__ __forceinline__ UnitTable unit_table(const Layer& p, char* at) {
  const int slots = static_cast<int>(round_up(p.tokens * p.top_k, 32));
  UnitTable table;
  table.units = reinterpret_cast<Unit*>(at);
  table.experts = reinterpret_cast<int32_t*>(table.units + most_units(p));
  table.next = table.experts + slots;
  table.leaders = reinterpret_cast<uint32_t*>(table.next + slots);
  return table;
}

// The number of units, once every thread of the block has come here; their factors are still to be written.
__device__ __forceinline__ int list_units(const Layer& p, const UnitTable& table) {
  const int slots = p.tokens * p.top_k, shared = shared_units(p);

  // 1. Each slot's expert; the shared expert's units, two tokens each.
  for (int s = threadIdx.x; s < (slots + 3) / 4 * 4; s += blockDim.x)
    table.experts[s] = s < slots ? local_expert(p, ptx::ld_relaxed(p.ids + s)) : -1;
  for (int u = threadIdx.x; u < shared; u += blockDim.x) {
    const int first = 2 * u, second = first + 1 < p.tokens ? first + 1 : -1;
    table.units[u] = {0, 0, {{first, first, 0.0f, 0}, {second, second, 0.0f, 0}}};
  }
  __syncthreads();

  // 2. Which slots are the first of a unit, and which slot is the second: those of an expert pair up in order.
  for (int base = 0; base < slots; base += blockDim.x) {
    const int s = base + threadIdx.x;
    if (s / 32 * 32 >= slots) break;
    const int expert = s < slots ? table.experts[s] : -1;
    int before = 0, next = -1;
    for (int other = (slots - 1) / 4 * 4; other >= 0; other -= 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(table.experts + other);
#pragma unroll
      for (int i = 3; i >= 0; i--) {
        const bool same = static_cast<int>(nvfp4::word(four, i)) == expert;
        before += same && other + i < s;
        if (same && other + i > s) next = other + i;
      }
    }
    const bool leads = expert >= 0 && before % 2 == 0;
    const unsigned mask = __ballot_sync(kAllLanes, leads);
    if (threadIdx.x % 32 == 0) table.leaders[s / 32] = mask;
    if (s < slots) table.next[s] = leads ? next : kNotFirst;
  }
  __syncthreads();

  // 3. The routed experts' units, by their first slot.
  int count = shared;
  for (int w = 0; w * 32 < slots; w++) count += __popc(table.leaders[w]);
  for (int s = threadIdx.x; s < slots; s += blockDim.x) {
    const int second = table.next[s];
    if (second == kNotFirst) continue;
    int rank = shared + __popc(table.leaders[s / 32] & ((1u << s % 32) - 1));
    for (int w = 0; w < s / 32; w++) rank += __popc(table.leaders[w]);
    const int expert = table.experts[s];
    table.units[rank] = {expert * p.routed.weight2_stride, expert * p.routed.scale2_stride,
                         {{s, s / p.top_k, 0.0f, expert}, {second, second / p.top_k, 0.0f, expert}}};
  }
  __syncthreads();
  return count;
}

// Each thread writes some of the units' factors.
__device__ __forceinline__ void write_factors(const Layer& p, const UnitTable& table, int units) {
  const int shared = shared_units(p);
  for (int i = threadIdx.x; i < units * kColumns; i += blockDim.x) {
    Member& member = table.units[i / kColumns].members[i % kColumns];
    if (member.slot < 0) continue;
    const bool routed = i / kColumns >= shared;
    float factor = (routed ? p.routed : p.shared).global2[member.expert];
    if (routed && !p.weight_on_input) factor *= ptx::ld_relaxed(p.router_weights + member.slot);
    member.factor = factor * nvfp4::kRunProductScale;
  }
}

// A warp's place in its share of a block's stages.
struct Cursor {
  int unit, left;  // stages of the unit
};

// The stages of a block's units, of 16 rows each, and one warp's sums.
template <Shapes kShapes>
struct DownWalk {
  static constexpr bool kWhole = kShapes != Shapes::kAny;

  const Layer& p;
  const Unit* units;
  float* sums;  // of this warp: [token][row of 16]
  int tile, shared, lane;
  int routed_stages, shared_stages;  // of a unit
  Source<kShapes> base;  // of the first of the experts, routed or shared, whose stages are being copied
  // Of the unit whose stages are: from the next stage on, or where sizes are not whole from the first.
  Source<kShapes> source;
  const bf16_bits* columns[kColumns];
  bool second;
  int intermediate;

  __device__ __forceinline__ DownWalk(const Layer& p, const Unit* units, float* sums, int tile, int lane)
      : p(p), units(units), sums(sums), tile(tile), shared(shared_units(p)), lane(lane),
        routed_stages(pin_register(nvfp4::stages(p.routed.intermediate), lane)),
        shared_stages(pin_register(nvfp4::stages(p.shared.intermediate), lane)) {}

  __device__ __forceinline__ const Experts& experts(int unit) const { return unit < shared ? p.shared : p.routed; }
  __device__ __forceinline__ int stages(int unit) const { return unit < shared ? shared_stages : routed_stages; }
  __device__ __forceinline__ int all_stages(int count) const {
    return shared * shared_stages + (count - shared) * routed_stages;
  }

  __device__ __forceinline__ Cursor seek(int item) const {
    const int all = shared * shared_stages, start = item < all ? 0 : shared, left = item < all ? item : item - all;
    const int unit_stages = stages(start);
    return {start + left / unit_stages, unit_stages - left % unit_stages};
  }
  __device__ __forceinline__ void advance(Cursor& at) const {
    if (--at.left == 0) at.unit++, at.left = stages(at.unit);
  }
  __device__ __forceinline__ nvfp4::ScaleSlot scales(int unit) const {
    return nvfp4::run_scale_slot(strided<kShapes>(experts(unit), p.hidden), lane);
  }

  // Takes the experts that a unit is one of.
  __device__ __forceinline__ void choose(int unit) {
    base = down_source<kShapes>(p, experts(unit), 0, tile, lane);
  }

  // Takes a unit, from `stage` on.
  __device__ __forceinline__ void enter(int unit, int stage) {
    const Unit& entered = units[unit];
    const int first = entered.members[0].slot, other = entered.members[1].slot;
    source = base;
    if constexpr (kShapes == Shapes::kSparse) {
      source.tiles += entered.weight;
    } else {
      source.weight += entered.weight, source.scale += entered.scale;
    }
    if constexpr (kWhole) source.advance(stage);
    second = other >= 0;
    intermediate = experts(unit).intermediate;
    const bf16_bits* hidden = hidden_row(p, unit < shared, 0) + lane * 8 + stage * nvfp4::kStage;
    columns[0] = hidden + first * intermediate;
    columns[1] = hidden + other * intermediate;
  }

  // Starts the copies of the next stage, which is `stage` of the unit.
  __device__ __forceinline__ void copy_weights(uint32_t to, int stage) const {
    copy_stage<kShapes>(to, source, kWhole ? 0 : stage, lane);
  }
  __device__ __forceinline__ void copy_columns(uint32_t stage_bytes, int stage) const {
    const uint32_t to = stage_bytes + kWeightBytes<kShapes> + lane * 16;
    const bool valid = kWhole || stage * nvfp4::kStage + lane * 8 < intermediate;
    ptx::cp_async_16(to, columns[0], valid);
    if (second) ptx::cp_async_16(to + nvfp4::kColumnBytes, columns[1], valid);
  }
  __device__ __forceinline__ void step() {
    if constexpr (kWhole) source.advance(1);
    columns[0] += nvfp4::kStage, columns[1] += nvfp4::kStage;
  }

  // Adds a unit's sums: lanes with even t hold rows g and g + 8 of column t / 2.
  __device__ __forceinline__ void finish(int unit, const float (&sum)[2]) const {
    const Member mine = units[unit].members[lane >> 1 & 1];
    float* to = sums + mine.token * 16 + (lane >> 2);
#pragma unroll
    for (int c = 0; c < kColumns; c++) {  // one after another, as both may be one token's
      if ((lane & 3) == 2 * c && mine.slot >= 0) to[0] += mine.factor * sum[0], to[8] += mine.factor * sum[1];
      __syncwarp();
    }
  }
};

// Where `part` of `parts` equal shares of `count` begins.
__device__ __forceinline__ int share(int count, int part, int parts) {
  return static_cast<int>(static_cast<int64_t>(count) * part / parts);
}

// Starts the copies of the weights of the first of `count` stages, from `first` on.
template <Shapes kShapes>
__device__ __forceinline__ void copy_first_weights(DownWalk<kShapes>& walk, uint32_t ring, int first, int count) {
  Cursor ahead = walk.seek(first);
#pragma unroll 1
  for (int d = 0; d < min(count, kDepth); d++) {
    const int stages = walk.stages(ahead.unit), stage = stages - ahead.left;
    if (d == 0 || stage == 0) walk.choose(ahead.unit), walk.enter(ahead.unit, stage);
    walk.copy_weights(ring + d * kStageBytes<kShapes>, stage);
    walk.step();
    walk.advance(ahead);
  }
}

// Runs through those stages.
template <Shapes kShapes>
__device__ __forceinline__ void stream(DownWalk<kShapes>& walk, uint32_t zeros, uint32_t ring, int first, int count,
                                       int lane) {
  Products<kShapes> products(ring, nvfp4::run_scale_slot(kShapes == Shapes::kSwizzled, lane), lane);
  Cursor ahead = walk.seek(first), at = ahead;
  float sum[2] = {};
  const uint32_t columns = ring + kWeightBytes<kShapes>;
  int turn = 0;  // bytes into the ring
#pragma unroll 1
  for (int u = -kDepth; u < count; u++) {
    if (u >= 0) {  // multiply stage u, and finish its unit where it is the last
      ptx::cp_async_wait<kDepth - 1>();
      __syncwarp();
      if constexpr (kShapes == Shapes::kAny) products.first.set_scales(ring, walk.scales(at.unit));
      products.add(turn, lane_run<kShapes>(columns + turn, zeros, lane), 2, sum);
      __syncwarp();
      if (at.left == 1 || u + 1 == count) {
        nvfp4::add_runs(sum);
        walk.finish(at.unit, sum);
        sum[0] = sum[1] = 0.0f;
      }
      walk.advance(at);
    }
    const int to = u + kDepth;
    if (to < count) {  // start the copies of stage `to`, whose first weights are under way already
      const int stages = walk.stages(ahead.unit), stage = stages - ahead.left;
      if (to == 0 || stage == 0) {
        if (to == 0 || ahead.unit == walk.shared) walk.choose(ahead.unit);
        walk.enter(ahead.unit, stage);
      }
      if (to >= kDepth) walk.copy_weights(ring + turn, stage);
      walk.copy_columns(ring + turn, stage);
      walk.step();
      walk.advance(ahead);
    }
    ptx::cp_async_commit();
    turn ^= kStageBytes<kShapes>;
  }
}

template <Shapes kShapes>
__global__ void __launch_bounds__(kDownMaxWarps * 32, kDownResident) moe_down(const __grid_constant__ Layer p) {
  // 1. Shared memory: zeros, the warps' rings, their sums, the table of units.
  uint4* shared_memory = ptx::dynamic_shared_memory();
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const uint32_t zeros = ptx::shared_address(shared_memory);
  const uint32_t ring = zeros + nvfp4::kZeroBytes + warp * kRingBytes<kShapes>;
  char* behind = reinterpret_cast<char*>(shared_memory) + nvfp4::kZeroBytes + warps * kRingBytes<kShapes>;
  float* all_sums = reinterpret_cast<float*>(behind);  // [warp][token][row of 16]
  const UnitTable table = unit_table(p, reinterpret_cast<char*>(all_sums + warps * p.tokens * 16));

  // 2. List the units. The grid in front is moe_gate_up, which lets this one start only after its own wait: the ids are there to be read.
  nvfp4::write_zeros(zeros, threadIdx.x);
  const int units = list_units(p, table);

  // 3. Take this warp's share of their stages. The weights of the first ones do not wait for the grid in front; its hidden
  //    states do.
  DownWalk<kShapes> walk(p, table.units, all_sums + warp * p.tokens * 16, static_cast<int>(blockIdx.x), lane);
  const int all = walk.all_stages(units);
  const int first = share(all, warp, warps), count = share(all, warp + 1, warps) - first;
  copy_first_weights(walk, ring, first, count);
  for (int i = lane; i < p.tokens * 16; i += 32) walk.sums[i] = 0.0f;
  write_factors(p, table, units);
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  __syncthreads();

  // 4. Multiply, stage by stage, while the next stages are copied.
  stream(walk, zeros, ring, first, count, lane);

  // 5. Add the sums of the warps, and write the output.
  ptx::cp_async_wait<0>();
  __syncthreads();
  for (int i = threadIdx.x; i < p.tokens * 16; i += blockDim.x) {
    float sum = 0.0f;
    for (int w = 0; w < warps; w++) sum += all_sums[w * p.tokens * 16 + i];
    p.out[static_cast<int64_t>(i / 16) * p.hidden + down_row<kShapes>(p, p.routed, walk.tile, i % 16)] = to_bf16(sum);
  }
}

}  // namespace moe
}  // namespace dgx

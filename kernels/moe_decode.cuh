// A mixture-of-experts layer for 1 to 16 tokens on NVFP4 weights as the checkpoint has them, in two grids:
//
//   moe_gate_up   hidden[slot, i] = gate(w1[i] . x) * (w3[i] . x)                 one block a slot and 8 values of i
//   moe_down      out[token, n] = sum over the token's slots of weight * (w2[n] . hidden[slot])    one block 16 values of n
//
// A slot is one choice of one token; the shared expert is one more slot of every token. Two slots that chose the same expert
// are two columns of one product, so that its weights are read once; a third and fourth are a product of their own, whose
// weights come from L2. Every sum is taken in an order that only the inputs decide: the same bits each time.
#pragma once

#include <cstdint>

#include <common/activation.cuh>
#include <common/bf16.cuh>
#include <common/block_scales.cuh>
#include <common/nvfp4_rows.cuh>
#include <ptx/copy.cuh>
#include <ptx/grid.cuh>
#include <ptx/load.cuh>

namespace dgx {
namespace moe {

constexpr int kMaxTokens = 16;
constexpr int kMaxSlots = 512;
constexpr int kDepth = 2;    // stages under way in each warp
constexpr int kColumns = 2;  // slots that share a product
constexpr int kGateUpMaxWarps = 8;
constexpr int kDownMaxWarps = 12;
constexpr int kStageBytes = nvfp4::kStageBytes + kColumns * nvfp4::kColumnBytes;
constexpr int kRingBytes = kDepth * kStageBytes + nvfp4::kColumnBytes;  // and zeros, for the columns that are none
constexpr unsigned kAllLanes = 0xffffffffu;

static_assert(kDepth == 2, "Stages take turns.");

// Experts of one shape. Strides follow from the shapes; `scale` tensors are laid out as `layout` says.
struct Experts {
  const uint8_t* weight13;  // [experts, 2 * intermediate, hidden / 2]
  const uint8_t* scale13;
  const float* global13;    // [experts, globals13]: gate, up
  const uint8_t* weight2;   // [experts, hidden, intermediate / 2]
  const uint8_t* scale2;
  const float* global2;     // [experts]
  int64_t weight13_stride, scale13_stride, weight2_stride, scale2_stride;  // bytes from one expert to the next
  int intermediate;
  int globals13;            // 1 or 2
  ScaleLayout layout;
  bool up_first;            // w13 holds the up rows before the gate rows
};

struct Layer {
  Experts routed;
  Experts shared;                 // weight13 null where the layer has none
  const bf16_bits* x;             // [tokens, hidden], x_stride apart
  const int32_t* ids;             // [tokens, top_k]; below 0: no expert
  const float* router_weights;    // [tokens, top_k]
  const int32_t* expert_map;      // [map_size] to local experts, below 0: not here; or null
  const void* shared_gate;        // [tokens], or null for 1
  bf16_bits* hidden_states;       // [tokens * top_k, intermediate], then [tokens, shared.intermediate]
  bf16_bits* out;                 // [tokens, hidden]
  int64_t x_stride;
  int tokens, top_k, hidden, experts, map_size;
  int gate_up_stages;             // stages of K for each warp of moe_gate_up
  Gate gate;
  bool weight_on_input;           // the router's weight scales x, not the expert's output
  bool shared_gate_bf16;
  bool shared_gate_logit;         // shared_gate still wants its sigmoid
};

__device__ __forceinline__ bool has_shared(const Layer& p) { return p.shared.weight13 != nullptr; }

__device__ __forceinline__ int local_expert(const Layer& p, int id) {
  if (id < 0 || id >= p.map_size) return -1;
  const int expert = p.expert_map ? p.expert_map[id] : id;
  return expert < p.experts ? expert : -1;
}

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

__device__ __forceinline__ bf16_bits* hidden_row(const Layer& p, bool shared, int member) {
  if (!shared) return p.hidden_states + static_cast<int64_t>(member) * p.routed.intermediate;
  return p.hidden_states + static_cast<int64_t>(p.tokens) * p.top_k * p.routed.intermediate +
         static_cast<int64_t>(member) * p.shared.intermediate;
}

__device__ __forceinline__ bool strided(const Experts& e, int rows) {
  return e.layout == ScaleLayout::kSwizzled && rows % 128 == 0;
}

__device__ __forceinline__ nvfp4::Source gate_up_source(const Layer& p, const Experts& e, int expert, int tile, int lane) {
  const bool by_blocks = strided(e, e.intermediate);
  const int row = tile_row<8>(by_blocks, tile, 0), gate = e.up_first ? e.intermediate : 0, up = e.intermediate - gate;
  return nvfp4::source(e.weight13 + expert * e.weight13_stride, e.scale13 + expert * e.scale13_stride, e.layout, by_blocks,
                       gate + row, up + row, p.hidden, lane);
}

__device__ __forceinline__ int down_row(const Layer& p, const Experts& e, int tile, int index) {
  return tile_row<16>(strided(e, p.hidden), tile, index);
}

__device__ __forceinline__ nvfp4::Source down_source(const Layer& p, const Experts& e, int expert, int tile, int lane) {
  return nvfp4::source(e.weight2 + expert * e.weight2_stride, e.scale2 + expert * e.scale2_stride, e.layout,
                       strided(e, p.hidden), down_row(p, e, tile, 0), down_row(p, e, tile, 8), e.intermediate, lane);
}

__device__ __forceinline__ char* warp_ring(uint4* shared_memory, int warp) {
  return reinterpret_cast<char*>(shared_memory) + warp * kRingBytes;
}

// The end of a warp's ring.
__device__ __forceinline__ char* write_zeros(char* ring, int lane) {
  char* zeros = ring + kDepth * kStageBytes;
  *reinterpret_cast<uint4*>(zeros + lane * 16) = make_uint4(0, 0, 0, 0);
  return zeros;
}

// A stage that has come in: the columns brought in order, and which of them this lane works on.
__device__ __forceinline__ const char* take_columns(char* stage, bool second, const char* zeros, int lane) {
  char* columns = stage + nvfp4::kStageBytes;
  nvfp4::pair_column(columns, 0, lane);
  if (second) nvfp4::pair_column(columns + nvfp4::kColumnBytes, 1, lane);
  __syncwarp();
  const int g = lane >> 2;
  return g == 0 || (g == 1 && second) ? columns + g * nvfp4::kColumnBytes : zeros;
}

__global__ void __launch_bounds__(kGateUpMaxWarps * 32, 3) moe_gate_up(const __grid_constant__ Layer p) {
  extern __shared__ uint4 shared_memory[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, g = lane >> 2, t = lane & 3;
  char* ring = warp_ring(shared_memory, warp);
  const bool shared = has_shared(p) && blockIdx.y == 0;
  const int tile = blockIdx.x, token = blockIdx.z, slot = token * p.top_k + static_cast<int>(blockIdx.y) - has_shared(p);
  const Experts& e = shared ? p.shared : p.routed;
  if (tile * 8 >= e.intermediate || (shared && token % 2)) return;
  const char* zeros = write_zeros(ring, lane);

  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  int id = 0, expert = 0;
  if (!shared) {
    id = p.ids[slot];
    expert = local_expert(p, id);
    if (expert < 0) return;
  }
  const nvfp4::Source source = gate_up_source(p, e, expert, tile, lane);
  const int first = warp * p.gate_up_stages, last = min(nvfp4::stages(p.hidden), first + p.gate_up_stages);
  // Weights are asked for before it is known whether another slot's block has them too: then they are in L2 for that one.
#pragma unroll
  for (int d = 0; d < kDepth; d++)
    if (first + d < last) nvfp4::copy_stage(ring + d * kStageBytes, source, first + d, lane);

  Pair pair = {token, token + 1 < p.tokens ? token + 1 : -1};
  if (!shared) pair = pair_of(p.ids, p.tokens * p.top_k, slot, id, lane);
  if (pair.first < 0) {  // a block must not end while its shared memory is being written
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    return;
  }
  const bool second = pair.second >= 0;
  const bf16_bits* x = p.x + token * p.x_stride;
  const bf16_bits* other = p.x + (second ? shared ? pair.second : pair.second / p.top_k : 0) * p.x_stride;
  const auto copy_columns = [&](char* stage, int s) {
    nvfp4::copy_column(stage + nvfp4::kStageBytes, 0, x, s, p.hidden, lane);
    if (second) nvfp4::copy_column(stage + nvfp4::kStageBytes + nvfp4::kColumnBytes, 1, other, s, p.hidden, lane);
  };
#pragma unroll
  for (int d = 0; d < kDepth; d++) {
    if (first + d < last) copy_columns(ring + d * kStageBytes, first + d);
    ptx::cp_async_commit();
  }
  const float* global = e.global13 + expert * e.globals13;
  const float gate_scale = global[0] * nvfp4::kProductScale, up_scale = global[e.globals13 - 1] * nvfp4::kProductScale;

  const nvfp4::ScaleSlot scales = nvfp4::scale_slot(source.strided, lane);
  const int chunks = nvfp4::chunks(p.hidden);
  float c[1][2][4] = {};
#pragma unroll 1
  for (int s = first; s < last; s++) {
    char* stage = ring + ((s - first) & 1) * kStageBytes;
    ptx::cp_async_wait<kDepth - 1>();
    const char* columns[1] = {take_columns(stage, second, zeros, lane)};
#pragma unroll
    for (int i = 0; i < 2; i++)
      if (s * 2 + i < chunks) nvfp4::multiply(stage, scales, i, columns, c, lane);
    __syncwarp();
    if (s + kDepth < last) {
      nvfp4::copy_stage(stage, source, s + kDepth, lane);
      copy_columns(stage, s + kDepth);
    }
    ptx::cp_async_commit();
  }
  // Lanes with t = 0 hold gate and up of row g for both columns.
  float sum[4];
#pragma unroll
  for (int i = 0; i < 4; i++) sum[i] = c[0][0][i] + c[0][1][i];

  const auto finish = [&](int column, int row, float gate, float up) {
    const int mine = column ? pair.second : pair.first;
    if (mine < 0) return;
    const float input = p.weight_on_input && !shared ? p.router_weights[mine] : 1.0f;
    const int k = tile_row<8>(strided(e, e.intermediate), tile, row);
    const float value = apply_gate(p.gate, gate * (gate_scale * input)) * (up * (up_scale * input));
    hidden_row(p, shared, mine)[k] = to_bf16(value);
  };
  if (warps == 1) {
    if (t == 0) finish(0, g, sum[0], sum[2]), finish(1, g, sum[1], sum[3]);
    return;
  }
  float* sums = reinterpret_cast<float*>(shared_memory);  // [warp][gate, up][column][row]
  ptx::cp_async_wait<0>();
  __syncthreads();
  if (t == 0) {
    float* at = sums + warp * 32 + g;
    at[0] = sum[0], at[8] = sum[1], at[16] = sum[2], at[24] = sum[3];
  }
  __syncthreads();
  if (threadIdx.x < 16) {
    float gate = 0.0f, up = 0.0f;
    for (int w = 0; w < warps; w++) gate += sums[w * 32 + threadIdx.x], up += sums[w * 32 + 16 + threadIdx.x];
    finish(threadIdx.x / 8, threadIdx.x % 8, gate, up);
  }
}

// A product of moe_down: two slots of one expert, or two tokens of the shared one.
struct Unit {
  int16_t expert, first, second;
};

// What moe_down keeps in shared memory behind the rings, besides each warp's sums.
struct Units {
  int32_t ids[kMaxSlots];
  float factors[kMaxSlots];  // of each slot's product in its token's sum
  Unit listed[kMaxSlots];
  Unit units[kMaxSlots];
  int count;
};

__device__ __forceinline__ void list_units(const Layer& p, Units& units) {
  const int slots = p.tokens * p.top_k, lane = threadIdx.x & 31;
  for (int s = threadIdx.x; s < slots; s += blockDim.x) {
    const int id = ptx::ld_relaxed(p.ids + s), expert = local_expert(p, id);
    const float weight = p.weight_on_input ? 1.0f : ptx::ld_relaxed(p.router_weights + s);
    units.ids[s] = id;
    units.listed[s].expert = static_cast<int16_t>(expert);
    units.factors[s] = expert < 0 ? 0.0f : p.routed.global2[expert] * nvfp4::kProductScale * weight;
  }
  __syncthreads();
  for (int s = threadIdx.x; s < slots; s += blockDim.x) {
    int before = 0, next = -1;
    for (int other = slots - 1; other >= 0; other--) {
      const bool same = units.ids[other] == units.ids[s];
      before += same && other < s;
      if (same && other > s) next = other;
    }
    units.listed[s].first = static_cast<int16_t>(before & 1 ? -1 : s);
    units.listed[s].second = static_cast<int16_t>(next);
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    int count = 0;
    for (int base = 0; base < slots; base += 32) {
      const Unit unit = base + lane < slots ? units.listed[base + lane] : Unit{-1, -1, -1};
      const bool leads = unit.expert >= 0 && unit.first >= 0;
      const unsigned mask = __ballot_sync(kAllLanes, leads);
      if (leads) units.units[count + __popc(mask & ((1u << lane) - 1))] = unit;
      count += __popc(mask);
    }
    if (lane == 0) units.count = count;
  }
  __syncthreads();
}

__device__ __forceinline__ float shared_weight(const Layer& p, int token) {
  if (!p.shared_gate) return 1.0f;
  const float gate = p.shared_gate_bf16 ? from_bf16(static_cast<const bf16_bits*>(p.shared_gate)[token])
                                        : static_cast<const float*>(p.shared_gate)[token];
  return p.shared_gate_logit ? 1.0f / (1.0f + __expf(-gate)) : gate;
}

// The stages of all units in a row, the shared expert's first.
struct Cursor {
  int unit, stage, stages;
};

__global__ void __launch_bounds__(kDownMaxWarps * 32, 1) moe_down(const __grid_constant__ Layer p) {
  extern __shared__ uint4 shared_memory[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, g = lane >> 2, t = lane & 3;
  char* ring = warp_ring(shared_memory, warp);
  float* all_sums = reinterpret_cast<float*>(warp_ring(shared_memory, warps));  // [warp][token][row of 16]
  float* sums = all_sums + warp * p.tokens * 16;
  Units& units = *reinterpret_cast<Units*>(all_sums + warps * p.tokens * 16);
  const int tile = blockIdx.x, shared_units = has_shared(p) ? (p.tokens + 1) / 2 : 0;
  const char* zeros = write_zeros(ring, lane);
  for (int i = lane; i < p.tokens * 16; i += 32) sums[i] = 0.0f;

  // The grid in front is moe_gate_up, which lets this one start only after its own wait: the ids are there to be read.
  list_units(p, units);
  const int routed_stages = nvfp4::stages(p.routed.intermediate);
  const int shared_stages = shared_units ? nvfp4::stages(p.shared.intermediate) : 0;
  const int total = shared_units * shared_stages + units.count * routed_stages;
  const int first = total * warp / warps, count = total * (warp + 1) / warps - first;

  const auto seek = [&](int u) {
    if (u < shared_units * shared_stages) return Cursor{u / shared_stages, u % shared_stages, shared_stages};
    u -= shared_units * shared_stages;
    return Cursor{shared_units + u / routed_stages, u % routed_stages, routed_stages};
  };
  const auto next = [&](Cursor at) {
    if (++at.stage == at.stages) at = Cursor{at.unit + 1, 0, at.unit + 1 < shared_units ? shared_stages : routed_stages};
    return at;
  };
  const auto is_shared = [&](const Cursor& at) { return at.unit < shared_units; };
  const auto unit_of = [&](const Cursor& at) {
    const int token = 2 * at.unit;
    if (is_shared(at))
      return Unit{0, static_cast<int16_t>(token), static_cast<int16_t>(token + 1 < p.tokens ? token + 1 : -1)};
    return units.units[at.unit - shared_units];
  };

  Cursor ahead = seek(first);  // what is copied next
  nvfp4::Source source;
  const bf16_bits* columns[kColumns];
  const auto enter = [&] {
    const Unit unit = unit_of(ahead);
    const bool shared = is_shared(ahead);
    source = down_source(p, shared ? p.shared : p.routed, unit.expert, tile, lane);
    columns[0] = hidden_row(p, shared, unit.first);
    columns[1] = unit.second < 0 ? nullptr : hidden_row(p, shared, unit.second);
  };
  const auto copy_columns = [&](char* stage) {
#pragma unroll
    for (int i = 0; i < kColumns; i++)
      if (columns[i])
        nvfp4::copy_column(stage + nvfp4::kStageBytes + i * nvfp4::kColumnBytes, i, columns[i], ahead.stage,
                           2 * static_cast<int>(source.bytes), lane);
  };
  // The weights of the first stages do not wait for the grid in front; its hidden states do.
  const int early = min(count, kDepth);
#pragma unroll 1
  for (int d = 0; d < early; d++, ahead = next(ahead)) {
    if (d == 0 || ahead.stage == 0) enter();
    nvfp4::copy_stage(ring + d * kStageBytes, source, ahead.stage, lane);
  }
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  ahead = seek(first);
#pragma unroll 1
  for (int d = 0; d < kDepth; d++) {
    if (d < early) {
      if (d == 0 || ahead.stage == 0) enter();
      copy_columns(ring + d * kStageBytes);
      ahead = next(ahead);
    }
    ptx::cp_async_commit();
  }

  Cursor at = seek(first);
  Unit unit;
  nvfp4::ScaleSlot scales;
  float c[1][2][4] = {};
#pragma unroll 1
  for (int u = 0; u < count; u++) {
    const bool shared = is_shared(at);
    const Experts& e = shared ? p.shared : p.routed;
    if (u == 0 || at.stage == 0) {
      unit = unit_of(at);
      scales = nvfp4::scale_slot(strided(e, p.hidden), lane);
    }
    char* stage = ring + (u & 1) * kStageBytes;
    ptx::cp_async_wait<kDepth - 1>();
    const char* column[1] = {take_columns(stage, unit.second >= 0, zeros, lane)};
#pragma unroll
    for (int i = 0; i < 2; i++)
      if (at.stage * 2 + i < nvfp4::chunks(e.intermediate)) nvfp4::multiply(stage, scales, i, column, c, lane);
    __syncwarp();
    if (u + kDepth < count) {
      if (ahead.stage == 0) enter();
      nvfp4::copy_stage(stage, source, ahead.stage, lane);
      copy_columns(stage);
      ahead = next(ahead);
    }
    ptx::cp_async_commit();
    at = next(at);
    if (at.stage > 0 && u + 1 < count) continue;
    // Lanes with t = 0 hold rows g and g + 8 of both columns.
    const auto add = [&](int slot, float low, float high) {
      const float factor = shared ? p.shared.global2[0] * nvfp4::kProductScale * shared_weight(p, slot) : units.factors[slot];
      float* sum = sums + (shared ? slot : slot / p.top_k) * 16 + g;
      sum[0] += factor * low, sum[8] += factor * high;
    };
    if (t == 0) {
      add(unit.first, c[0][0][0] + c[0][1][0], c[0][0][2] + c[0][1][2]);
      if (unit.second >= 0) add(unit.second, c[0][0][1] + c[0][1][1], c[0][0][3] + c[0][1][3]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) c[0][0][i] = c[0][1][i] = 0.0f;
  }

  __syncthreads();
  for (int i = threadIdx.x; i < p.tokens * 16; i += blockDim.x) {
    float sum = 0.0f;
    for (int w = 0; w < warps; w++) sum += all_sums[w * p.tokens * 16 + i];
    p.out[static_cast<int64_t>(i / 16) * p.hidden + down_row(p, p.routed, tile, i % 16)] = to_bf16(sum);
  }
}

}  // namespace moe
}  // namespace dgx

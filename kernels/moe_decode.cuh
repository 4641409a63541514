// A mixture-of-experts layer for 1 to 16 tokens on NVFP4 weights as the checkpoint has them, in two grids:
//
//   moe_gate_up   hidden[slot, i] = gate(w1[i] . x) * (w3[i] . x)                 one block a slot and 8 values of i
//   moe_down      out[token, n] = sum over the token's slots of weight * (w2[n] . hidden[slot])    one block 16 values of n
//
// A slot is one choice of one token; the shared expert is one more slot of every token. A unit is two slots that chose the
// same expert, two columns of one product, so that its weights are read once; a third and fourth are a unit of their own,
// whose weights come from L2. Every sum is taken in an order that only the inputs and the chip decide: the same bits each time.
//
// Weights pruned to 2 of 4 come in compressed tiles (common/sparse24_rows.cuh), gate rows in a tile's first octet and up rows
// in its second.
#pragma once

#include <cstdint>
#include <type_traits>

#include <common/activation.cuh>
#include <common/bf16.cuh>
#include <common/block_scales.cuh>
#include <common/nvfp4_rows.cuh>
#include <common/sparse24_rows.cuh>
#include <ptx/copy.cuh>
#include <ptx/grid.cuh>
#include <ptx/load.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace moe {

constexpr int kMaxTokens = 16;
constexpr int kMaxSlots = 512;
constexpr int kDepth = 2;    // stages under way in each warp
constexpr int kColumns = 2;  // slots that share a product
constexpr int kGateUpMaxWarps = 8;
constexpr int kDownMaxWarps = 12;
// Blocks of the most warps that registers must suffice for: 80 a thread, which do not do without spills on sm_121a.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kGateUpResident = 2, kDownResident = 1;
#else
constexpr int kGateUpResident = 3, kDownResident = 2;
#endif
constexpr int kZeroBytes = 128;  // of which a run of a column that is none takes 64
constexpr unsigned kAllLanes = 0xffffffffu;

static_assert(kDepth == 2, "Stages take turns.");

// Experts of one shape. Strides follow from the shapes; `scale` tensors are laid out as `layout` says.
struct Experts {
  const uint8_t* weight13;  // [experts, 2 * intermediate, hidden / 2], or in tiles
  const uint8_t* scale13;   // null where tiles hold the scales
  const float* global13;    // [experts, globals13]: gate, up
  const uint8_t* weight2;   // [experts, hidden, intermediate / 2]
  const uint8_t* scale2;
  const float* global2;     // [experts]
  int64_t weight13_stride, scale13_stride, weight2_stride, scale2_stride;  // bytes from one expert to the next
  int intermediate;
  int globals13;            // 1 or 2
  ScaleLayout layout;
  bool up_first;            // w13 holds the up rows before the gate rows
  bool sparse;              // 2:4, in tiles
};

struct Layer {
  Experts routed;
  Experts shared;                 // weight13 null where the layer has none
  const bf16_bits* x;             // [tokens, hidden], x_stride apart
  const int32_t* ids;             // [tokens, top_k]; below 0: no expert
  const float* router_weights;    // [tokens, top_k]
  const int32_t* expert_map;      // [map_size] to local experts, below 0: not here; or null
  const bf16_bits* shared_gate;   // [hidden], whose product with x is the logit of the shared expert's weight; null for 1
  bf16_bits* hidden_states;       // [tokens * top_k, intermediate], then [tokens, shared.intermediate]
  bf16_bits* out;                 // [tokens, hidden]
  int64_t x_stride;
  int tokens, top_k, hidden, experts, map_size;
  int gate_up_stages;             // stages of K for each warp of moe_gate_up
  Gate gate;
  bool weight_on_input;           // the router's weight scales x, not the expert's output
};

__device__ __forceinline__ bool has_shared(const Layer& p) { return p.shared.weight13 != nullptr; }

// What the kernels know of the weights when they are compiled.
enum class Shapes : int {
  kAny,
  kSwizzled,  // swizzled scales, all sizes multiples of 256
  kLinear,    // linear scales, all sizes multiples of 256
  kSparse,    // 2:4 in tiles, all sizes multiples of 256
};

// Of a stage, weights before columns; of a warp's ring of them.
template <Shapes kShapes>
constexpr int kWeightBytes = kShapes == Shapes::kSparse ? sparse24::kTileBytes : nvfp4::kStageBytes;
template <Shapes kShapes>
constexpr int kStageBytes = kWeightBytes<kShapes> + kColumns * nvfp4::kColumnBytes;
template <Shapes kShapes>
constexpr int kRingBytes = kDepth * kStageBytes<kShapes>;
template <Shapes kShapes>
constexpr int kGateUpWarpBytes = kRingBytes<kShapes> + kZeroBytes;

template <Shapes kShapes>
using Source = std::conditional_t<kShapes == Shapes::kSparse, sparse24::Source, nvfp4::Source>;

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

template <Shapes kShapes>
__device__ __forceinline__ bool strided(const Experts& e, int rows) {
  if (kShapes != Shapes::kAny) return kShapes == Shapes::kSwizzled;
  return e.layout == ScaleLayout::kSwizzled && rows % 128 == 0;
}

template <Shapes kShapes>
__device__ __forceinline__ ScaleLayout layout(const Experts& e) {
  if (kShapes != Shapes::kAny) return kShapes == Shapes::kSwizzled ? ScaleLayout::kSwizzled : ScaleLayout::kLinear;
  return e.layout;
}

template <Shapes kShapes>
__device__ __forceinline__ Source<kShapes> gate_up_source(const Layer& p, const Experts& e, int expert, int tile, int lane) {
  const uint8_t* weight = e.weight13 + expert * e.weight13_stride;
  if constexpr (kShapes == Shapes::kSparse) {
    return sparse24::source(weight, tile, p.hidden, lane);
  } else {
    const bool by_blocks = strided<kShapes>(e, e.intermediate);
    const int row = tile_row<8>(by_blocks, tile, 0), gate = e.up_first ? e.intermediate : 0, up = e.intermediate - gate;
    return nvfp4::source(weight, e.scale13 + expert * e.scale13_stride, layout<kShapes>(e), by_blocks, gate + row, up + row,
                         p.hidden, lane);
  }
}

template <Shapes kShapes>
__device__ __forceinline__ int down_row(const Layer& p, const Experts& e, int tile, int index) {
  return tile_row<16>(strided<kShapes>(e, p.hidden), tile, index);
}

template <Shapes kShapes>
__device__ __forceinline__ Source<kShapes> down_source(const Layer& p, const Experts& e, int expert, int tile, int lane) {
  const uint8_t* weight = e.weight2 + expert * e.weight2_stride;
  if constexpr (kShapes == Shapes::kSparse)
    return sparse24::source(weight, tile, e.intermediate, lane);
  else
    return nvfp4::source(weight, e.scale2 + expert * e.scale2_stride, layout<kShapes>(e), strided<kShapes>(e, p.hidden),
                         down_row<kShapes>(p, e, tile, 0), down_row<kShapes>(p, e, tile, 8), e.intermediate, lane);
}

template <Shapes kShapes>
__device__ __forceinline__ void copy_stage(char* to, Source<kShapes> from, int stage, int lane) {
  if constexpr (kShapes == Shapes::kSparse) {
    sparse24::copy_stage(to, from, stage, lane);
  } else {
    constexpr bool kWhole = kShapes != Shapes::kAny;
    if (kWhole) from.strided = kShapes == Shapes::kSwizzled, from.wide_scales = true;
    nvfp4::copy_stage<kWhole>(to, from, stage, lane);
  }
}

template <Shapes kShapes>
__device__ __forceinline__ char* warp_ring(uint4* shared_memory, int warp) {
  return reinterpret_cast<char*>(shared_memory) + warp * kGateUpWarpBytes<kShapes>;
}

// The end of a warp's ring.
template <Shapes kShapes>
__device__ __forceinline__ char* write_zeros(char* ring, int lane) {
  char* zeros = ring + kRingBytes<kShapes>;
  if (lane < kZeroBytes / 16) *reinterpret_cast<uint4*>(zeros + lane * 16) = make_uint4(0, 0, 0, 0);
  return zeros;
}

// Eight values of a column as x has them, brought in order by the lanes of a warp together.
template <Shapes kShapes>
__device__ __forceinline__ uint4 run_unit(const uint4& values, int lane) {
  if constexpr (kShapes == Shapes::kSparse) return sparse24::run_unit(values, lane);
  else return nvfp4::run_unit(values);
}

// A stage of columns, by the lanes that have copied them; `see` is shown each column's values first.
template <Shapes kShapes, class See>
__device__ __forceinline__ void order_columns(char* columns, bool second, int lane, const See& see) {
#pragma unroll
  for (int c = 0; c < kColumns; c++) {
    if (c && !second) continue;
    uint4* unit = reinterpret_cast<uint4*>(columns + c * nvfp4::kColumnBytes + lane * 16);
    const uint4 values = *unit;
    see(c, values);
    *unit = run_unit<kShapes>(values, lane);
  }
}

// What eight values of x and of the shared expert's gate add to the logit of its weight.
__device__ __forceinline__ float gate_product(const uint4& values, const uint4& gates) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const uint32_t value = nvfp4::word(values, i), gate = nvfp4::word(gates, i);
    sum += __uint_as_float(value << 16) * __uint_as_float(gate << 16);
    sum += __uint_as_float(value & 0xFFFF0000u) * __uint_as_float(gate & 0xFFFF0000u);
  }
  return sum;
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

// Where value k of a column is once it is in order.
template <Shapes kShapes>
__device__ __forceinline__ int run_position(int k) {
  return kShapes == Shapes::kSparse ? sparse24::run_position(k) : nvfp4::run_position(k);
}

__device__ __forceinline__ void copy_column(char* to, const bf16_bits* values, int stage, int k, int lane) {
  const int at = stage * nvfp4::kStage + lane * 8;
  ptx::cp_async_16(to + lane * 16, values + at, at < k);
}

// The run that a lane multiplies, in the two chunks of a stage: of a column, or zeros.
struct Runs {
  const char* first;
  int next;

  __device__ __forceinline__ Runs(const char* columns, bool second, const char* zeros, int lane) {
    const int column = lane >> 4, t = lane & 3;
    const bool mine = (lane >> 2 & 3) == t && (column == 0 || second);
    first = mine ? columns + column * nvfp4::kColumnBytes + t * nvfp4::kRunBytes : zeros;
    next = mine ? 4 * nvfp4::kRunBytes : 0;
  }
};

// Row `row` of a tile's hidden state, as moe_down's products want it; times `weight`, the shared expert's.
template <Shapes kShapes>
__device__ __forceinline__ void write_hidden(const Layer& p, bool shared, int member, int tile, int row, float gate, float up,
                                             float weight) {
  const float input = p.weight_on_input && !shared ? p.router_weights[member] : 1.0f;
  const int k = tile_row<8>(strided<kShapes>(shared ? p.shared : p.routed, (shared ? p.shared : p.routed).intermediate), tile, row);
  const float value = apply_gate(p.gate, gate * input) * (up * input);
  hidden_row(p, shared, member)[run_position<kShapes>(k)] = to_bf16(value * weight * nvfp4::kRunScale);
}

// Adds the products of a stage, of which `chunks` are within K.
template <Shapes kShapes>
__device__ __forceinline__ void multiply_stage(const char* stage, nvfp4::ScaleSlot scales, bool second, const char* zeros,
                                               int chunks, float (&sum)[2], int lane) {
  const char* columns = stage + kWeightBytes<kShapes>;
  if constexpr (kShapes == Shapes::kSparse) {
    sparse24::multiply_runs(stage, sparse24::Runs(columns, second, lane), sum, lane);
  } else {
    const Runs runs(columns, second, zeros, lane);
    nvfp4::multiply_runs(stage, scales, 0, runs.first, sum, lane);
    if (chunks > 1) nvfp4::multiply_runs(stage, scales, 1, runs.first + runs.next, sum, lane);
  }
}

template <Shapes kShapes>
__global__ void __launch_bounds__(kGateUpMaxWarps * 32, kGateUpResident) moe_gate_up(const __grid_constant__ Layer p) {
  uint4* shared_memory = ptx::dynamic_shared_memory();
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, g = lane >> 2, t = lane & 3;
  char* ring = warp_ring<kShapes>(shared_memory, warp);
  const bool shared = has_shared(p) && blockIdx.y == 0;
  const int tile = blockIdx.x, token = blockIdx.z, slot = token * p.top_k + static_cast<int>(blockIdx.y) - has_shared(p);
  const Experts& e = shared ? p.shared : p.routed;
  if (tile * 8 >= e.intermediate || (shared && token % 2)) return;
  const char* zeros = write_zeros<kShapes>(ring, lane);

  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  int id = 0, expert = 0;
  if (!shared) {
    id = p.ids[slot];
    expert = local_expert(p, id);
    if (expert < 0) return;
  }
  const Source<kShapes> source = gate_up_source<kShapes>(p, e, expert, tile, lane);
  const int first = warp * p.gate_up_stages, last = min(nvfp4::stages(p.hidden), first + p.gate_up_stages);
  // Weights are asked for before it is known whether another slot's block has them too: then they are in L2 for that one.
#pragma unroll
  for (int d = 0; d < kDepth; d++)
    if (first + d < last) copy_stage<kShapes>(ring + d * kStageBytes<kShapes>, source, first + d, lane);

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
  const int k = kShapes == Shapes::kAny ? p.hidden : INT32_MAX;
  const auto copy_columns = [&](char* stage, int s) {
    char* columns = stage + kWeightBytes<kShapes>;
    copy_column(columns, x, s, k, lane);
    if (second) copy_column(columns + nvfp4::kColumnBytes, other, s, k, lane);
  };
#pragma unroll
  for (int d = 0; d < kDepth; d++) {
    if (first + d < last) copy_columns(ring + d * kStageBytes<kShapes>, first + d);
    ptx::cp_async_commit();
  }
  const float* global = e.global13 + expert * e.globals13;
  const float gate_scale = global[0] * nvfp4::kRunProductScale, up_scale = global[e.globals13 - 1] * nvfp4::kRunProductScale;

  const nvfp4::ScaleSlot scales = nvfp4::run_scale_slot(strided<kShapes>(e, e.intermediate), lane);
  const int chunks = nvfp4::chunks(p.hidden);
  const bool gated = shared && p.shared_gate;
  float sum[2] = {}, logit[kColumns] = {};
  int turn = 0;
#pragma unroll 1
  for (int s = first; s < last; s++) {
    char* stage = ring + turn;
    turn ^= kStageBytes<kShapes>;
    ptx::cp_async_wait<kDepth - 1>();
    order_columns<kShapes>(stage + kWeightBytes<kShapes>, second, lane, [&](int column, const uint4& values) {
      const int at = s * nvfp4::kStage + lane * 8;
      if (gated && at < k) logit[column] += gate_product(values, ptx::ld_constant_16(p.shared_gate + at));
    });
    __syncwarp();
    multiply_stage<kShapes>(stage, scales, second, zeros, kShapes == Shapes::kAny ? chunks - s * 2 : 2, sum, lane);
    __syncwarp();
    if (s + kDepth < last) {
      copy_stage<kShapes>(stage, source, s + kDepth, lane);
      copy_columns(stage, s + kDepth);
    }
    ptx::cp_async_commit();
  }
  nvfp4::add_runs(sum);  // lanes with even t hold gate and up of row g, for column t / 2
  const int own_column = t >> 1;
  if (gated) logit[0] = warp_sum(logit[0]), logit[1] = warp_sum(logit[1]);

  const auto finish = [&](int column, int row, float gate, float up, float logit) {
    const int mine = column ? pair.second : pair.first;
    const float weight = gated ? sigmoid(logit) : 1.0f;
    if (mine >= 0) write_hidden<kShapes>(p, shared, mine, tile, row, gate * gate_scale, up * up_scale, weight);
  };
  if (warps == 1) {
    if (t % 2 == 0) finish(own_column, g, sum[0], sum[1], own_column ? logit[1] : logit[0]);
    return;
  }
  constexpr int kSums = 32 + kColumns;  // of a warp: [gate, up][column][row], then logits
  float* sums = reinterpret_cast<float*>(shared_memory);
  ptx::cp_async_wait<0>();
  __syncthreads();
  if (t % 2 == 0) {
    float* at = sums + warp * kSums + own_column * 8 + g;
    at[0] = sum[0], at[16] = sum[1];
    if (g == 0) sums[warp * kSums + 32 + own_column] = own_column ? logit[1] : logit[0];
  }
  __syncthreads();
  if (threadIdx.x < 16) {
    const int column = threadIdx.x / 8;
    float gate = 0.0f, up = 0.0f, whole = 0.0f;
    for (int w = 0; w < warps; w++) {
      const float* from = sums + w * kSums;
      gate += from[threadIdx.x], up += from[16 + threadIdx.x], whole += from[32 + column];
    }
    finish(column, threadIdx.x % 8, gate, up, whole);
  }
}

// Two slots of one expert, or two tokens of the shared one; `second` below 0 where there is none.
struct Unit {
  int16_t expert, first, second;
  int8_t first_token, second_token;
};

__host__ __device__ inline int shared_units(const Layer& p) { return p.shared.weight13 ? (p.tokens + 1) / 2 : 0; }

// What a block knows of the layer's units, in shared memory.
struct UnitTable {
  Unit* units;        // the shared expert's, then the routed ones by their first slot
  float* factors;     // of each slot's product in its token's sum, then of each token's shared expert
  int32_t* experts;   // of each slot, then -1 up to a multiple of four
  int32_t* next;      // the next slot of the same expert; kNotFirst where a slot is another's second
  uint32_t* leaders;  // a bit for each slot that is a unit's first
};

constexpr int kNotFirst = -2;

__host__ __device__ inline int most_units(const Layer& p) { return p.tokens * p.top_k + shared_units(p); }

__host__ __device__ inline int unit_table_bytes(const Layer& p) {
  const int slots = static_cast<int>(round_up(p.tokens * p.top_k, 32)), units = static_cast<int>(round_up(most_units(p), 4));
  return units * static_cast<int>(sizeof(Unit)) + (2 * units + 2 * slots) * 4 + static_cast<int>(round_up(slots / 32, 4)) * 4;
}

__device__ __forceinline__ UnitTable unit_table(const Layer& p, char* at) {
  const int slots = static_cast<int>(round_up(p.tokens * p.top_k, 32)), units = static_cast<int>(round_up(most_units(p), 4));
  UnitTable table;
  table.units = reinterpret_cast<Unit*>(at);
  table.factors = reinterpret_cast<float*>(table.units + units);
  table.experts = reinterpret_cast<int32_t*>(table.factors + 2 * units);
  table.next = table.experts + slots;
  table.leaders = reinterpret_cast<uint32_t*>(table.next + slots);
  return table;
}

// The number of units, once every thread of the block has come here.
__device__ __forceinline__ int list_units(const Layer& p, const UnitTable& table) {
  const int slots = p.tokens * p.top_k, shared = shared_units(p);
  for (int s = threadIdx.x; s < (slots + 3) / 4 * 4; s += blockDim.x)
    table.experts[s] = s < slots ? local_expert(p, ptx::ld_relaxed(p.ids + s)) : -1;
  for (int u = threadIdx.x; u < shared; u += blockDim.x) {
    const int first = 2 * u, second = first + 1 < p.tokens ? first + 1 : -1;
    table.units[u] = {0, static_cast<int16_t>(first), static_cast<int16_t>(second), static_cast<int8_t>(first),
                      static_cast<int8_t>(second)};
  }
  __syncthreads();
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
  int count = shared;
  for (int w = 0; w * 32 < slots; w++) count += __popc(table.leaders[w]);
  for (int s = threadIdx.x; s < slots; s += blockDim.x) {
    const int second = table.next[s];
    if (second == kNotFirst) continue;
    int rank = shared + __popc(table.leaders[s / 32] & ((1u << s % 32) - 1));
    for (int w = 0; w < s / 32; w++) rank += __popc(table.leaders[w]);
    table.units[rank] = {static_cast<int16_t>(table.experts[s]), static_cast<int16_t>(s), static_cast<int16_t>(second),
                         static_cast<int8_t>(s / p.top_k), static_cast<int8_t>(second / p.top_k)};
  }
  __syncthreads();
  return count;
}

// A warp's place in its share of a block's stages. A segment is what one sum runs over: a unit.
struct Cursor {
  int segment, stage, stages;
};

// What a stage is copied from.
template <Shapes kShapes>
struct Operands {
  Source<kShapes> weights;
  const bf16_bits* columns[kColumns];  // null where there is none
};

// Runs through `count` stages from `first` on. `Walk` says what a segment's operands are and takes its sums; the weights of
// the first `copied` stages are under way already.
template <Shapes kShapes, class Walk>
__device__ __forceinline__ void stream(const Walk& walk, char* ring, const char* zeros, int first, int count, int copied,
                                       int lane) {
  constexpr bool kAny = kShapes == Shapes::kAny;
  const nvfp4::ScaleSlot known = nvfp4::run_scale_slot(kShapes == Shapes::kSwizzled, lane);
  Cursor ahead = walk.seek(first), at = ahead;
  Operands<kShapes> from;
  unsigned seconds = 0;  // a bit for each stage of the ring that has a second column
  float sum[2] = {};
#pragma unroll 1
  for (int u = -kDepth; u < count; u++) {
    char* stage = ring + (u & 1) * kStageBytes<kShapes>;
    if (u >= 0) {
      ptx::cp_async_wait<kDepth - 1>();
      __syncwarp();
      const nvfp4::ScaleSlot scales = kAny ? walk.scales(at.segment) : known;
      multiply_stage<kShapes>(stage, scales, seconds >> (u & 1) & 1, zeros, 2, sum, lane);
      __syncwarp();
      if (at.stage + 1 == at.stages || u + 1 == count) {
        nvfp4::add_runs(sum);
        walk.finish(at.segment, sum);
        sum[0] = sum[1] = 0.0f;
      }
      at = walk.next(at);
    }
    const int to = u + kDepth;
    if (to < count) {
      if (to == 0 || ahead.stage == 0) from = walk.enter(ahead);
      if (to >= copied) copy_stage<kShapes>(stage, from.weights, ahead.stage, lane);
      char* columns = stage + kWeightBytes<kShapes>;
      int k = INT32_MAX;
      if constexpr (kAny) k = 2 * static_cast<int>(from.weights.bytes);
      copy_column(columns, from.columns[0], ahead.stage, k, lane);
      if (from.columns[1]) copy_column(columns + nvfp4::kColumnBytes, from.columns[1], ahead.stage, k, lane);
      seconds = (seconds & ~(1u << (u & 1))) | (from.columns[1] ? 1u : 0u) << (u & 1);
      ahead = walk.next(ahead);
    }
    ptx::cp_async_commit();
  }
}

// Where `part` of `parts` equal shares of `count` begins.
__device__ __forceinline__ int share(int count, int part, int parts) {
  return static_cast<int>(static_cast<int64_t>(count) * part / parts);
}

template <Shapes kShapes>
struct DownWalk {
  const Layer& p;
  const Unit* units;
  const float* factors;
  float* sums;  // of this warp: [token][row of 16]
  int tile, shared, lane;

  __device__ __forceinline__ const Experts& experts(int unit) const { return unit < shared ? p.shared : p.routed; }
  __device__ __forceinline__ int stages(int unit) const { return nvfp4::stages(experts(unit).intermediate); }
  __device__ __forceinline__ Cursor seek(int item) const {
    const int all = shared ? shared * stages(0) : 0, start = item < all ? 0 : shared, left = item < all ? item : item - all;
    const int each = stages(start);
    return {start + left / each, left % each, each};
  }
  __device__ __forceinline__ Cursor next(Cursor at) const {
    return at.stage + 1 == at.stages ? Cursor{at.segment + 1, 0, stages(at.segment + 1)}
                                     : Cursor{at.segment, at.stage + 1, at.stages};
  }
  __device__ __forceinline__ nvfp4::ScaleSlot scales(int unit) const {
    return nvfp4::run_scale_slot(strided<kShapes>(experts(unit), p.hidden), lane);
  }
  __device__ __forceinline__ Operands<kShapes> enter(const Cursor& at) const {
    const Unit unit = units[at.segment];
    const bool is_shared = at.segment < shared;
    return {down_source<kShapes>(p, experts(at.segment), unit.expert, tile, lane),
            {hidden_row(p, is_shared, unit.first), unit.second < 0 ? nullptr : hidden_row(p, is_shared, unit.second)}};
  }
  // Lanes with even t hold rows g and g + 8 of column t / 2.
  __device__ __forceinline__ void finish(int segment, const float (&sum)[2]) const {
    const float other[2] = {__shfl_xor_sync(kAllLanes, sum[0], 2), __shfl_xor_sync(kAllLanes, sum[1], 2)};
    if (lane & 3) return;
    const Unit unit = units[segment];
    const int offset = segment < shared ? p.tokens * p.top_k : 0;
    const auto add = [&](int slot, int token, float low, float high) {
      float* to = sums + token * 16 + (lane >> 2);
      to[0] += factors[offset + slot] * low, to[8] += factors[offset + slot] * high;
    };
    add(unit.first, unit.first_token, sum[0], sum[1]);
    if (unit.second >= 0) add(unit.second, unit.second_token, other[0], other[1]);
  }
};

template <Shapes kShapes>
__global__ void __launch_bounds__(kDownMaxWarps * 32, kDownResident) moe_down(const __grid_constant__ Layer p) {
  uint4* shared_memory = ptx::dynamic_shared_memory();
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  char* zeros = reinterpret_cast<char*>(shared_memory);
  char* ring = zeros + kZeroBytes + warp * kRingBytes<kShapes>;
  float* all_sums = reinterpret_cast<float*>(zeros + kZeroBytes + warps * kRingBytes<kShapes>);  // [warp][token][row of 16]
  const UnitTable table = unit_table(p, reinterpret_cast<char*>(all_sums + warps * p.tokens * 16));
  if (threadIdx.x < kZeroBytes / 16) reinterpret_cast<uint4*>(zeros)[threadIdx.x] = make_uint4(0, 0, 0, 0);

  // The grid in front is moe_gate_up, which lets this one start only after its own wait: the ids are there to be read.
  const int units = list_units(p, table), shared = shared_units(p), slots = p.tokens * p.top_k;
  const DownWalk<kShapes> walk{p, table.units, table.factors, all_sums + warp * p.tokens * 16,
                               static_cast<int>(blockIdx.x), shared, lane};
  const int all = (shared ? shared * walk.stages(0) : 0) + (units - shared) * walk.stages(shared);
  const int first = share(all, warp, warps), count = share(all, warp + 1, warps) - first, early = min(count, kDepth);
  // The weights of the first stages do not wait for the grid in front; its hidden states do.
  Cursor ahead = walk.seek(first);
  Operands<kShapes> from;
#pragma unroll 1
  for (int d = 0; d < early; d++, ahead = walk.next(ahead)) {
    if (d == 0 || ahead.stage == 0) from = walk.enter(ahead);
    copy_stage<kShapes>(ring + d * kStageBytes<kShapes>, from.weights, ahead.stage, lane);
  }
  for (int i = lane; i < p.tokens * 16; i += 32) walk.sums[i] = 0.0f;
  for (int s = threadIdx.x; s < slots + (shared ? p.tokens : 0); s += blockDim.x) {
    float factor;
    if (s >= slots) factor = p.shared.global2[0];
    else if (table.experts[s] < 0) factor = 0.0f;
    else factor = p.routed.global2[table.experts[s]] * (p.weight_on_input ? 1.0f : ptx::ld_relaxed(p.router_weights + s));
    table.factors[s] = factor * nvfp4::kRunProductScale;
  }
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  __syncthreads();
  stream<kShapes>(walk, ring, zeros, first, count, early, lane);
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

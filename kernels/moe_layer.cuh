// A mixture-of-experts layer for 1 to 16 tokens on NVFP4 weights as the checkpoint has them, in two grids:
//
//   moe_gate_up   hidden[slot, i] = gate(w1[i] . x) * (w3[i] . x)
//   moe_down      out[token, n] = sum over the token's slots of weight * (w2[n] . hidden[slot])
//
// A slot is one choice of one token; the shared expert is one more slot of every token. A unit is two slots that chose the
// same expert, two columns of one product, so that its weights are read once; a third and fourth are a unit of their own,
// whose weights come from L2. Every sum is taken in an order that only the inputs and the chip decide: the same bits each time.
//
// Weights pruned to 2 of 4 come in compressed tiles (common/sparse24_rows.cuh), gate rows in a tile's first octet and up rows
// in its second.
//
// Here is what the grids are given and what they share.
#pragma once

#include <cstdint>
#include <type_traits>

#include <common/activation.cuh>
#include <common/bf16.cuh>
#include <common/block_scales.cuh>
#include <common/nvfp4_rows.cuh>
#include <common/nvfp4_runs.cuh>
#include <common/sparse24_rows.cuh>

namespace dgx {
namespace moe {

constexpr int kMaxTokens = 16;
constexpr int kMaxSlots = 512;
constexpr int kDepth = 2;    // stages of weights under way in each warp
constexpr int kColumns = 2;  // slots that share a product
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
  int gate_up_parts;              // warps of moe_gate_up that share the hidden size
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

// Of a stage: its weights, and two columns.
template <Shapes kShapes>
constexpr int kWeightBytes = kShapes == Shapes::kSparse ? sparse24::kTileBytes : nvfp4::kStageBytes;
constexpr int kColumnsBytes = kColumns * nvfp4::kColumnBytes;

template <Shapes kShapes>
using Source = std::conditional_t<kShapes == Shapes::kSparse, sparse24::Source, nvfp4::Source>;

__device__ __forceinline__ int local_expert(const Layer& p, int id) {
  if (id < 0 || id >= p.map_size) return -1;
  const int expert = p.expert_map ? p.expert_map[id] : id;
  return expert < p.experts ? expert : -1;
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
__device__ __forceinline__ void copy_stage(uint32_t to, Source<kShapes> from, int stage, int lane) {
  if constexpr (kShapes == Shapes::kSparse) {
    sparse24::copy_stage(to, from, stage, lane);
  } else {
    constexpr bool kWhole = kShapes != Shapes::kAny;
    if (kWhole) from.strided = kShapes == Shapes::kSwizzled, from.wide_scales = true;
    nvfp4::copy_stage<kWhole>(to, from, stage, lane);
  }
}

// Pins `value` in a register: the compiler computes cheap expressions again in every stage, but not the result of a shuffle.
// Each lane gets its own value back.
template <class T>
__device__ __forceinline__ T pin_register(T value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}

// Eight values of a column as x has them, brought in order by the lanes of a warp together.
template <Shapes kShapes>
__device__ __forceinline__ uint4 run_unit(const uint4& values, int lane) {
  if constexpr (kShapes == Shapes::kSparse) return sparse24::run_unit(values, lane);
  else return nvfp4::run_unit(values);
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

// Row `row` of a tile's hidden state, as moe_down's products want it; times `weight`, the shared expert's.
template <Shapes kShapes>
__device__ __forceinline__ void write_hidden(const Layer& p, bool shared, int member, int tile, int row, float gate, float up,
                                             float weight) {
  const float input = p.weight_on_input && !shared ? p.router_weights[member] : 1.0f;
  const int k = tile_row<8>(strided<kShapes>(shared ? p.shared : p.routed, (shared ? p.shared : p.routed).intermediate), tile, row);
  const float value = apply_gate(p.gate, gate * input) * (up * input);
  hidden_row(p, shared, member)[run_position<kShapes>(k)] = to_bf16(value * weight * nvfp4::kRunScale);
}

// Where a lane reads of a stage's two columns. Where there is no second one, what stands at its place is multiplied all the
// same: it meets nothing of the first one's sums.
template <Shapes kShapes>
__device__ __forceinline__ uint32_t lane_run(uint32_t columns, uint32_t zeros, int lane) {
  return kShapes == Shapes::kSparse ? columns : nvfp4::lane_run(columns, zeros, lane);
}

// A lane's part of the products of a ring's stages.
template <Shapes kShapes>
struct Products {
  nvfp4::LaneStage first;

  __device__ __forceinline__ Products(uint32_t ring, nvfp4::ScaleSlot scales, int lane) : first(ring, scales, lane) {}

  // Adds those of the stage `offset` bytes into the ring, of which `chunks` are within K, with the columns of `run`.
  __device__ __forceinline__ void add(int offset, uint32_t run, int chunks, float (&sum)[2]) const {
    first.multiply(offset, run, chunks, sum);
  }
};

template <>
struct Products<Shapes::kSparse> {
  uint32_t ring;
  int lane;

  __device__ __forceinline__ Products(uint32_t ring, nvfp4::ScaleSlot, int lane) : ring(ring), lane(lane) {}

  __device__ __forceinline__ void add(int offset, uint32_t columns, int, float (&sum)[2]) const {
    sparse24::multiply_runs(sparse24::read_tile(ring + offset, lane), sparse24::Runs(columns, true, lane), sum);
  }
};

}  // namespace moe
}  // namespace dgx

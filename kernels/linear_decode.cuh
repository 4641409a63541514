// out[token, n] = sum over k of w[n, k] * x[token, k] for 1 to 16 tokens, weights NVFP4 or FP8: one block 16 values of n, its
// warps a share of K each. Weights are under way before the grid in front ends; activations are not touched until then.
#pragma once

#include <cstdint>

#include <common/fp8_rows.cuh>
#include <common/nvfp4_rows.cuh>
#include <common/nvfp4_weights.cuh>
#include <ptx/grid.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace linear {

constexpr int kMaxTokens = 16;
constexpr int kMaxWarps = 8;
constexpr int kDepth = 2;  // stages under way in each warp

enum class Weights : int { kNvfp4 = 0, kFp8 = 1 };
enum class Fp8Scales : int { kTensor = 0, kChannel = 1, kBlock = 2 };  // [1], [rows], [rows / 128, k / 128]

struct Layer {
  const uint8_t* weight;     // [rows, k / 2] or [rows, k]
  const uint8_t* scale;      // NVFP4's block scales
  const float* global;       // [1] for NVFP4; FP8's scales as `scales` says
  const bf16_bits* bias;     // [rows], or null
  const bf16_bits* x;        // [tokens, k], x_stride apart
  bf16_bits* out;            // [tokens, rows]
  int64_t x_stride;
  int tokens, rows, k;
  ScaleLayout layout;
  Fp8Scales scales;
  int warp_stages;           // stages of K for each warp
};

template <Weights kWeights>
struct Format;

template <>
struct Format<Weights::kNvfp4> {
  static constexpr int kStage = nvfp4::kStage, kChunk = nvfp4::kChunk, kStageBytes = nvfp4::kStageBytes,
                       kColumnBytes = nvfp4::kColumnBytes;
};

template <>
struct Format<Weights::kFp8> {
  static constexpr int kStage = fp8::kStage, kChunk = fp8::kChunk, kStageBytes = fp8::kStageBytes,
                       kColumnBytes = fp8::kColumnBytes;
};

// kTiles: tiles of 8 tokens.
template <Weights kWeights, int kTiles>
__global__ void __launch_bounds__(kMaxWarps * 32, kTiles == 1 ? 3 : 2) multiply(const __grid_constant__ Layer p) {
  using F = Format<kWeights>;
  constexpr bool kFp8 = kWeights == Weights::kFp8;

  // 1. Shared memory of a warp: zeros, and a ring of stages. Its share of K, and where it reads weights.
  uint4* shared_memory = ptx::dynamic_shared_memory();
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int lane_row = lane >> 2, lane_quad = lane & 3;
  const int stage_bytes = F::kStageBytes + p.tokens * F::kColumnBytes;
  char* zeros = reinterpret_cast<char*>(shared_memory) + warp * (kDepth * stage_bytes + F::kColumnBytes);
  char* ring = zeros + F::kColumnBytes;
  const bool strided = !kFp8 && p.layout == ScaleLayout::kSwizzled && p.rows % 128 == 0;
  const int tile = blockIdx.x, row_low = tile_row<16>(strided, tile, 0), row_high = tile_row<16>(strided, tile, 8);
  const nvfp4::Source source =
      kFp8 ? fp8::source(p.weight, row_low, row_high, p.k, lane)
           : nvfp4::source(p.weight, p.scale, p.layout, strided, row_low, row_high, p.k, lane);
  const int first = warp * p.warp_stages, last = min((p.k + F::kStage - 1) / F::kStage, first + p.warp_stages);
  const auto stage_of = [&](int s) { return ring + ((s - first) & (kDepth - 1)) * stage_bytes; };
  const auto copy_weights = [&](int s) {
    if constexpr (kFp8) nvfp4::copy_rows(ptx::shared_address(stage_of(s)), source, s, lane);
    else nvfp4::copy_stage(ptx::shared_address(stage_of(s)), source, s, lane);
  };
  const auto copy_columns = [&](int s) {
    char* to = stage_of(s) + F::kStageBytes;
    for (int m = 0; m < p.tokens; m++) {
      if constexpr (kFp8) fp8::copy_column(to + m * F::kColumnBytes, m, p.x + m * p.x_stride, s, p.k, lane);
      else nvfp4::copy_column(to + m * F::kColumnBytes, m, p.x + m * p.x_stride, s, p.k, lane);
    }
  };

  // 2. Start the copies of the first weights; those of x once the grid in front has written it.
  for (int i = lane; i < F::kColumnBytes / 16; i += 32) reinterpret_cast<uint4*>(zeros)[i] = make_uint4(0, 0, 0, 0);
  const int early = min(last, first + kDepth);
#pragma unroll 1
  for (int s = first; s < early; s++) copy_weights(s);
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
#pragma unroll 1
  for (int s = first; s < first + kDepth; s++) {
    if (s < early) copy_columns(s);
    ptx::cp_async_commit();
  }

  // 3. Sums: `c` of one scale, `total` of all. `fold` adds the one to the other.
  const nvfp4::ScaleSlot scales = nvfp4::scale_slot(strided, lane);
  const int chunks = (p.k + F::kChunk - 1) / F::kChunk;
  float c[kTiles][2][4] = {}, total[kTiles][4] = {};
  const auto fold = [&](float factor) {
#pragma unroll
    for (int n = 0; n < kTiles; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        total[n][i] += factor * (c[n][0][i] + c[n][1][i]);
        c[n][0][i] = c[n][1][i] = 0.0f;
      }
  };

  // 4. Multiply, stage by stage, while the next stage is copied.
#pragma unroll 1
  for (int s = first; s < last; s++) {
    const bool by_blocks = kFp8 && p.scales == Fp8Scales::kBlock;
    const float block_scale = by_blocks ? p.global[row_low / 128 * ((p.k + 127) / 128) + s] : 1.0f;
    ptx::cp_async_wait<kDepth - 1>();
    const char* stage = stage_of(s);
    for (int m = 0; m < p.tokens; m++) {
      char* column = stage_of(s) + F::kStageBytes + m * F::kColumnBytes;
      if constexpr (kFp8) fp8::pair_column(column, m, lane);
      else nvfp4::pair_column(column, m, lane);
    }
    __syncwarp();
    const char* columns[kTiles];
#pragma unroll
    for (int n = 0; n < kTiles; n++)
      columns[n] = n * 8 + lane_row < p.tokens ? stage + F::kStageBytes + (n * 8 + lane_row) * F::kColumnBytes : zeros;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (s * 2 + i >= chunks) break;
      if constexpr (kFp8) fp8::multiply(stage, i, columns, c, lane);
      else nvfp4::multiply(stage, scales, i, columns, c, lane);
    }
    if (by_blocks) fold(block_scale);
    __syncwarp();
    if (s + kDepth < last) copy_weights(s + kDepth), copy_columns(s + kDepth);
    ptx::cp_async_commit();
  }
  fold(1.0f);

  // 5. Add the sums of the warps, [warp][tile][row of 16][column of 8], and write the output.
  float* sums = reinterpret_cast<float*>(shared_memory);
  ptx::cp_async_wait<0>();
  __syncthreads();
#pragma unroll
  for (int n = 0; n < kTiles; n++) {
    float* at = sums + (warp * kTiles + n) * 128 + lane_row * 8 + 2 * lane_quad;
    at[0] = total[n][0], at[1] = total[n][1], at[64] = total[n][2], at[65] = total[n][3];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < p.tokens * 16; i += blockDim.x) {
    const int token = i / 16, index = i % 16, row = tile_row<16>(strided, tile, index);
    float sum = 0.0f;
    for (int w = 0; w < warps; w++) sum += sums[(w * kTiles + token / 8) * 128 + index * 8 + token % 8];
    if (!kFp8) sum *= *p.global * nvfp4::kProductScale;
    else if (p.scales != Fp8Scales::kBlock) sum *= p.global[p.scales == Fp8Scales::kChannel ? row : 0];
    if (p.bias) sum += from_bf16(p.bias[row]);
    p.out[static_cast<int64_t>(token) * p.rows + row] = to_bf16(sum);
  }
}

}  // namespace linear
}  // namespace dgx

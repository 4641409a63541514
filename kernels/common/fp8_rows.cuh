// The stream of nvfp4_rows.cuh for E4M3 weights: a chunk is 64 values of K, a stage 128, and scales are the caller's.
//
// The NaN codes of E4M3 (0x7F, 0xFF) count as +-480.
#pragma once

#include <cstdint>

#include <common/bf16.cuh>
#include <common/nvfp4_rows.cuh>
#include <ptx/arithmetic.cuh>
#include <ptx/copy.cuh>
#include <ptx/mma.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace fp8 {

constexpr int kChunk = 64;
constexpr int kStage = 2 * kChunk;
constexpr int kStageBytes = 16 * nvfp4::kRowBytes;
constexpr int kColumnBytes = 2 * kStage;

static_assert(kStage == nvfp4::kRowBytes, "A byte holds one weight.");
static_assert(kStage == 128, "A stage has one block scale.");

__device__ __forceinline__ nvfp4::Source source(const uint8_t* weight, int row_low, int row_high, uint32_t k, int lane) {
  return nvfp4::source(weight, nullptr, ScaleLayout::kLinear, false, row_low, row_high, 2 * k, lane);
}

__device__ __forceinline__ int column_unit(int unit, int column) { return (unit ^ (column & 1)) * 16; }

// Half a warp copies a column, and pairs what it has copied.
__device__ __forceinline__ void copy_column(char* to, int column, const bf16_bits* values, int stage, int k, int lane) {
  const int at = stage * kStage + lane * 8;
  if (lane < 16) ptx::cp_async_16(ptx::shared_address(to + column_unit(lane, column)), values + at, at < k);
}

__device__ __forceinline__ void pair_column(char* to, int column, int lane) {
  uint4* unit = reinterpret_cast<uint4*>(to + column_unit(lane, column));
  if (lane < 16) *unit = pair_by_twos(*unit);
}

// Four E4M3 codes to BF16 pairs (0,2) (1,3): bits moved, times 2^-120, then a power of two.
__device__ __forceinline__ void decode_e4m3(uint32_t q, uint32_t& even, uint32_t& odd) {
  constexpr uint32_t kSign = 0x80008000u, kMagnitude = 0x07F007F0u;
  even = ptx::mul_bf16x2(((q << 8) & kSign) | ((q << 4) & kMagnitude), bf16x2_power_of_two<120>());
  odd = ptx::mul_bf16x2((q & kSign) | ((q >> 4) & kMagnitude), bf16x2_power_of_two<120>());
}

// Adds the products of a chunk of a stage; `columns` as nvfp4::multiply has them.
template <int kTiles>
__device__ __forceinline__ void multiply(const char* stage, int chunk, const char* const (&columns)[kTiles],
                                         float (&c)[kTiles][2][4], int lane) {
  const int lane_row = lane >> 2, lane_quad = lane & 3;
  const char* row = stage + lane_row * nvfp4::kRowBytes + ((chunk * 4 + lane_quad) ^ (lane_row & 1) * 4) * 16;
  const uint4 rows[2] = {*reinterpret_cast<const uint4*>(row), *reinterpret_cast<const uint4*>(row + 8 * nvfp4::kRowBytes)};
#pragma unroll
  for (int i = 0; i < 2; i++) {
    uint32_t low[4], high[4];
#pragma unroll
    for (int j = 0; j < 2; j++) {
      decode_e4m3(nvfp4::word(rows[0], 2 * i + j), low[2 * j], low[2 * j + 1]);
      decode_e4m3(nvfp4::word(rows[1], 2 * i + j), high[2 * j], high[2 * j + 1]);
    }
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      const uint4 x = *reinterpret_cast<const uint4*>(columns[n] + column_unit(chunk * 8 + lane_quad * 2 + i, lane_row));
      ptx::mma_m16n8k16_bf16(c[n][0], low[0], high[0], low[1], high[1], x.x, x.y);
      ptx::mma_m16n8k16_bf16(c[n][1], low[2], high[2], low[3], high[3], x.z, x.w);
    }
  }
}

}  // namespace fp8
}  // namespace dgx

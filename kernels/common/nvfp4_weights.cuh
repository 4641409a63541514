// Products of the rows of nvfp4_rows.cuh with up to 16 columns of activations: scales are applied to weights. A weight times
// its block scale has at most six significant bits, so the product is exact in BF16, and K needs no splitting at block borders.
#pragma once

#include <cstdint>

#include <common/bf16.cuh>
#include <common/nvfp4_rows.cuh>
#include <ptx/arithmetic.cuh>
#include <ptx/copy.cuh>
#include <ptx/mma.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace nvfp4 {

constexpr float kProductScale = 256.0f;  // weights times scales come out of the decoder times 2^-8

// Activations come through shared memory as the weights do: a load that is waited for would stand behind all the weights
// under way. A column's units of 16 bytes lie so that the lanes of two columns meet in different banks.
__device__ __forceinline__ int column_unit(int unit, int column) { return (unit ^ (unit >> 3 & 1) ^ (column & 1) * 2) * 16; }

// Starts the copy of a stage of a column of `k` values.
__device__ __forceinline__ void copy_column(char* to, int column, const bf16_bits* values, int stage, int k, int lane) {
  const int at = stage * kStage + lane * 8;
  ptx::cp_async_16(ptx::shared_address(to + column_unit(lane, column)), values + at, at < k);
}

// Brings what this lane has copied of a column into the order of the decoded weights; others see it after a barrier.
__device__ __forceinline__ void pair_column(char* to, int column, int lane) {
  uint4* unit = reinterpret_cast<uint4*>(to + column_unit(lane, column));
  *unit = pair_by_fours(*unit);
}

// Two bytes of scales in a stage.
__device__ __forceinline__ ScaleSlot scale_slot(bool strided, int lane) {
  const int lane_row = lane >> 2, lane_quad = lane & 3;
  if (strided)
    return {16 * kRowBytes + (lane_row >> 2) * 16 + (lane_row & 3) * 4 + (lane_quad >> 1) * 32 + (lane_quad & 1) * 2, 64};
  return {16 * kRowBytes + lane_row * kScaleBytes + lane_quad * 2, 8};
}

// Two E4M3 scales to BF16 pairs of each, times 2^118: bits moved (times 2^-120), then two powers of two.
__device__ __forceinline__ void decode_scales(uint32_t two, uint32_t& first, uint32_t& second) {
  const uint32_t moved = (__byte_perm(two, 0u, 0x4140) << 4) & 0x07F007F0u;
  const uint32_t both = ptx::mul_bf16x2(ptx::mul_bf16x2(moved, bf16x2_power_of_two<127>()), bf16x2_power_of_two<111>());
  first = __byte_perm(both, both, 0x1010);
  second = __byte_perm(both, both, 0x3232);
}

// Adds the products of a chunk of a stage. `columns`: for each tile of 8 columns this lane's column g in shared memory, paired,
// or zeros.
template <int kTiles>
__device__ __forceinline__ void multiply(const char* stage, ScaleSlot scales, int chunk, const char* const (&columns)[kTiles],
                                         float (&c)[kTiles][2][4], int lane) {
  const int lane_row = lane >> 2, lane_quad = lane & 3;
  const char* row = stage + lane_row * kRowBytes + ((chunk * 4 + lane_quad) ^ (lane_row & 1) * 4) * 16;
  const uint4 rows[2] = {*reinterpret_cast<const uint4*>(row), *reinterpret_cast<const uint4*>(row + 8 * kRowBytes)};
  const char* scale = stage + scales.offset + chunk * scales.step;
  uint32_t scale_low[2], scale_high[2];
  decode_scales(*reinterpret_cast<const uint16_t*>(scale), scale_low[0], scale_low[1]);
  decode_scales(*reinterpret_cast<const uint16_t*>(scale + 8 * kScaleBytes), scale_high[0], scale_high[1]);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    uint32_t low[4], high[4];
    decode_e2m1(word(rows[0], i), low);
    decode_e2m1(word(rows[1], i), high);
#pragma unroll
    for (int p = 0; p < 4; p++) {
      low[p] = ptx::mul_bf16x2(low[p], scale_low[i / 2]);
      high[p] = ptx::mul_bf16x2(high[p], scale_high[i / 2]);
    }
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      const uint4 x = *reinterpret_cast<const uint4*>(columns[n] + column_unit(chunk * 16 + lane_quad * 4 + i, lane_row));
      ptx::mma_m16n8k16_bf16(c[n][0], low[0], high[0], low[1], high[1], x.x, x.y);
      ptx::mma_m16n8k16_bf16(c[n][1], low[2], high[2], low[3], high[3], x.z, x.w);
    }
  }
}

}  // namespace nvfp4
}  // namespace dgx

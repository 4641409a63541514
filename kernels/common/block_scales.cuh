// Where the E4M3 scale of a block of 16 values lies.
#pragma once

#include <cstdint>

namespace dgx {

enum class ScaleLayout : int {
  kLinear = 0,    // [rows, blocks]
  kSwizzled = 1,  // 128x4 tiles of 512 bytes, rows padded to 128 and blocks to 4: what the FP4 tensor cores read
};

__host__ __device__ inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

__host__ __device__ inline int64_t scale_bytes(ScaleLayout layout, int64_t rows, int64_t blocks) {
  return layout == ScaleLayout::kLinear ? rows * blocks : round_up(rows, 128) * round_up(blocks, 4);
}

// Where a row's scales begin within one matrix.
__host__ __device__ inline uint32_t scale_row_offset(ScaleLayout layout, uint32_t row, uint32_t blocks) {
  if (layout == ScaleLayout::kLinear) return row * blocks;
  return (row >> 7) * (((blocks + 3) >> 2) * 512) + (row & 31) * 16 + ((row >> 5) & 3) * 4;
}

// From one group of four blocks of a row to the next: both layouts keep the four scales of a group together.
__host__ __device__ inline int scale_group_stride(ScaleLayout layout) { return layout == ScaleLayout::kLinear ? 4 : 512; }

// Which row a tile of kRows rows holds at `index`. A sector of the swizzled layout holds the scales of rows 32 apart,
// so a tile that takes rows 32 apart uses whole sectors; it can where the rows come in whole blocks of 128.
template <int kRows>
__host__ __device__ inline int tile_row(bool strided, int tile, int index) {
  static_assert(kRows % 8 == 0 && 128 % kRows == 0, "A block of 128 rows must divide into tiles of whole octets.");
  if (!strided) return tile * kRows + index;
  constexpr int kTiles = 128 / kRows;
  return tile / kTiles * 128 + index % 4 * 32 + tile % kTiles * (kRows / 4) + index / 4;
}

}  // namespace dgx

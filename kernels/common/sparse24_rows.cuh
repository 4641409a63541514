// One warp's products with tiles of 2:4 weights: E2M1 codes of which two of every four along K are stored.
//
// A tile is 16 rows by 256 values of K in 1792 consecutive bytes, 3.5 bits a weight with its block scales. Its 16 blocks of K
// are four times four: in step i lane 4g+t works on block 4i+t of rows g and g + 8, and what it wants for all four steps is 16
// bytes of each of these parts, a word a step:
//
//   codes of row g      512 bytes, 16 a lane     nibbles q and q + 4: the two that are stored of quad q, the left one first
//   codes of row g + 8  512 bytes, the same
//   positions           512 bytes, 16 a lane     of quad t of the four blocks 4i..4i+3, four bits each, in the low half of
//                                                row g, in the high half of row g + 8: what `mma.sp` takes as metadata
//   scales              256 bytes, 16 for t % 2  of row g: blocks 4i + 2(t % 2) and the next one; of row g + 8: the same two
//
// The four bits of a quad are the places of its two values, 0 to 3, the left one in the low bits. As in nvfp4_runs.cuh the
// two columns of activations take a column of the operand for each of the four blocks that meet in a product, and scales are
// applied to sums. Codes, and so activations, have the same form and range as there.
#pragma once

#include <cstdint>

#include <common/nvfp4_rows.cuh>
#include <common/nvfp4_runs.cuh>
#include <ptx/arithmetic.cuh>
#include <ptx/copy.cuh>
#include <ptx/mma.cuh>

namespace dgx {
namespace sparse24 {

constexpr int kTileRows = 16;
constexpr int kTileColumns = 256;
constexpr int kSteps = 4;
constexpr int kCodeBytes = 512;  // of eight rows
constexpr int kPositions = 2 * kCodeBytes, kPositionBytes = 512;
constexpr int kScales = kPositions + kPositionBytes, kScaleBytes = 256;
constexpr int kTileBytes = kScales + kScaleBytes;

static_assert(kTileColumns == nvfp4::kStage, "A tile is a stage.");
static_assert(kTileBytes * 8 * 2 == kTileRows * kTileColumns * 7, "A weight takes 3.5 bits.");

// Tiles lie along K, and those of one set of rows behind those of the one before.
__host__ __device__ inline int64_t matrix_bytes(int64_t rows, int64_t k) {
  return rows / kTileRows * (k / kTileColumns) * kTileBytes;
}

// Where a lane reads its first 16 bytes of a row of tiles.
struct Source {
  const uint8_t* tiles;

  __device__ __forceinline__ void advance(int stages) { tiles += stages * kTileBytes; }
};

__device__ __forceinline__ Source source(const uint8_t* matrix, int tile, int k, int lane) {
  return {matrix + (static_cast<uint32_t>(tile) * (k / kTileColumns) * kTileBytes + lane * 16)};
}

__device__ __forceinline__ void copy_stage(uint32_t to, const Source& s, int stage, int lane) {
  const uint8_t* from = s.tiles + stage * kTileBytes;
  const uint32_t at = to + lane * 16;
#pragma unroll
  for (int i = 0; i < kScales / 512; i++) ptx::cp_async_16(at + i * 512, from + i * 512, true);
  if (lane < kScaleBytes / 16) ptx::cp_async_16(at + kScales, from + kScales, true);
}

// Where value k of a column is: a block holds the first two values of each of its quads, then the last two.
__device__ __forceinline__ int run_position(int k) { return (k & ~15) | (k >> 1 & 1) << 3 | (k >> 2 & 3) << 1 | (k & 1); }

// That order for eight values a lane, of which two lanes hold a block, and nvfp4::kRunScale.
__device__ __forceinline__ uint4 run_unit(const uint4& values, int lane) {
  constexpr uint32_t kScale = bf16x2_power_of_two<nvfp4::kRunExponent>();
  const uint32_t v[4] = {ptx::mul_bf16x2(values.x, kScale), ptx::mul_bf16x2(values.y, kScale),
                         ptx::mul_bf16x2(values.z, kScale), ptx::mul_bf16x2(values.w, kScale)};
  const bool odd = lane & 1;
  const uint32_t first = __shfl_xor_sync(0xffffffffu, odd ? v[0] : v[1], 1);
  const uint32_t second = __shfl_xor_sync(0xffffffffu, odd ? v[2] : v[3], 1);
  return odd ? make_uint4(first, second, v[1], v[3]) : make_uint4(v[0], v[2], first, second);
}

// What a lane takes of the columns. Operand column g is block g % 4 of column g / 4, whose values two of the four lanes hold,
// in the first and third register or in the second and fourth; zeros stand everywhere else.
struct Runs {
  uint32_t first;
  uint32_t even, odd;  // masks

  __device__ __forceinline__ Runs(uint32_t columns, bool second, int lane) {
    const int column = lane >> 4, block = lane >> 2 & 3;
    const bool mine = (lane >> 1 & 1) == (block & 1) && (column == 0 || second);
    first = columns + (second ? column : 0) * nvfp4::kColumnBytes + block * 32 + (lane & 1) * 16;
    even = mine && block < 2 ? ~0u : 0;
    odd = mine && block >= 2 ? ~0u : 0;
  }
};

// One lane's part of a tile.
struct LaneTile {
  uint4 codes[2];  // of rows g and g + 8
  uint4 positions;
  uint4 scales;
};

__device__ __forceinline__ int lane_scales(int lane) { return kScales + ((lane >> 2) * 2 + (lane & 1)) * 16; }

// Adds a tile's products, of rows g and g + 8 with column t / 2; `nvfp4::add_runs` brings the lanes' parts together.
__device__ __forceinline__ void multiply_runs(const LaneTile& tile, const Runs& runs, float (&sum)[2]) {
#pragma unroll
  for (int i = 0; i < kSteps; i++) {
    const uint4 x = ptx::ld_shared_16(runs.first + i * 128);
    const uint32_t metadata = nvfp4::word(tile.positions, i);
    uint32_t low[4], high[4];
    nvfp4::decode_e2m1(nvfp4::word(tile.codes[0], i), low);
    nvfp4::decode_e2m1(nvfp4::word(tile.codes[1], i), high);
    float c[4];
    ptx::mma_sp_m16n8k32_bf16_zero<0>(c, low[0], high[0], low[1], high[1], x.x & runs.even, x.x & runs.odd, x.y & runs.even,
                                      x.y & runs.odd, metadata);
    ptx::mma_sp_m16n8k32_bf16<1>(c, low[2], high[2], low[3], high[3], x.z & runs.even, x.z & runs.odd, x.w & runs.even,
                                 x.w & runs.odd, metadata);
    const uint32_t scales = nvfp4::word(tile.scales, i) & nvfp4::kScaleMagnitudes;
    float low_scales[2], high_scales[2];
    nvfp4::decode_scales(scales, false, low_scales), nvfp4::decode_scales(scales, true, high_scales);
    sum[0] += c[0] * low_scales[0] + c[1] * low_scales[1];
    sum[1] += c[2] * high_scales[0] + c[3] * high_scales[1];
  }
}

// A lane's part of a tile in shared memory.
__device__ __forceinline__ LaneTile read_tile(uint32_t tile, int lane) {
  const uint32_t mine = tile + lane * 16;
  return {{ptx::ld_shared_16(mine), ptx::ld_shared_16(mine + kCodeBytes)},
          ptx::ld_shared_16(mine + kPositions),
          ptx::ld_shared_16(tile + lane_scales(lane))};
}

}  // namespace sparse24
}  // namespace dgx

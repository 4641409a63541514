// NVFP4 weights of 2:4 into compressed tiles (common/sparse24_rows.cuh), and back into what prefill reads: one warp a tile.
#pragma once

#include <cstdint>

#include <common/block_scales.cuh>
#include <common/sparse24_rows.cuh>

namespace dgx {
namespace sparse24 {

constexpr int kThreads = 128;
constexpr int kRowMultiple = 128;  // of the swizzled scales

// Matrices of one shape.
struct Matrices {
  uint8_t* tiles;        // [experts, rows / 16, k / 256] tiles; written by `compress` alone
  uint8_t* packed;       // [experts, rows, k / 2], low nibble first; written by `decompress` alone
  uint8_t* scales;       // [experts, rows, k / 16] as `layout` says; written by `decompress` alone
  int32_t* violations;   // [experts]: quads with more than two values other than zero; added to by `compress`
  int experts, rows, k;
  ScaleLayout layout;
  bool halves;           // a tile's first octet is of the upper half of the rows, its second of the lower: gate and up
};

// A lane's place in the warp that has one tile.
struct Place {
  int64_t tile;      // of all
  int expert, lane, lane_row, lane_quad, stage;
  int row[2];        // lane_row of either octet
};

__device__ __forceinline__ Place place(const Matrices& p, int64_t tile) {
  const int stages = p.k / kTileColumns, row_tiles = p.rows / kTileRows;
  const int64_t of_rows = tile / stages;
  const int row_tile = static_cast<int>(of_rows % row_tiles);
  Place at;
  at.tile = tile, at.expert = static_cast<int>(of_rows / row_tiles), at.stage = static_cast<int>(tile % stages);
  at.lane = threadIdx.x & 31, at.lane_row = at.lane >> 2, at.lane_quad = at.lane & 3;
  at.row[0] = row_tile * (p.halves ? kTileRows / 2 : kTileRows) + at.lane_row;
  at.row[1] = at.row[0] + (p.halves ? p.rows / 2 : kTileRows / 2);
  return at;
}

// Block lane_quad of a step, in a row of codes: eight bytes.
__device__ __forceinline__ int64_t codes_at(const Matrices& p, const Place& at, int octet, int step) {
  return (static_cast<int64_t>(at.expert) * p.rows + at.row[octet]) * (p.k / 2) + at.stage * (kTileColumns / 2) +
         (4 * step + at.lane_quad) * 8;
}

// The scales of the four blocks of a step in a row.
__device__ __forceinline__ int64_t scales_at(const Matrices& p, const Place& at, int octet, int step) {
  const int blocks = p.k / 16;
  return at.expert * scale_bytes(p.layout, p.rows, blocks) + scale_row_offset(p.layout, at.row[octet], blocks) +
         static_cast<int64_t>(at.stage * kSteps + step) * scale_group_stride(p.layout);
}

// What a quad stores: codes in nibbles, places in two bits each, the left one below. Codes other than zero come first, then
// -0, then those further left: the form is unique.
struct Quad {
  uint32_t first, second, places;
  bool violates;
};

__device__ __forceinline__ Quad compress_quad(uint32_t codes) {
  uint32_t values = 0, minus_zeros = 0;  // a bit for each place
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const uint32_t code = codes >> 4 * i & 15;
    values |= (code & 7 ? 1u : 0u) << i;
    minus_zeros |= (code == 8 ? 1u : 0u) << i;
  }
  uint32_t kept = 0;
  const auto keep = [&](uint32_t candidates) {
#pragma unroll
    for (int i = 0; i < 4; i++)
      if ((candidates >> i & 1) && __popc(kept) < 2) kept |= 1u << i;
  };
  keep(values), keep(minus_zeros & ~kept), keep(~kept);
  const uint32_t left = __ffs(kept) - 1, right = __ffs(kept & (kept - 1)) - 1;
  return {codes >> 4 * left & 15, codes >> 4 * right & 15, left | right << 2, __popc(values) > 2};
}

// Of every lane of four nibble lane_quad of `quads` (nibbles 0 to 3 of either half) from lane r as nibble r of either half.
__device__ __forceinline__ uint32_t transpose(uint32_t quads, int lane) {
  uint32_t result = 0;
#pragma unroll
  for (int r = 0; r < 4; r++)
    result |= (__shfl_sync(0xffffffffu, quads, (lane & ~3) + r) >> 4 * (lane & 3) & 0x000F000Fu) << 4 * r;
  return result;
}

__device__ __forceinline__ void set_word(uint4& v, int i, uint32_t value) {
  if (i == 0) v.x = value;
  else if (i == 1) v.y = value;
  else if (i == 2) v.z = value;
  else v.w = value;
}

__global__ void __launch_bounds__(kThreads) compress(const __grid_constant__ Matrices p, int64_t tiles) {
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (tile >= tiles) return;
  const Place at = place(p, tile);
  uint4 codes[2], positions, scales;
  int violations = 0;
#pragma unroll
  for (int i = 0; i < kSteps; i++) {
    uint32_t places = 0, scale = 0;
#pragma unroll
    for (int octet = 0; octet < 2; octet++) {
      const uint2 block = *reinterpret_cast<const uint2*>(p.packed + codes_at(p, at, octet, i));
      uint32_t word = 0;
#pragma unroll
      for (int q = 0; q < 4; q++) {
        const Quad quad = compress_quad((q < 2 ? block.x : block.y) >> q % 2 * 16 & 0xFFFF);
        word |= quad.first << 4 * q | quad.second << 4 * (q + 4);
        places |= quad.places << (16 * octet + 4 * q);
        violations += quad.violates;
      }
      set_word(codes[octet], i, word);
      const uint32_t four = *reinterpret_cast<const uint32_t*>(p.scales + scales_at(p, at, octet, i));
      scale |= (four >> (at.lane_quad & 1) * 16 & 0xFFFF) << 16 * octet;
    }
    set_word(positions, i, transpose(places, at.lane));
    set_word(scales, i, scale);
  }
  uint8_t* to = p.tiles + tile * kTileBytes;
  *reinterpret_cast<uint4*>(to + at.lane * 16) = codes[0];
  *reinterpret_cast<uint4*>(to + kCodeBytes + at.lane * 16) = codes[1];
  *reinterpret_cast<uint4*>(to + kPositions + at.lane * 16) = positions;
  if (at.lane_quad < 2) *reinterpret_cast<uint4*>(to + kScales + (at.lane_row * 2 + at.lane_quad) * 16) = scales;
  if (violations) atomicAdd(p.violations + at.expert, violations);
}

__global__ void __launch_bounds__(kThreads) decompress(const __grid_constant__ Matrices p, int64_t tiles) {
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (tile >= tiles) return;
  const Place at = place(p, tile);
  const uint8_t* from = p.tiles + tile * kTileBytes;
  const uint4 codes[2] = {*reinterpret_cast<const uint4*>(from + at.lane * 16),
                          *reinterpret_cast<const uint4*>(from + kCodeBytes + at.lane * 16)};
  const uint4 positions = *reinterpret_cast<const uint4*>(from + kPositions + at.lane * 16);
  const uint4 scales = *reinterpret_cast<const uint4*>(from + kScales + (at.lane_row * 2 + (at.lane_quad & 1)) * 16);
#pragma unroll
  for (int i = 0; i < kSteps; i++) {
    const uint32_t places = transpose(nvfp4::word(positions, i), at.lane);
    const uint32_t scale = nvfp4::word(scales, i);
#pragma unroll
    for (int octet = 0; octet < 2; octet++) {
      const uint32_t word = nvfp4::word(codes[octet], i);
      uint32_t quads[4];
#pragma unroll
      for (int q = 0; q < 4; q++) {
        const uint32_t where = places >> (16 * octet + 4 * q);
        quads[q] = (word >> 4 * q & 15) << 4 * (where & 3) | (word >> 4 * (q + 4) & 15) << 4 * (where >> 2 & 3);
      }
      *reinterpret_cast<uint2*>(p.packed + codes_at(p, at, octet, i)) =
          make_uint2(quads[0] | quads[1] << 16, quads[2] | quads[3] << 16);
      if (at.lane_quad < 2)
        *reinterpret_cast<uint16_t*>(p.scales + scales_at(p, at, octet, i) + at.lane_quad * 2) =
            static_cast<uint16_t>(scale >> 16 * octet);
    }
  }
}

}  // namespace sparse24
}  // namespace dgx

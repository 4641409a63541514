// linear_decode for FP8 weights whose rows are a few whole slices: each warp of a block keeps the activations of its slice of K
// in registers and runs through the block's tiles of 16 rows, the weights of the next tile under way while it multiplies those
// of this one. Activations are read once a block, not once a tile.
#pragma once

#include <common/fp8_rows.cuh>
#include <linear_decode.cuh>
#include <ptx/grid.cuh>
#include <ptx/load.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace linear {

constexpr int kSlice = 256;         // values of K that a warp has
constexpr int kDirectMaxWarps = 16;
constexpr int kSliceChunks = kSlice / fp8::kChunk;
constexpr int kTileSums = 16 * 8;   // of a tile of rows and a tile of tokens

// One lane's part of a chunk of 16 rows: 16 values of rows g and g + 8.
struct LaneBytes {
  uint4 rows[2];
};

__device__ __forceinline__ LaneBytes load_bytes(const uint8_t* weight, int64_t octet) {
  return {{ptx::ld_once_16(weight), ptx::ld_once_16(weight + octet)}};
}

// The same 16 values of a token, in the order of the decoded weights.
struct LaneValues {
  uint4 pairs[2];
};

template <int kTiles>
__device__ __forceinline__ void multiply(const LaneBytes& bytes, const LaneValues (&x)[kTiles], float (&c)[kTiles][2][4]) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    uint32_t low[4], high[4];
#pragma unroll
    for (int j = 0; j < 2; j++) {
      fp8::decode_e4m3(nvfp4::word(bytes.rows[0], 2 * i + j), low[2 * j], low[2 * j + 1]);
      fp8::decode_e4m3(nvfp4::word(bytes.rows[1], 2 * i + j), high[2 * j], high[2 * j + 1]);
    }
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      const uint4 v = x[n].pairs[i];
      ptx::mma_m16n8k16_bf16(c[n][0], low[0], high[0], low[1], high[1], v.x, v.y);
      ptx::mma_m16n8k16_bf16(c[n][1], low[2], high[2], low[3], high[3], v.z, v.w);
    }
  }
}

// kTiles: tiles of 8 tokens.
template <int kTiles>
__global__ void __launch_bounds__(kDirectMaxWarps * 32, 1) multiply_direct(const __grid_constant__ Layer p) {
  float* all_sums = reinterpret_cast<float*>(ptx::dynamic_shared_memory());  // [turn][warp][tile of tokens][row of 16][token of 8]
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int lane_row = lane >> 2, lane_quad = lane & 3;

  // 1. Load the weights of the first tile.
  const int at = warp * kSlice + lane_quad * 16;
  const int64_t octet = static_cast<int64_t>(8) * p.k, step = static_cast<int64_t>(gridDim.x) * 16 * p.k;
  const uint8_t* weight = p.weight + static_cast<int64_t>(blockIdx.x * 16 + lane_row) * p.k + at;
  LaneBytes bytes[kSliceChunks];
#pragma unroll
  for (int i = 0; i < kSliceChunks; i++) bytes[i] = load_bytes(weight + i * fp8::kChunk, octet);

  // 2. Load this warp's slice of x, once the grid in front has written it.
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  LaneValues x[kSliceChunks][kTiles];
#pragma unroll
  for (int i = 0; i < kSliceChunks; i++)
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      const int token = n * 8 + lane_row;
      const bf16_bits* from = p.x + token * p.x_stride + at + i * fp8::kChunk;
#pragma unroll
      for (int j = 0; j < 2; j++)
        x[i][n].pairs[j] = token < p.tokens ? pair_by_twos(ptx::ld_cg_16(from + j * 8)) : make_uint4(0, 0, 0, 0);
    }

  // 3. Multiply, tile by tile, while the weights of the next tile are loaded.
  const int tiles = p.rows / 16, turn_floats = warps * kTiles * kTileSums;
  int turn = 0;
#pragma unroll 1
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x, turn ^= 1) {
    const bool more = tile + static_cast<int>(gridDim.x) < tiles;
    weight += step;
    float c[kTiles][2][4] = {};
#pragma unroll
    for (int i = 0; i < kSliceChunks; i++) {
      multiply(bytes[i], x[i], c);
      if (more) bytes[i] = load_bytes(weight + i * fp8::kChunk, octet);
    }

    // 4. Add the sums of the warps, and write the tile's outputs.
    float* sums = all_sums + turn * turn_floats;  // of the turn before, other warps may still be reading
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      float2* to = reinterpret_cast<float2*>(sums + (warp * kTiles + n) * kTileSums + lane_row * 8 + 2 * lane_quad);
      to[0] = make_float2(c[n][0][0] + c[n][1][0], c[n][0][1] + c[n][1][1]);
      to[32] = make_float2(c[n][0][2] + c[n][1][2], c[n][0][3] + c[n][1][3]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < p.tokens * 16; i += blockDim.x) {
      const int token = i / 16, index = i % 16, row = tile * 16 + index;
      float sum = 0.0f;
      for (int w = 0; w < warps; w++) sum += sums[(w * kTiles + token / 8) * kTileSums + index * 8 + token % 8];
      sum *= p.global[p.scales == Fp8Scales::kChannel ? row : 0];
      if (p.bias) sum += from_bf16(p.bias[row]);
      p.out[static_cast<int64_t>(token) * p.rows + row] = to_bf16(sum);
    }
  }
}

}  // namespace linear
}  // namespace dgx

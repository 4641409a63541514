// Products of the rows of nvfp4_rows.cuh with two columns of activations, cheaper by a third: scales are applied to sums.
//
// Lane 4g+t decodes run t of 32 values, which has scales of its own. So the operand of the activations has a column for each
// run of each of the two, with zeros at the places of the other runs: column 4c+r holds run r of column c. A lane then finds
// the sums of runs 2t and 2t+1 (mod 4) apart, and scales them in FP32.
//
// Activations come paired and times 2^90, as the decoder leaves weights times 2^-126; from 2^38 up they become infinite.
#pragma once

#include <cstdint>

#include <common/bf16.cuh>
#include <common/nvfp4_rows.cuh>
#include <ptx/arithmetic.cuh>
#include <ptx/convert.cuh>
#include <ptx/mma.cuh>
#include <ptx/shared.cuh>

namespace dgx {
namespace nvfp4 {

constexpr int kRunBytes = 64;                            // of a column
constexpr int kRunExponent = 90;
constexpr float kRunScale = 1.2379400392853803e27f;     // 2^kRunExponent
constexpr float kRunProductScale = 68719476736.0f;       // 2^36: weights times activations come out times 2^-36

// Where value k of a column is.
__device__ __forceinline__ int run_position(int k) { return (k & ~7) | (k & 3) << 1 | (k >> 2 & 1); }

__device__ __forceinline__ uint4 run_unit(const uint4& values) {
  const uint4 paired = pair_by_fours(values);
  constexpr uint32_t kScale = bf16x2_power_of_two<kRunExponent>();
  return make_uint4(ptx::mul_bf16x2(paired.x, kScale), ptx::mul_bf16x2(paired.y, kScale), ptx::mul_bf16x2(paired.z, kScale),
                    ptx::mul_bf16x2(paired.w, kScale));
}

// Where a lane finds four scales in a stage: of runs 2t and 2t+1.
__device__ __forceinline__ ScaleSlot run_scale_slot(bool strided, int lane) {
  const int lane_row = lane >> 2, lane_pair = lane & 1;
  if (strided) return {16 * kRowBytes + (lane_row >> 2) * 16 + (lane_row & 3) * 4 + lane_pair * 32, 64};
  return {16 * kRowBytes + lane_row * kScaleBytes + lane_pair * 4, 8};
}

// Two of four E4M3 scales without their signs, the low ones or the high ones.
__device__ __forceinline__ void decode_scales(uint32_t four, bool high, float (&scales)[2]) {
  const uint32_t halves = ptx::cvt_f16x2_e4m3x2(static_cast<uint16_t>(high ? four >> 16 : four));
  scales[0] = ptx::cvt_f32_f16(static_cast<uint16_t>(halves));
  scales[1] = ptx::cvt_f32_f16(static_cast<uint16_t>(halves >> 16));
}

constexpr uint32_t kScaleMagnitudes = 0x7F7F7F7Fu;

// One lane's part of a chunk of 16 rows: run t of rows g and g + 8, and the scales of runs 2t and 2t+1 (mod 4).
struct LaneChunk {
  uint4 rows[2];
  uint32_t scales[2];
};

// Whether a lane multiplies a run: t of column g / 4 where t = g % 4; else zeros.
__device__ __forceinline__ bool has_run(int lane) { return (lane >> 2 & 3) == (lane & 3); }

// A run in shared memory, 16 bytes at a time.
struct SharedRun {
  uint32_t address;

  __device__ __forceinline__ uint4 operator[](int i) const { return ptx::ld_shared_16(address + i * 16); }
};

// Adds a chunk's products, of rows g and g + 8 with column t / 2; `add_runs` brings the lanes' parts together.
template <class Run>
__device__ __forceinline__ void multiply_runs(const LaneChunk& chunk, const Run& run, float (&sum)[2]) {
  float even[2][2], odd[2][2];  // of the runs, for each of their two blocks
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const uint32_t magnitudes = chunk.scales[r] & kScaleMagnitudes;
    decode_scales(magnitudes, false, even[r]), decode_scales(magnitudes, true, odd[r]);
  }
#pragma unroll
  for (int block = 0; block < 2; block++) {
    float c[4];
#pragma unroll
    for (int i = 2 * block; i < 2 * block + 2; i++) {
      uint32_t low[4], high[4];
      decode_e2m1(word(chunk.rows[0], i), low);
      decode_e2m1(word(chunk.rows[1], i), high);
      const uint4 x = run[i];
      if (i % 2 == 0) ptx::mma_m16n8k16_bf16_zero(c, low[0], high[0], low[1], high[1], x.x, x.y);
      else ptx::mma_m16n8k16_bf16(c, low[0], high[0], low[1], high[1], x.x, x.y);
      ptx::mma_m16n8k16_bf16(c, low[2], high[2], low[3], high[3], x.z, x.w);
    }
    sum[0] += c[0] * even[0][block], sum[0] += c[1] * odd[0][block];
    sum[1] += c[2] * even[1][block], sum[1] += c[3] * odd[1][block];
  }
}

// Lanes without a run read zeros instead, as far as from one chunk's run to the end of the next one's. They begin 32 bytes
// into a line, where they meet in no bank with the runs that are read beside them.
constexpr int kZeroBytes = 32 + 5 * kRunBytes + 32;
static_assert(kZeroBytes % 128 == 0, "What lies behind begins in a line of its own.");

// By the first lanes of a block; others read them after a barrier.
__device__ __forceinline__ void write_zeros(uint32_t zeros, int thread) {
  if (thread < kZeroBytes / 16) ptx::st_shared_16(zeros + thread * 16, make_uint4(0, 0, 0, 0));
}

// Where a lane finds its run of the first chunk of a stage's two columns.
__device__ __forceinline__ uint32_t lane_run(uint32_t columns, uint32_t zeros, int lane) {
  return has_run(lane) ? columns + (lane >> 4) * kColumnBytes + (lane & 3) * kRunBytes : zeros + 32;
}

// Where a lane reads its part of a stage's weights in shared memory.
struct LaneStage {
  uint32_t rows[2];  // row g in each chunk; row g + 8 is eight rows further
  uint32_t scales;
  int scale_step;

  __device__ __forceinline__ LaneStage(uint32_t stage, ScaleSlot slot, int lane) {
    const int lane_row = lane >> 2, lane_quad = lane & 3;
#pragma unroll
    for (int c = 0; c < 2; c++)
      rows[c] = stage + lane_row * kRowBytes + ((c * 4 + lane_quad) ^ (lane_row & 1) * 4) * 16;
    set_scales(stage, slot);
  }

  __device__ __forceinline__ void set_scales(uint32_t stage, ScaleSlot slot) {
    scales = stage + slot.offset, scale_step = slot.step;
  }

  // Adds the products of the stage `offset` bytes further, of which `chunks` are within K, with the columns of `run`.
  __device__ __forceinline__ void multiply(int offset, uint32_t run, int chunks, float (&sum)[2]) const {
#pragma unroll
    for (int c = 0; c < 2; c++) {
      if (c >= chunks) continue;
      const uint32_t row = rows[c] + offset, scale = scales + offset + c * scale_step;
      const LaneChunk chunk = {{ptx::ld_shared_16(row), ptx::ld_shared_16(row + 8 * kRowBytes)},
                               {ptx::ld_shared_4(scale), ptx::ld_shared_4(scale + 8 * kScaleBytes)}};
      multiply_runs(chunk, SharedRun{run + c * 4 * kRunBytes}, sum);
    }
  }
};

// Lanes with even t then hold rows g and g + 8 of column t / 2.
__device__ __forceinline__ void add_runs(float (&sum)[2]) {
  sum[0] += __shfl_xor_sync(0xffffffffu, sum[0], 1);
  sum[1] += __shfl_xor_sync(0xffffffffu, sum[1], 1);
}

}  // namespace nvfp4
}  // namespace dgx

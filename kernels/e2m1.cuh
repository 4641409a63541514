// Quantization to NVFP4: blocks of 16 E2M1 values, each with an E4M3 scale, under one FP32 scale for the tensor.
//
//   scale[block] = E4M3(global * max|x| / 6)         value = E2M1(x * global / scale[block])
//
// `global` is what vLLM calls the input's global scale, 448 * 6 / max|x| of the tensor: a multiplier, not a divisor. The
// order of operations and the approximate reciprocals are those of vLLM's scaled_fp4_quant.
#pragma once

#include <cstdint>

#include <common/bf16.cuh>
#include <common/block_scales.cuh>
#include <common/e2m1.cuh>
#include <ptx/arithmetic.cuh>
#include <ptx/convert.cuh>

namespace dgx {
namespace e2m1 {

constexpr int kBlock = 16;
constexpr int kThreads = 128;

enum class Input : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

struct Tensor {
  const void* x;           // [rows, columns], row_stride values apart
  const float* global;     // [1]
  uint8_t* packed;         // [rows, columns / 2], low nibble first
  uint8_t* scales;         // as `layout` says; padding is written as zero
  int64_t rows, row_stride;
  int columns;
  ScaleLayout layout;
};

// Sixteen values, in 16-byte loads.
template <Input kInput>
__device__ __forceinline__ void read_block(const Tensor& p, int64_t row, int block, float (&v)[kBlock]) {
  const int64_t at = row * p.row_stride + static_cast<int64_t>(block) * kBlock;
  constexpr int kWords = kInput == Input::kFloat32 ? 4 : 2, kBytes = kInput == Input::kFloat32 ? 4 : 2;
  const uint4* words = reinterpret_cast<const uint4*>(static_cast<const uint8_t*>(p.x) + at * kBytes);
#pragma unroll
  for (int i = 0; i < kWords; i++) {
    const uint4 w = words[i];
    const uint32_t parts[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (kInput == Input::kFloat32) {
        v[i * 4 + j] = __uint_as_float(parts[j]);
      } else if (kInput == Input::kBFloat16) {
        v[i * 8 + j * 2] = __uint_as_float(parts[j] << 16);
        v[(i * 8 + j * 2 + 1) % kBlock] = __uint_as_float(parts[j] & 0xFFFF0000u);
      } else {
        v[i * 8 + j * 2] = ptx::cvt_f32_f16(static_cast<uint16_t>(parts[j]));
        v[(i * 8 + j * 2 + 1) % kBlock] = ptx::cvt_f32_f16(static_cast<uint16_t>(parts[j] >> 16));
      }
    }
  }
}

// One thread a block of values; threads beyond the tensor write the scales' padding.
template <Input kInput>
__global__ void __launch_bounds__(kThreads) quantize(const __grid_constant__ Tensor p) {
  const bool swizzled = p.layout == ScaleLayout::kSwizzled;
  const int blocks = p.columns / kBlock, padded_blocks = swizzled ? (blocks + 3) / 4 * 4 : blocks;
  const int64_t padded_rows = swizzled ? round_up(p.rows, 128) : p.rows;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= padded_rows * padded_blocks) return;
  const int64_t row = index / padded_blocks;
  const int block = static_cast<int>(index % padded_blocks);
  uint8_t* scale = p.scales + (swizzled ? row / 128 * (padded_blocks / 4) * 512 + block / 4 * 512 + row % 32 * 16 +
                                              row % 128 / 32 * 4 + block % 4
                                        : index);
  if (row >= p.rows || block >= blocks) {
    *scale = 0;
    return;
  }
  float v[kBlock];
  read_block<kInput>(p, row, block, v);
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kBlock; i++) largest = fmaxf(largest, fabsf(v[i]));
  const float global = *p.global;
  const uint8_t code = ptx::cvt_e4m3(global * (largest * ptx::rcp_approx_ftz(6.0f)));
  const float stored = ptx::cvt_f32_e4m3(code);
  const float factor = stored != 0.0f ? ptx::rcp_approx_ftz(stored * ptx::rcp_approx_ftz(global)) : 0.0f;
  uint32_t words[2] = {};
#pragma unroll
  for (int i = 0; i < kBlock / 2; i++)
    words[i / 4] |= (e2m1_pair(v[2 * i] * factor, v[2 * i + 1] * factor) & 0xFF) << (i % 4 * 8);
  *scale = code;
  *reinterpret_cast<uint2*>(p.packed + row * (p.columns / 2) + block * (kBlock / 2)) = make_uint2(words[0], words[1]);
}

// Codes of single values, one a byte: for tests of the conversion.
template <bool kSoftware>
__global__ void __launch_bounds__(kThreads) convert(const float* x, uint8_t* codes, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  codes[i] = static_cast<uint8_t>(kSoftware ? e2m1_software(x[i]) : e2m1_pair(x[i], 0.0f) & 15);
}

}  // namespace e2m1
}  // namespace dgx

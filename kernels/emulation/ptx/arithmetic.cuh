// ptx/arithmetic.cuh on a CPU.
#pragma once

#include <cuda_runtime.h>

#include <ptx/convert.cuh>

namespace ptx {

inline uint32_t mul_bf16x2(uint32_t a, uint32_t b) {
  const float low = __uint_as_float(a << 16) * __uint_as_float(b << 16);
  const float high = __uint_as_float(a & 0xffff0000u) * __uint_as_float(b & 0xffff0000u);
  return cvt_bf16x2(low, high);
}

inline float rcp_approx_ftz(float x) { return 1.0f / (std::fabs(x) < 1.17549435e-38f ? std::copysign(0.0f, x) : x); }

}  // namespace ptx

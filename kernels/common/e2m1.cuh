// FP32 to E2M1 as `cvt.rn.satfinite.e2m1x2.f32` defines it: nearest, ties to even, saturating at +-6, -0 kept, NaN to +6.
#pragma once

#include <cstdint>

#include <ptx/convert.cuh>

namespace dgx {

// The same on any target, exact for every FP32 pattern.
__device__ __forceinline__ uint32_t e2m1_software(float x) {
  const uint32_t bits = __float_as_uint(x), magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return 7;  // NaN
  // From 1 up, codes go on as FP32's exponent and first mantissa bit do; the addition rounds the bits below to even.
  const uint32_t rounded = (magnitude + 0x001FFFFFu + (magnitude >> 22 & 1)) >> 22;
  // Below 1 codes count halves: 2^22 has halves as its last bit, and the addition rounds to even.
  const uint32_t halves = __float_as_uint(__uint_as_float(magnitude) + 4194304.0f) & 3;
  const uint32_t code = magnitude < 0x3F800000u ? halves : magnitude >= 0x40C00000u ? 7 : rounded - 252;
  return code | (bits >> 28 & 8);
}

// Two values in a byte, `low` in the low nibble.
__device__ __forceinline__ uint32_t e2m1_pair(float low, float high) {
#if DGX_HAS_CVT_E2M1
  return ptx::cvt_e2m1x2(low, high);
#else
  return e2m1_software(low) | e2m1_software(high) << 4;
#endif
}

}  // namespace dgx

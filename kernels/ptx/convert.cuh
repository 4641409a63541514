// Conversions between number formats.
#pragma once

#include <cstdint>

namespace ptx {

// Two FP32 to BF16, nearest even; `low` goes to the low half.
__device__ __forceinline__ uint32_t cvt_bf16x2(float low, float high) {
  uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}

// One FP32 to E4M3, nearest even, saturating at +-448; NaN stays NaN.
__device__ __forceinline__ uint8_t cvt_e4m3(float x) {
  uint16_t d;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(d) : "f"(0.0f), "f"(x));
  return static_cast<uint8_t>(d);
}

// Two E4M3 to FP16, exact; the first is in the low half.
__device__ __forceinline__ uint32_t cvt_f16x2_e4m3x2(uint16_t two) {
  uint32_t d;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(d) : "h"(two));
  return d;
}

// One E4M3 to FP32, exact.
__device__ __forceinline__ float cvt_f32_e4m3(uint8_t x) {
  const uint32_t pair = cvt_f16x2_e4m3x2(x);
  float d;
  asm("cvt.f32.f16 %0, %1;" : "=f"(d) : "h"(static_cast<uint16_t>(pair)));
  return d;
}

// One FP16 to FP32, exact.
__device__ __forceinline__ float cvt_f32_f16(uint16_t x) {
  float d;
  asm("cvt.f32.f16 %0, %1;" : "=f"(d) : "h"(x));
  return d;
}

// The hardware's E2M1 conversion belongs to the architecture-specific targets of compute capability 10 and 12.
#if defined(__CUDA_ARCH_SPECIFIC__) && __CUDA_ARCH__ >= 1000
#define DGX_HAS_CVT_E2M1 1

// Two FP32 to E2M1, nearest even, saturating at +-6, -0 kept, NaN to +6; `low` goes to the low nibble.
__device__ __forceinline__ uint32_t cvt_e2m1x2(float low, float high) {
  uint32_t d;
  asm("{.reg .b8 pair; cvt.rn.satfinite.e2m1x2.f32 pair, %1, %2; cvt.u32.u8 %0, pair;}"
      : "=r"(d)
      : "f"(high), "f"(low));
  return d;
}
#else
#define DGX_HAS_CVT_E2M1 0
#endif

}  // namespace ptx

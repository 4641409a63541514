// Arithmetic on packed pairs, and approximate functions.
#pragma once

#include <cstdint>

namespace ptx {

// Two BF16 products, subnormals kept.
__device__ __forceinline__ uint32_t mul_bf16x2(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

// 1/x to within one unit in the last place; subnormals count as zero.
__device__ __forceinline__ float rcp_approx_ftz(float x) {
  float d;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x));
  return d;
}

}  // namespace ptx

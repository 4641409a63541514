// Loads that need more than a plain C++ access.
#pragma once

#include <cstdint>

namespace ptx {

// A value that another block wrote: taken from L2, never from a stale line of L1.
__device__ __forceinline__ int32_t ld_relaxed(const int32_t* address) {
  int32_t value;
  asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

__device__ __forceinline__ float ld_relaxed(const float* address) {
  float value;
  asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(value) : "l"(address) : "memory");
  return value;
}

}  // namespace ptx

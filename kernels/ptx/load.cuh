// Loads that need more than a plain C++ access.
#pragma once

#include <cstdint>

#include <vector_types.h>

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

// 16 bytes that another block wrote.
__device__ __forceinline__ uint4 ld_cg_16(const void* address) {
  uint4 v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address)
               : "memory");
  return v;
}

// Bytes that nobody reads again. Not as constants: the assembler would move such loads behind barriers, and behind work that
// they are to be under way beside, to save registers.
__device__ __forceinline__ uint4 ld_once_16(const void* address) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address)
               : "memory");
  return v;
}

__device__ __forceinline__ uint32_t ld_once_4(const void* address) {
  uint32_t value;
  asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

// 16 bytes that nobody writes.
__device__ __forceinline__ uint4 ld_constant_16(const void* address) {
  uint4 v;
  asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(address));
  return v;
}

// Makes an address be computed here, and what is added to it later be added to what came out.
__device__ __forceinline__ void settle(const uint8_t*& address) { asm volatile("" : "+l"(address)); }

}  // namespace ptx

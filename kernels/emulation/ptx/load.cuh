// ptx/load.cuh on a CPU.
#pragma once

#include <cuda_runtime.h>

namespace ptx {

inline int32_t ld_relaxed(const int32_t* address) { return *address; }
inline float ld_relaxed(const float* address) { return *address; }

template <class T>
inline T ld_aligned(const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(T))
    emulation::violate("a load of %zu bytes from %p is not aligned", sizeof(T), address);
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}

inline uint4 ld_cg_16(const void* address) { return ld_aligned<uint4>(address); }
inline uint4 ld_once_16(const void* address) { return ld_aligned<uint4>(address); }
inline uint4 ld_constant_16(const void* address) { return ld_aligned<uint4>(address); }
inline uint32_t ld_once_4(const void* address) { return ld_aligned<uint32_t>(address); }

inline void settle(const uint8_t*&) {}

}  // namespace ptx

// ptx/load.cuh on a CPU.
#pragma once

#include <cstdint>

namespace ptx {

inline int32_t ld_relaxed(const int32_t* address) { return *address; }
inline float ld_relaxed(const float* address) { return *address; }

}  // namespace ptx

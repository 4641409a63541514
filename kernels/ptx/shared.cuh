// Shared memory.
#pragma once

#include <vector_types.h>

namespace ptx {

// What the launch asked for.
__device__ __forceinline__ uint4* dynamic_shared_memory() {
  extern __shared__ uint4 memory[];
  return memory;
}

}  // namespace ptx

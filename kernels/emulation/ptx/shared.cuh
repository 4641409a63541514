// ptx/shared.cuh on a CPU.
#pragma once

#include <cuda_runtime.h>

namespace ptx {

inline uint4* dynamic_shared_memory() { return emulation::machine.shared.data(); }

}  // namespace ptx

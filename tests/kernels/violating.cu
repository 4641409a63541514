// Small kernels that each do one thing that a GPU would not bear, and one that does nothing of the kind, for ctypes.
#include <cuda_runtime.h>

#include <common/launch.h>
#include <ptx/arithmetic.cuh>
#include <ptx/copy.cuh>
#include <ptx/load.cuh>
#include <ptx/mma.cuh>
#include <ptx/shared.cuh>

namespace violating {

// The thread that goes wrong, of 2 blocks of 64.
__device__ inline bool here() { return blockIdx.x == 1 && threadIdx.x == 37; }

__global__ void right(int* out) {
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<int>(threadIdx.x);
}

__global__ void loads_unaligned(const char* from) { ptx::ld_cg_16(from + (here() ? 4 : 0)); }

__global__ void copies_unaligned(const char* from) {
  ptx::cp_async_16(ptx::shared_address(ptx::dynamic_shared_memory()), from + (here() ? 8 : 0), true);
}

__global__ void copies_beyond_shared_memory(const char* from) { ptx::cp_async_16(here() ? 1024 : 0, from, true); }

__global__ void writes_beyond_shared_memory() { ptx::dynamic_shared_memory()[here() ? 64 : 0].x = 1; }

__global__ void writes_beyond_its_array(int* out) { out[here() ? 4096 : 0] = 1; }

template <int kLate>
__global__ void waits_alone() {
  if (threadIdx.x < kLate) __syncthreads();
}

__global__ void has_descending_metadata() {
  float sums[4] = {};
  ptx::mma_sp_m16n8k32_bf16<0>(sums, 0, 0, 0, 0, 0, 0, 0, 0, blockIdx.x == 1 ? 0x11111111u : 0x44444444u);
}

}  // namespace violating

extern "C" {

const char* violation() { return emulation::violation.c_str(); }

// `memory`: 16 KiB.
int violate(int which, char* memory) {
  using namespace violating;
  const dgx::LaunchShape shape = {dim3(2), dim3(64), 1024};
  int* ints = reinterpret_cast<int*>(memory);
  const char* bytes = memory;
  switch (which) {
    case 0: return dgx::launch(right, shape, nullptr, false, ints);
    case 1: return dgx::launch(loads_unaligned, shape, nullptr, false, bytes);
    case 2: return dgx::launch(copies_unaligned, shape, nullptr, false, bytes);
    case 3: return dgx::launch(copies_beyond_shared_memory, shape, nullptr, false, bytes);
    case 4: return dgx::launch(writes_beyond_shared_memory, shape, nullptr, false);
    case 5: return dgx::launch(writes_beyond_its_array, shape, nullptr, false, ints);
    case 6: return dgx::launch(waits_alone<40>, shape, nullptr, false);
    case 7: return dgx::launch(has_descending_metadata, shape, nullptr, false);
    // What the runtime refuses is no violation.
    case 8: return dgx::launch(right, {dim3(2), dim3(33), 0}, nullptr, false, ints);
    case 9: return dgx::launch(right, {dim3(2), dim3(64), 100 * 1024}, nullptr, false, ints);
    default: return cudaErrorInvalidValue;
  }
}

}  // extern "C"

// Kernel launches with programmatic dependent launch.
#pragma once

#include <algorithm>
#include <cstdint>

#include <cuda_runtime.h>

namespace dgx {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes;
  bool all_shared = false;  // the driver makes all of the cache that can be into shared memory, so that another grid fits in
};

struct Chip {
  int multiprocessors, multiprocessor_shared_bytes, block_shared_bytes;
};

inline cudaError_t this_chip(Chip& chip) {
  int device;
  cudaError_t error = cudaGetDevice(&device);
  const auto ask = [&](int& value, cudaDeviceAttr attribute) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&value, attribute, device);
  };
  ask(chip.multiprocessors, cudaDevAttrMultiProcessorCount);
  ask(chip.multiprocessor_shared_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  ask(chip.block_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return error;
}

// Shared memory for blocks that need `bytes`, so that no multiprocessor takes more than its share of `blocks`: those that
// are free first, because another grid is ending on the others, would fill up while the others idle. They share `available`.
inline size_t even_share(const Chip& chip, int available, int64_t blocks, size_t bytes) {
  constexpr int64_t kReserved = 1024;  // by the system, for each block
  const int64_t share = (blocks + chip.multiprocessors - 1) / chip.multiprocessors;
  const int64_t limit = std::min<int64_t>(available / share - kReserved, chip.block_shared_bytes);
  return std::max(static_cast<int64_t>(bytes), limit / 128 * 128);
}

// With `overlap`, which is for kernels that wait by themselves (griddepcontrol) before they touch what the grid in front
// writes, a grid may start before that one ends.
template <class... Parameters>
inline cudaError_t launch(void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream, bool overlap,
                          const Parameters&... arguments) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (shape.shared_bytes > kWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  if (shape.all_shared) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributePreferredSharedMemoryCarveout,
                                                   cudaSharedmemCarveoutMaxShared);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlap ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace dgx

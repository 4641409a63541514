// What a kernel could reach at best on this machine: the same bytes read, nothing computed.
#include <common/arguments.h>
#include <common/launch.h>
#include <ptx/grid.cuh>

namespace dgx {
namespace {

__device__ __forceinline__ uint4 read_once(const uint4* address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}

constexpr int kThreads = 256, kUnroll = 8, kBlocks = 8;  // kBlocks on a multiprocessor

// Folds the words `start + thread`, a block's share apart, so that no load can be left out.
__device__ __forceinline__ uint32_t fold(const uint4* words, int64_t count, int64_t start, int64_t step) {
  uint32_t sum = 0;
  int64_t i = start;
  for (; i + (kUnroll - 1) * step < count; i += kUnroll * step) {
    uint4 v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; u++) v[u] = read_once(words + i + u * step);
#pragma unroll
    for (int u = 0; u < kUnroll; u++) sum ^= v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  for (; i < count; i += step) {
    const uint4 v = read_once(words + i);
    sum ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  return sum;
}

__global__ void __launch_bounds__(kThreads) stream(const uint4* words, int64_t count, uint32_t* sink) {
  const uint32_t sum = fold(words, count, blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x,
                            static_cast<int64_t>(gridDim.x) * kThreads);
  if (sum == 0x12345678u) *sink = sum;
}

__global__ void __launch_bounds__(kThreads) expert_bytes(const uint8_t* weight, const uint8_t* scale, const int32_t* ids,
                                                         int64_t weight_bytes, int64_t scale_bytes, uint32_t* sink) {
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  const int64_t expert = ids[blockIdx.x], parts = gridDim.y, part = blockIdx.y;
  const auto share = [&](const uint8_t* base, int64_t bytes) {
    const int64_t words = bytes / 16 / parts;
    return fold(reinterpret_cast<const uint4*>(base + expert * bytes) + part * words, words, threadIdx.x, kThreads);
  };
  const uint32_t sum = share(weight, weight_bytes) ^ share(scale, scale_bytes);
  if (sum == 0x12345678u) *sink = sum;
}

void stream_read(TensorView buffer, TensorView sink) {
  launch_on(buffer.device(), "stream_read", [&](cudaStream_t current) {
    Chip chip;
    const cudaError_t error = this_chip(chip);
    if (error != cudaSuccess) return error;
    return launch(stream, {dim3(chip.multiprocessors * kBlocks), dim3(kThreads), 0}, current, false,
                  static_cast<const uint4*>(buffer.data_ptr()), static_cast<int64_t>(buffer.numel() / 16),
                  static_cast<uint32_t*>(sink.data_ptr()));
  });
}

// The bytes of the experts in `ids`, as two grids, each waiting for the one in front.
void moe_bytes(TensorView w13, TensorView s13, TensorView w2, TensorView s2, TensorView ids, TensorView sink) {
  const auto read = [&](const TensorView& weight, const TensorView& scale, unsigned parts) {
    launch_on(ids.device(), "moe_bytes", [&](cudaStream_t current) {
      return launch(expert_bytes, {dim3(ids.numel(), parts), dim3(kThreads), 0}, current, true,
                    static_cast<const uint8_t*>(weight.data_ptr()), static_cast<const uint8_t*>(scale.data_ptr()),
                    static_cast<const int32_t*>(ids.data_ptr()), static_cast<int64_t>(weight.numel() / weight.size(0)),
                    static_cast<int64_t>(scale.numel() / scale.size(0)), static_cast<uint32_t*>(sink.data_ptr()));
    });
  };
  read(w13, s13, 32);
  read(w2, s2, 16);
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(stream_read, stream_read);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_bytes, moe_bytes);

}  // namespace dgx

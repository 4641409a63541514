// The launches of e2m1.cuh.
#pragma once

#include <common/launch.h>
#include <e2m1.cuh>

namespace dgx {
namespace e2m1 {

inline LaunchShape shape_for(int64_t threads) {
  return {dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)), dim3(kThreads), 0};
}

inline cudaError_t run_quantize(const Tensor& p, Input input, cudaStream_t stream) {
  const int64_t blocks = p.columns / kBlock;
  const LaunchShape shape = shape_for(scale_bytes(p.layout, p.rows, blocks));
  const auto kernel = input == Input::kFloat32    ? quantize<Input::kFloat32>
                      : input == Input::kBFloat16 ? quantize<Input::kBFloat16>
                                                  : quantize<Input::kFloat16>;
  return launch(kernel, shape, stream, false, p);
}

inline cudaError_t run_convert(const float* x, uint8_t* codes, int64_t count, bool software, cudaStream_t stream) {
  return launch(software ? convert<true> : convert<false>, shape_for(count), stream, false, x, codes, count);
}

}  // namespace e2m1
}  // namespace dgx

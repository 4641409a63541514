// The launches of sparse24.cuh.
#pragma once

#include <common/launch.h>
#include <sparse24.cuh>

namespace dgx {
namespace sparse24 {

inline cudaError_t run(void (*kernel)(Matrices, int64_t), const Matrices& p, cudaStream_t stream) {
  const int64_t tiles = static_cast<int64_t>(p.experts) * (p.rows / kTileRows) * (p.k / kTileColumns);
  constexpr int kWarps = kThreads / 32;
  const LaunchShape shape{dim3(static_cast<unsigned>((tiles + kWarps - 1) / kWarps)), dim3(kThreads), 0};
  return launch(kernel, shape, stream, false, p, tiles);
}

inline cudaError_t run_compress(const Matrices& p, cudaStream_t stream) { return run(compress, p, stream); }
inline cudaError_t run_decompress(const Matrices& p, cudaStream_t stream) { return run(decompress, p, stream); }

}  // namespace sparse24
}  // namespace dgx

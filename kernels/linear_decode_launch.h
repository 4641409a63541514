// The launch of linear_decode.cuh.
#pragma once

#include <algorithm>

#include <common/launch.h>
#include <linear_decode.cuh>

namespace dgx {
namespace linear {

template <Weights kWeights>
inline cudaError_t run(Layer p, cudaStream_t stream, bool overlap) {
  using F = Format<kWeights>;
  Chip chip;
  cudaError_t error = this_chip(chip);
  if (error != cudaSuccess) return error;
  constexpr int kWarps = 24;  // that keep a multiprocessor busy
  const int stages = (p.k + F::kStage - 1) / F::kStage, tiles = p.rows / 16;
  const int warp_bytes = kDepth * (F::kStageBytes + p.tokens * F::kColumnBytes) + F::kColumnBytes;
  // Few tiles are spread over many warps; the warps of many tiles work long.
  const int wanted = std::clamp(kWarps * chip.multiprocessors / tiles, 1, kMaxWarps);
  const int most_warps = std::min({wanted, stages, chip.block_shared_bytes / warp_bytes});
  p.warp_stages = (stages + most_warps - 1) / most_warps;
  const int warps = (stages + p.warp_stages - 1) / p.warp_stages;
  const LaunchShape shape{dim3(p.rows / 16), dim3(warps * 32), static_cast<size_t>(warps * warp_bytes)};
  return launch(p.tokens <= 8 ? multiply<kWeights, 1> : multiply<kWeights, 2>, shape, stream, overlap, p);
}

}  // namespace linear
}  // namespace dgx

// The launch of linear_decode.cuh.
#pragma once

#include <algorithm>

#include <common/launch.h>
#include <linear_decode.cuh>
#include <linear_direct.cuh>

namespace dgx {
namespace linear {

inline bool direct(const Layer& p) {
  return p.scales != Fp8Scales::kBlock && p.k % kSlice == 0 && p.k / kSlice <= kDirectMaxWarps;
}

inline cudaError_t run_direct(const Layer& p, const Chip& chip, cudaStream_t stream, bool overlap) {
  const int warps = p.k / kSlice, token_tiles = (p.tokens + 7) / 8, tiles = p.rows / 16;
  const int resident = chip.multiprocessors * std::max(1, kDirectMaxWarps / warps);
  // Blocks that start as others end even out multiprocessors of unequal speed; few tiles cannot pay for their start.
  constexpr int kManyTiles = 16, kRounds = 3;
  const int blocks = tiles >= kManyTiles * resident ? kRounds * resident : std::min(tiles, resident);
  const LaunchShape shape{dim3(blocks), dim3(warps * 32),
                          2 * warps * token_tiles * kTileSums * sizeof(float)};
  return launch(token_tiles == 1 ? multiply_direct<1> : multiply_direct<2>, shape, stream, overlap, p);
}

template <Weights kWeights>
inline cudaError_t run(Layer p, cudaStream_t stream, bool overlap) {
  using F = Format<kWeights>;
  Chip chip;
  cudaError_t error = this_chip(chip);
  if (error != cudaSuccess) return error;
  if constexpr (kWeights == Weights::kFp8)
    if (direct(p)) return run_direct(p, chip, stream, overlap);
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

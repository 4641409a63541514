// ptx/mma.cuh on a CPU: products summed in float64.
#pragma once

#include <cuda_runtime.h>

namespace ptx {

inline void mma_m16n8k16_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  emulation::Warp& w = emulation::warp();
  const int lane = emulation::lane(), g = lane >> 2, t = lane & 3;
  const uint32_t mine[6] = {a0, a1, a2, a3, b0, b1};
  std::memcpy(w.exchange[lane], mine, sizeof mine);
  emulation::warp_barrier();
  const auto low = [](uint32_t pair) { return static_cast<double>(__uint_as_float(pair << 16)); };
  const auto high = [](uint32_t pair) { return static_cast<double>(__uint_as_float(pair & 0xffff0000u)); };
  for (int i = 0; i < 4; i++) {
    const int row = i / 2, column = 2 * t + i % 2;
    double sum = c[i];
    for (int k = 0; k < 8; k++) {  // pairs along K: four in the first operand registers, four in the second
      const uint32_t a = w.exchange[g * 4 + k % 4][row + k / 4 * 2], b = w.exchange[column * 4 + k % 4][4 + k / 4];
      sum += low(a) * low(b) + high(a) * high(b);
    }
    c[i] = static_cast<float>(sum);
  }
  emulation::warp_barrier();
}

inline void mma_m16n8k16_bf16_zero(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  c[0] = c[1] = c[2] = c[3] = 0.0f;
  mma_m16n8k16_bf16(c, a0, a1, a2, a3, b0, b1);
}

template <int kLanes>
inline void mma_sp_m16n8k32_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
                                 uint32_t b2, uint32_t b3, uint32_t metadata) {
  emulation::Warp& w = emulation::warp();
  const int lane = emulation::lane(), g = lane >> 2, t = lane & 3;
  const uint32_t mine[9] = {a0, a1, a2, a3, b0, b1, b2, b3, metadata};
  std::memcpy(w.exchange[lane], mine, sizeof mine);
  emulation::warp_barrier();
  const auto half = [](uint32_t pair, int i) {
    return static_cast<double>(__uint_as_float(i ? pair & 0xffff0000u : pair << 16));
  };
  for (int i = 0; i < 4; i++) {
    const int row = i / 2, column = 2 * t + i % 2;
    double sum = c[i];
    for (int quad = 0; quad < 8; quad++) {
      const uint32_t a = w.exchange[g * 4 + quad % 4][row + quad / 4 * 2];
      const uint32_t places = w.exchange[g * 4 + 2 * kLanes + quad / 4][8] >> (row * 16 + quad % 4 * 4);
      if ((places & 3) >= (places >> 2 & 3))
        emulation::violate("the metadata of mma.sp name place %u before %u, and must ascend", places & 3, places >> 2 & 3);
      for (int j = 0; j < 2; j++) {
        const int k = 4 * quad + static_cast<int>(places >> 2 * j & 3);
        sum += half(a, j) * half(w.exchange[column * 4 + k % 8 / 2][4 + k / 8], k % 2);
      }
    }
    c[i] = static_cast<float>(sum);
  }
  emulation::warp_barrier();
}

template <int kLanes>
inline void mma_sp_m16n8k32_bf16_zero(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                      uint32_t b1, uint32_t b2, uint32_t b3, uint32_t metadata) {
  c[0] = c[1] = c[2] = c[3] = 0.0f;
  mma_sp_m16n8k32_bf16<kLanes>(c, a0, a1, a2, a3, b0, b1, b2, b3, metadata);
}

}  // namespace ptx

// Warp-level matrix multiply-accumulate.
#pragma once

#include <cstdint>

namespace ptx {

// c[16x8] += a[16x16] * b[16x8], BF16 in, FP32 out. Lane 4g+t holds, as pairs along k: a0 (row g), a1 (row g+8),
// a2 (row g, k+8), a3 (row g+8, k+8); b0, b1 (column g); c0, c1 (row g, columns 2t, 2t+1), c2, c3 (row g+8).
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                                  uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The same onto zeros.
__device__ __forceinline__ void mma_m16n8k16_bf16_zero(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                                       uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "f"(0.0f));
}

// c[16x8] = a[16x32] * b[32x8], BF16 in, FP32 out, where a stores two of every four values along k. Lane 4g+t holds of quad t
// (four columns of a) the two values of row g in a0 and of row g+8 in a1, of quad 4+t in a2 and a3; of column g of b rows
// 2t + {0, 1} in b0, and 8, 16 and 24 rows further in b1, b2 and b3; c as above. `metadata` counts in lanes 2 * kLanes (quads 0
// to 3) and 2 * kLanes + 1 (quads 4 to 7) of every four: in the low half of row g, in the high half of row g+8, four bits a
// quad: the places of the two values, the first one's below the second's.
template <int kLanes>
__device__ __forceinline__ void mma_sp_m16n8k32_bf16_zero(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                                          uint32_t b0, uint32_t b1, uint32_t b2, uint32_t b3,
                                                          uint32_t metadata) {
  static_assert(kLanes == 0 || kLanes == 1, "The metadata of two lanes of four.");
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9,%10,%11}, {%14,%14,%14,%14}, %12, %13;"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(b2), "r"(b3), "r"(metadata), "n"(kLanes), "f"(0.0f));
}

// The same onto c.
template <int kLanes>
__device__ __forceinline__ void mma_sp_m16n8k32_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                                     uint32_t b0, uint32_t b1, uint32_t b2, uint32_t b3, uint32_t metadata) {
  static_assert(kLanes == 0 || kLanes == 1, "The metadata of two lanes of four.");
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9,%10,%11}, {%0,%1,%2,%3}, %12, %13;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(b2), "r"(b3), "r"(metadata), "n"(kLanes));
}

}  // namespace ptx

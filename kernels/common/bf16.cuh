// BF16 values as bits: two to a 32-bit word, the first in the low half.
#pragma once

#include <cstdint>

#include <ptx/convert.cuh>

namespace dgx {

using bf16_bits = uint16_t;

// Powers of two as BF16 pairs.
template <int kExponent>
__device__ constexpr uint32_t bf16x2_power_of_two() {
  static_assert(kExponent > -127 && kExponent < 128, "BF16 holds 2^-126 to 2^127 as normal numbers.");
  return static_cast<uint32_t>(kExponent + 127) * 0x00800080u;
}

__device__ __forceinline__ bf16_bits to_bf16(float x) { return static_cast<bf16_bits>(ptx::cvt_bf16x2(x, 0.0f)); }

__device__ __forceinline__ float from_bf16(bf16_bits x) { return __uint_as_float(static_cast<uint32_t>(x) << 16); }

// Eight consecutive values as the pairs (0,4) (1,5) (2,6) (3,7), the order in which NVFP4 words are decoded.
__device__ __forceinline__ uint4 pair_by_fours(const uint4& v) {
  return make_uint4(__byte_perm(v.x, v.z, 0x5410), __byte_perm(v.x, v.z, 0x7632), __byte_perm(v.y, v.w, 0x5410),
                    __byte_perm(v.y, v.w, 0x7632));
}

// Eight consecutive values as the pairs (0,2) (1,3) (4,6) (5,7), the order in which FP8 words are decoded.
__device__ __forceinline__ uint4 pair_by_twos(const uint4& v) {
  return make_uint4(__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.x, v.y, 0x7632), __byte_perm(v.z, v.w, 0x5410),
                    __byte_perm(v.z, v.w, 0x7632));
}

}  // namespace dgx

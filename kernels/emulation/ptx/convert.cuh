// ptx/convert.cuh on a CPU, but for the E2M1 conversion: targets without it take the software path, and so does a CPU.
#pragma once

#include <cuda_runtime.h>

#define DGX_HAS_CVT_E2M1 0

namespace ptx {

inline uint16_t bf16_nearest_even(float x) {
  const uint32_t bits = __float_as_uint(x);
  if (std::isnan(x)) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline uint32_t cvt_bf16x2(float low, float high) {
  return bf16_nearest_even(low) | static_cast<uint32_t>(bf16_nearest_even(high)) << 16;
}

inline float cvt_f32_e4m3(uint8_t x) {
  const int exponent = x >> 3 & 15, mantissa = x & 7;
  float value = exponent ? std::ldexp(8.0f + mantissa, exponent - 10) : std::ldexp(static_cast<float>(mantissa), -9);
  if ((x & 0x7f) == 0x7f) value = NAN;
  return x & 0x80 ? -value : value;
}

// Every E4M3 value is a normal number of FP16, or zero.
inline uint16_t f16_of_e4m3(uint8_t x) {
  const float value = cvt_f32_e4m3(x);
  const uint16_t sign = static_cast<uint16_t>((x & 0x80) << 8);
  if (std::isnan(value)) return 0x7fff;
  int exponent;
  const float fraction = std::frexp(std::fabs(value), &exponent);  // in [0.5, 1), or 0
  if (fraction == 0.0f) return sign;
  return static_cast<uint16_t>(sign | (exponent + 14) << 10 | (static_cast<int>(fraction * 2048.0f) & 1023));
}

inline uint32_t cvt_f16x2_e4m3x2(uint16_t two) {
  return f16_of_e4m3(static_cast<uint8_t>(two)) | static_cast<uint32_t>(f16_of_e4m3(static_cast<uint8_t>(two >> 8))) << 16;
}

inline uint8_t cvt_e4m3(float x) {
  const uint8_t sign = std::signbit(x) ? 0x80 : 0;
  if (std::isnan(x)) return 0x7f | sign;
  const float magnitude = std::fabs(x);
  if (magnitude >= 448.0f) return 0x7e | sign;
  int exponent;
  std::frexp(magnitude, &exponent);                       // magnitude in [2^(exponent-1), 2^exponent)
  const int step = std::max(exponent - 4, -9);            // three bits behind the first, or the subnormals' step
  const int units = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -step)));
  if (units < 8) return static_cast<uint8_t>(units) | sign;
  const int carry = units == 16;
  return static_cast<uint8_t>((step + 10 + carry) << 3 | (carry ? 0 : units - 8)) | sign;
}

inline float cvt_f32_f16(uint16_t x) {
  const int exponent = x >> 10 & 31, mantissa = x & 1023;
  float value = exponent == 31 ? (mantissa ? NAN : INFINITY)
                : exponent     ? std::ldexp(1024.0f + mantissa, exponent - 25)
                               : std::ldexp(static_cast<float>(mantissa), -24);
  return x & 0x8000 ? -value : value;
}

}  // namespace ptx

// The gate functions of gated experts.
#pragma once

namespace dgx {

enum class Gate : int { kSilu = 0, kGeluTanh = 1, kGeluErf = 2 };

__device__ __forceinline__ float apply_gate(Gate gate, float x) {
  if (gate == Gate::kSilu) return __fdividef(x, 1.0f + __expf(-x));
  if (gate == Gate::kGeluTanh) {
    const float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + tanhf(inner));
  }
  return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
}

}  // namespace dgx

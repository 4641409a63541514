// The kernels on the CPU, for ctypes. Each function but `violation` returns a cudaError_t.
#include <cuda_runtime.h>

#include <e2m1_launch.h>
#include <linear_decode_launch.h>
#include <moe_decode_launch.h>
#include <sparse24_launch.h>

extern "C" {

struct ExpertsC {
  const uint8_t *weight13, *scale13;
  const float* global13;
  const uint8_t *weight2, *scale2;
  const float* global2;
  int intermediate, globals13, swizzled, up_first, sparse;
};

static dgx::moe::Experts experts(const ExpertsC& e) {
  dgx::moe::Experts experts{};
  experts.weight13 = e.weight13, experts.scale13 = e.scale13, experts.global13 = e.global13;
  experts.weight2 = e.weight2, experts.scale2 = e.scale2, experts.global2 = e.global2;
  experts.intermediate = e.intermediate, experts.globals13 = e.globals13;
  experts.layout = static_cast<dgx::ScaleLayout>(e.swizzled), experts.up_first = e.up_first != 0;
  experts.sparse = e.sparse != 0;
  return experts;
}

int moe_decode(const ExpertsC* routed, const ExpertsC* shared, const uint16_t* x, const int32_t* ids, const float* weights,
               const int32_t* map, const uint16_t* shared_gate, uint16_t* hidden_states, uint16_t* out, int64_t x_stride,
               int tokens, int top_k, int hidden, int experts_here, int map_size, int gate, int weight_on_input) {
  dgx::moe::Layer p{};
  p.routed = experts(*routed);
  if (shared) p.shared = experts(*shared);
  p.x = x, p.ids = ids, p.router_weights = weights, p.expert_map = map, p.shared_gate = shared_gate;
  p.hidden_states = hidden_states, p.out = out, p.x_stride = x_stride;
  p.tokens = tokens, p.top_k = top_k, p.hidden = hidden, p.experts = experts_here, p.map_size = map_size;
  p.gate = static_cast<dgx::Gate>(gate), p.weight_on_input = weight_on_input;
  return dgx::moe::run(p, nullptr, true);
}

static dgx::sparse24::Matrices matrices(uint8_t* tiles, uint8_t* packed, uint8_t* scales, int experts, int rows, int k,
                                        int halves, int swizzled) {
  dgx::sparse24::Matrices p{};
  p.tiles = tiles, p.packed = packed, p.scales = scales, p.experts = experts, p.rows = rows, p.k = k;
  p.layout = static_cast<dgx::ScaleLayout>(swizzled), p.halves = halves != 0;
  return p;
}

int compress_24(uint8_t* tiles, int32_t* violations, uint8_t* packed, uint8_t* scales, int experts, int rows, int k, int halves,
                int swizzled) {
  dgx::sparse24::Matrices p = matrices(tiles, packed, scales, experts, rows, k, halves, swizzled);
  p.violations = violations;
  return dgx::sparse24::run_compress(p, nullptr);
}

int decompress_24(uint8_t* packed, uint8_t* scales, uint8_t* tiles, int experts, int rows, int k, int halves, int swizzled) {
  return dgx::sparse24::run_decompress(matrices(tiles, packed, scales, experts, rows, k, halves, swizzled), nullptr);
}

// What the last launch did that a GPU would not have borne.
const char* violation() { return emulation::violation.c_str(); }

int set_block_shared_bytes(int bytes) {
  emulation::block_shared_bytes = bytes;
  return cudaSuccess;
}

int quantize_nvfp4(const void* x, const float* global, uint8_t* packed, uint8_t* scales, int64_t rows, int64_t row_stride,
                   int columns, int swizzled, int input) {
  dgx::e2m1::Tensor p{};
  p.x = x, p.global = global, p.packed = packed, p.scales = scales;
  p.rows = rows, p.row_stride = row_stride, p.columns = columns;
  p.layout = static_cast<dgx::ScaleLayout>(swizzled);
  return dgx::e2m1::run_quantize(p, static_cast<dgx::e2m1::Input>(input), nullptr);
}

// Without a launch: a fiber for each value would take minutes.
int convert_e2m1(const float* x, uint8_t* codes, int64_t count) {
  for (int64_t i = 0; i < count; i++) codes[i] = static_cast<uint8_t>(dgx::e2m1_software(x[i]));
  return cudaSuccess;
}

int linear_decode(const uint8_t* weight, const uint8_t* scale, const float* global, const uint16_t* bias, const uint16_t* x,
                  uint16_t* out, int64_t x_stride, int tokens, int rows, int k, int swizzled, int fp8, int fp8_scales) {
  dgx::linear::Layer p{};
  p.weight = weight, p.scale = scale, p.global = global, p.bias = bias, p.x = x, p.out = out;
  p.x_stride = x_stride, p.tokens = tokens, p.rows = rows, p.k = k;
  p.layout = static_cast<dgx::ScaleLayout>(swizzled);
  p.scales = static_cast<dgx::linear::Fp8Scales>(fp8_scales);
  return fp8 ? dgx::linear::run<dgx::linear::Weights::kFp8>(p, nullptr, true)
             : dgx::linear::run<dgx::linear::Weights::kNvfp4>(p, nullptr, true);
}

}  // extern "C"

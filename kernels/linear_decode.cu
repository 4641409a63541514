// linear_decode_nvfp4 and linear_decode_fp8: see README.md for their arguments.
#include <common/arguments.h>
#include <linear_decode_launch.h>

namespace dgx {
namespace {

// What both kinds of weights have in common.
linear::Layer layer(const TensorView& out, const TensorView& x, const TensorView& weight, int values_per_byte,
                    int64_t k_multiple, const Optional<TensorView>& bias) {
  check_rows("x", x, {kBFloat16}, "[tokens, k]");
  DGX_REFUSE_UNLESS(weight.ndim() == 2, ValueError) << "weight must have two dimensions, not shape " << list(weight.shape());
  const DLDevice device = x.device();
  const int64_t tokens = x.size(0), k = x.size(1), rows = weight.size(0);
  DGX_REFUSE_UNLESS(tokens >= 1 && tokens <= linear::kMaxTokens, ValueError)
      << "x must have 1 to " << linear::kMaxTokens << " rows, not " << tokens;
  check_multiple("k, x's number of columns,", k, k_multiple);
  check_multiple("weight's number of rows", rows, 16);
  check_matrix("weight", rows, k / values_per_byte);
  check("out", out, {kBFloat16}, {tokens, rows}, device, 2);
  check_shape("weight", weight, {rows, k / values_per_byte});
  check_storage("weight", weight, device, 16);
  linear::Layer p{};
  if (bias.has_value()) {
    check("bias", bias.value(), {kBFloat16}, {rows}, device, 2);
    p.bias = static_cast<const bf16_bits*>(bias.value().data_ptr());
  }
  p.weight = static_cast<const uint8_t*>(weight.data_ptr());
  p.x = static_cast<const bf16_bits*>(x.data_ptr());
  p.out = static_cast<bf16_bits*>(out.data_ptr());
  p.x_stride = row_stride(x);
  p.tokens = static_cast<int>(tokens);
  p.rows = static_cast<int>(rows);
  p.k = static_cast<int>(k);
  return p;
}

void linear_decode_nvfp4(TensorView out, TensorView x, TensorView weight, TensorView scale, TensorView global_scale,
                         Optional<TensorView> bias, bool swizzled, bool overlap) {
  check_type("weight", weight, {kUInt8, kE2M1x2});
  linear::Layer p = layer(out, x, weight, 2, nvfp4::kHalf, bias);
  check("scale", scale, {kE4M3, kUInt8}, {swizzled ? round_up(p.rows, 128) : p.rows, p.k / 16}, x.device(), 16);
  check_type("global_scale", global_scale, {kFloat32});
  check_storage("global_scale", global_scale, x.device(), 4);
  DGX_REFUSE_UNLESS(global_scale.numel() == 1, ValueError)
      << "global_scale must hold one value, not " << global_scale.numel();
  p.scale = static_cast<const uint8_t*>(scale.data_ptr());
  p.global = static_cast<const float*>(global_scale.data_ptr());
  p.layout = swizzled ? ScaleLayout::kSwizzled : ScaleLayout::kLinear;
  launch_on(x.device(), "linear_decode_nvfp4",
            [&](cudaStream_t stream) { return linear::run<linear::Weights::kNvfp4>(p, stream, overlap); });
}

void linear_decode_fp8(TensorView out, TensorView x, TensorView weight, TensorView scale, Optional<TensorView> bias,
                       bool overlap) {
  check_type("weight", weight, {kE4M3, kUInt8});
  linear::Layer p = layer(out, x, weight, 1, 16, bias);
  check_type("scale", scale, {kFloat32});
  check_storage("scale", scale, x.device(), 4);
  const int64_t row_blocks = (p.rows + 127) / 128, k_blocks = (p.k + 127) / 128;
  const bool one = scale.numel() == 1, one_a_row = scale.numel() == p.rows && scale.size(0) == p.rows;
  const bool blocks = scale.ndim() == 2 && scale.size(0) == row_blocks && scale.size(1) == k_blocks;
  DGX_REFUSE_UNLESS(one || one_a_row || blocks, ValueError)
      << "scale must hold 1 value, one a row (" << p.rows << "), or one a block of 128 x 128 (" << list({row_blocks, k_blocks})
      << "); its shape is " << list(scale.shape());
  p.scales = one ? linear::Fp8Scales::kTensor : one_a_row ? linear::Fp8Scales::kChannel : linear::Fp8Scales::kBlock;
  p.global = static_cast<const float*>(scale.data_ptr());
  launch_on(x.device(), "linear_decode_fp8",
            [&](cudaStream_t stream) { return linear::run<linear::Weights::kFp8>(p, stream, overlap); });
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(linear_decode_nvfp4, linear_decode_nvfp4);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(linear_decode_fp8, linear_decode_fp8);

}  // namespace dgx

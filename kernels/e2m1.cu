// quantize_nvfp4 and convert_e2m1: see README.md for their arguments.
#include <common/arguments.h>
#include <e2m1_launch.h>

namespace dgx {
namespace {

void quantize_nvfp4(TensorView packed, TensorView scales, TensorView x, TensorView global_scale, bool swizzled) {
  check_rows("x", x, {kFloat32, kBFloat16, kFloat16}, "[rows, columns]");
  const DLDevice device = x.device();
  const int64_t rows = x.size(0), columns = x.size(1);
  check_multiple("x's number of columns", columns, e2m1::kBlock);
  DGX_REFUSE_UNLESS(columns <= std::numeric_limits<int32_t>::max(), ValueError)
      << "x must have fewer than 2^31 columns, not " << columns;
  check("packed", packed, {kUInt8, kE2M1x2}, {rows, columns / 2}, device, 8);
  const int64_t blocks = columns / e2m1::kBlock;
  if (swizzled) check("scales", scales, {kE4M3, kUInt8}, {round_up(rows, 128), round_up(blocks, 4)}, device, 1);
  else check("scales", scales, {kE4M3, kUInt8}, {rows, blocks}, device, 1);
  check_type("global_scale", global_scale, {kFloat32});
  check_storage("global_scale", global_scale, device, 4);
  DGX_REFUSE_UNLESS(global_scale.numel() == 1, ValueError)
      << "global_scale must hold one value, not " << global_scale.numel();
  if (rows == 0) return;
  e2m1::Tensor p{};
  p.x = x.data_ptr();
  p.global = static_cast<const float*>(global_scale.data_ptr());
  p.packed = static_cast<uint8_t*>(packed.data_ptr());
  p.scales = static_cast<uint8_t*>(scales.data_ptr());
  p.rows = rows;
  p.row_stride = row_stride(x);
  p.columns = static_cast<int>(columns);
  p.layout = swizzled ? ScaleLayout::kSwizzled : ScaleLayout::kLinear;
  const e2m1::Input input = same_type(x.dtype(), kFloat32)    ? e2m1::Input::kFloat32
                            : same_type(x.dtype(), kBFloat16) ? e2m1::Input::kBFloat16
                                                              : e2m1::Input::kFloat16;
  launch_on(device, "quantize_nvfp4", [&](cudaStream_t stream) { return e2m1::run_quantize(p, input, stream); });
}

void convert_e2m1(TensorView codes, TensorView x, bool software) {
  const DLDevice device = x.device();
  check("x", x, {kFloat32}, {kAny}, device, 4);
  check("codes", codes, {kUInt8}, {x.numel()}, device, 1);
  if (x.numel() == 0) return;
  launch_on(device, "convert_e2m1", [&](cudaStream_t stream) {
    return e2m1::run_convert(static_cast<const float*>(x.data_ptr()), static_cast<uint8_t*>(codes.data_ptr()), x.numel(), software,
                             stream);
  });
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(quantize_nvfp4, quantize_nvfp4);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(convert_e2m1, convert_e2m1);

}  // namespace dgx

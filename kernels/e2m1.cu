// quantize_nvfp4 and convert_e2m1: see README.md for their arguments.
#include <common/arguments.h>
#include <e2m1_launch.h>

namespace dgx {
namespace {

void quantize_nvfp4(TensorView packed, TensorView scales, TensorView x, TensorView global_scale, bool swizzled) {
  DGX_REFUSE_UNLESS(x.ndim() == 2, ValueError) << "x must have shape [rows, columns], not " << list(x.shape());
  check_type("x", x, {kFloat32, kBFloat16, kFloat16});
  const DLDevice device = x.device();
  DGX_REFUSE_UNLESS(device.device_type == kDLCUDA, ValueError) << "x must be on a CUDA device";
  const int64_t rows = x.size(0), columns = x.size(1), bytes = x.dtype().bits / 8;
  check_multiple("x's number of columns", columns, e2m1::kBlock);
  DGX_REFUSE_UNLESS(x.stride(1) == 1 && (rows <= 1 || x.stride(0) * bytes % 16 == 0), ValueError)
      << "x must have contiguous rows that start at multiples of 16 bytes; its strides are " << list(x.strides());
  DGX_REFUSE_UNLESS(reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0, ValueError)
      << "x must start at a multiple of 16 bytes";
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
  p.row_stride = rows == 1 ? columns : x.stride(0);
  p.columns = static_cast<int>(columns);
  p.layout = swizzled ? ScaleLayout::kSwizzled : ScaleLayout::kLinear;
  const e2m1::Input input = same_type(x.dtype(), kFloat32)    ? e2m1::Input::kFloat32
                            : same_type(x.dtype(), kBFloat16) ? e2m1::Input::kBFloat16
                                                              : e2m1::Input::kFloat16;
  check_cuda(e2m1::run_quantize(p, input, current_stream(device)), "quantize_nvfp4");
}

void convert_e2m1(TensorView codes, TensorView x, bool software) {
  const DLDevice device = x.device();
  check("x", x, {kFloat32}, {kAny}, device, 4);
  check("codes", codes, {kUInt8}, {x.numel()}, device, 1);
  if (x.numel() == 0) return;
  check_cuda(e2m1::run_convert(static_cast<const float*>(x.data_ptr()), static_cast<uint8_t*>(codes.data_ptr()), x.numel(),
                               software, current_stream(device)),
             "convert_e2m1");
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(quantize_nvfp4, quantize_nvfp4);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(convert_e2m1, convert_e2m1);

}  // namespace dgx

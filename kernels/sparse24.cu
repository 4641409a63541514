// compress_24 and decompress_24: see README.md for their arguments.
#include <common/arguments.h>
#include <sparse24_launch.h>

namespace dgx {
namespace {

sparse24::Matrices matrices(const TensorView& tiles, const TensorView& packed, const TensorView& scales, bool halves,
                            bool swizzled) {
  DGX_REFUSE_UNLESS(packed.ndim() == 3, ValueError)
      << "packed must have shape [experts, rows, k / 2], not " << list(packed.shape());
  const DLDevice device = packed.device();
  const int64_t experts = packed.size(0), rows = packed.size(1), k = packed.size(2) * 2;
  check_multiple("the number of rows", rows, sparse24::kRowMultiple);
  check_multiple("k", k, sparse24::kTileColumns);
  check_matrix("each of packed", rows, k / 2);
  check("packed", packed, {kUInt8, kE2M1x2}, {experts, rows, k / 2}, device, 16);
  check("scales", scales, {kE4M3, kUInt8}, {experts, rows, k / 16}, device, 16);
  check("tiles", tiles, {kUInt8}, {experts, rows / sparse24::kTileRows, k / sparse24::kTileColumns, sparse24::kTileBytes},
        device, 16);
  sparse24::Matrices p{};
  p.tiles = static_cast<uint8_t*>(tiles.data_ptr());
  p.packed = static_cast<uint8_t*>(packed.data_ptr());
  p.scales = static_cast<uint8_t*>(scales.data_ptr());
  p.experts = static_cast<int>(experts);
  p.rows = static_cast<int>(rows);
  p.k = static_cast<int>(k);
  p.layout = swizzled ? ScaleLayout::kSwizzled : ScaleLayout::kLinear;
  p.halves = halves;
  return p;
}

void compress_24(TensorView tiles, TensorView violations, TensorView packed, TensorView scales, bool halves, bool swizzled) {
  sparse24::Matrices p = matrices(tiles, packed, scales, halves, swizzled);
  check("violations", violations, {kInt32}, {p.experts}, packed.device(), 4);
  p.violations = static_cast<int32_t*>(violations.data_ptr());
  if (!p.experts) return;
  launch_on(packed.device(), "compress_24", [&](cudaStream_t stream) { return sparse24::run_compress(p, stream); });
}

void decompress_24(TensorView packed, TensorView scales, TensorView tiles, bool halves, bool swizzled) {
  const sparse24::Matrices p = matrices(tiles, packed, scales, halves, swizzled);
  if (!p.experts) return;
  launch_on(packed.device(), "decompress_24", [&](cudaStream_t stream) { return sparse24::run_decompress(p, stream); });
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(compress_24, compress_24);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(decompress_24, decompress_24);

}  // namespace dgx

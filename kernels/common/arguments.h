// Checks of what callers hand over: each refusal says what was expected and what came.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>

#include <cuda_runtime.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/extra/cuda/device_guard.h>
#include <tvm/ffi/optional.h>
#include <tvm/ffi/tvm_ffi.h>

namespace dgx {

using tvm::ffi::Optional;
using tvm::ffi::TensorView;

constexpr int64_t kAny = -1;  // a dimension or stride of any size

inline std::string type_name(DLDataType type) { return tvm::ffi::DLDataTypeToString(type); }

inline bool same_type(DLDataType a, DLDataType b) { return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes; }

constexpr DLDataType kFloat32{kDLFloat, 32, 1};
constexpr DLDataType kFloat16{kDLFloat, 16, 1};
constexpr DLDataType kBFloat16{kDLBfloat, 16, 1};
constexpr DLDataType kInt32{kDLInt, 32, 1};
constexpr DLDataType kUInt8{kDLUInt, 8, 1};
constexpr DLDataType kE4M3{kDLFloat8_e4m3fn, 8, 1};
constexpr DLDataType kE2M1x2{kDLFloat4_e2m1fn, 4, 2};

inline std::string list(std::initializer_list<int64_t> sizes) {
  std::string text = "[";
  for (int64_t size : sizes) text += (text.size() > 1 ? ", " : "") + (size == kAny ? std::string("any") : std::to_string(size));
  return text + "]";
}

inline std::string list(tvm::ffi::ShapeView sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); i++) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

#define DGX_REFUSE_UNLESS(condition, kind) \
  if (!(condition)) TVM_FFI_THROW(kind)

// A tensor's type: any of `types`.
inline void check_type(const char* name, const TensorView& tensor, std::initializer_list<DLDataType> types) {
  std::string expected;
  for (DLDataType type : types) {
    if (same_type(tensor.dtype(), type)) return;
    expected += (expected.empty() ? "" : " or ") + type_name(type);
  }
  TVM_FFI_THROW(TypeError) << name << " must be " << expected << ", not " << type_name(tensor.dtype());
}

inline void check_shape(const char* name, const TensorView& tensor, std::initializer_list<int64_t> shape) {
  bool same = static_cast<size_t>(tensor.ndim()) == shape.size();
  int i = 0;
  for (int64_t size : shape)
    if (same && size != kAny && tensor.size(i++) != size) same = false;
    else if (size == kAny) i++;
  DGX_REFUSE_UNLESS(same, ValueError) << name << " must have shape " << list(shape) << ", not " << list(tensor.shape());
}

// Contiguous, on `device`, and aligned to `bytes`.
inline void check_storage(const char* name, const TensorView& tensor, DLDevice device, int bytes) {
  DGX_REFUSE_UNLESS(tensor.device().device_type == kDLCUDA, ValueError) << name << " must be on a CUDA device";
  DGX_REFUSE_UNLESS(tensor.device().device_id == device.device_id, ValueError)
      << name << " must be on the device of the first tensor, cuda:" << device.device_id << ", not cuda:"
      << tensor.device().device_id;
  DGX_REFUSE_UNLESS(tensor.IsContiguous(), ValueError)
      << name << " must be contiguous; its shape is " << list(tensor.shape()) << " and its strides are "
      << list(tensor.strides());
  DGX_REFUSE_UNLESS(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % bytes == 0, ValueError)
      << name << " must start at a multiple of " << bytes << " bytes";
}

inline void check(const char* name, const TensorView& tensor, std::initializer_list<DLDataType> types,
                  std::initializer_list<int64_t> shape, DLDevice device, int bytes) {
  check_type(name, tensor, types);
  check_shape(name, tensor, shape);
  check_storage(name, tensor, device, bytes);
}

inline void check_multiple(const char* name, int64_t value, int64_t multiple) {
  DGX_REFUSE_UNLESS(value > 0 && value % multiple == 0, ValueError)
      << name << " must be a positive multiple of " << multiple << ", not " << value;
}

// A matrix whose bytes kernels count in 32 bits, signed.
inline void check_matrix(const char* name, int64_t rows, int64_t row_bytes) {
  DGX_REFUSE_UNLESS(row_bytes == 0 || rows <= std::numeric_limits<int32_t>::max() / row_bytes, ValueError)
      << name << " must be smaller than 2 GiB; it has " << rows << " rows of " << row_bytes << " bytes";
}

// A matrix [rows, columns] whose rows kernels fetch by 16 bytes, and may lie apart; `shape` names it in words.
inline void check_rows(const char* name, const TensorView& tensor, std::initializer_list<DLDataType> types,
                       const char* shape) {
  DGX_REFUSE_UNLESS(tensor.ndim() == 2, ValueError) << name << " must have shape " << shape << ", not " << list(tensor.shape());
  check_type(name, tensor, types);
  DGX_REFUSE_UNLESS(tensor.device().device_type == kDLCUDA, ValueError) << name << " must be on a CUDA device";
  const int64_t bytes = tensor.dtype().bits / 8;
  DGX_REFUSE_UNLESS((tensor.size(1) <= 1 || tensor.stride(1) == 1) && (tensor.size(0) <= 1 || tensor.stride(0) * bytes % 16 == 0),
                    ValueError)
      << name << " must have contiguous rows that start at multiples of 16 bytes; its strides are " << list(tensor.strides());
  DGX_REFUSE_UNLESS(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 16 == 0, ValueError)
      << name << " must start at a multiple of 16 bytes";
}

// Values from a row of such a matrix to the next; a single row's stride may be anything.
inline int64_t row_stride(const TensorView& tensor) { return tensor.size(0) <= 1 ? tensor.size(1) : tensor.stride(0); }

// Calls `launch` with the current stream of `device`, which is the current device meanwhile.
template <class Launch>
void launch_on(DLDevice device, const char* what, const Launch& launch) {
  const tvm::ffi::CUDADeviceGuard guard(device.device_id);
  const cudaError_t error = launch(static_cast<cudaStream_t>(TVMFFIEnvGetStream(device.device_type, device.device_id)));
  if (error == cudaSuccess) return;
  cudaGetLastError();  // else the caller's next look at the runtime finds it again
  TVM_FFI_THROW(RuntimeError) << what << ": " << cudaGetErrorString(error);
}

}  // namespace dgx

// ptx/copy.cuh on a CPU: copies arrive at once, or when they are waited for.
#pragma once

#include <cuda_runtime.h>

#include <ptx/shared.cuh>

namespace ptx {

inline void copy(uint32_t address, const void* global, bool valid, size_t bytes) {
  char* shared = shared_pointer(address, bytes);
  if (address % bytes) emulation::violate("a copy of %zu bytes to shared memory at %u is not aligned", bytes, address);
  if (valid && reinterpret_cast<uintptr_t>(global) % bytes)
    emulation::violate("a copy of %zu bytes from %p is not aligned", bytes, global);
  emulation::copy_later([=] {
    if (valid) std::memcpy(shared, global, bytes);
    else std::memset(shared, 0, bytes);
  });
}

inline void cp_async_16(uint32_t shared, const void* global, bool valid) { copy(shared, global, valid, 16); }
inline void cp_async_4(uint32_t shared, const void* global, bool valid) { copy(shared, global, valid, 4); }
inline void cp_async_commit() { emulation::copies().committed++; }
template <int kPending>
inline void cp_async_wait() {
  emulation::deliver_copies(kPending);
}

}  // namespace ptx

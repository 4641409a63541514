// ptx/shared.cuh on a CPU: an address is the bytes from where shared memory begins.
#pragma once

#include <cuda_runtime.h>

#include <ptx/load.cuh>

namespace ptx {

inline uint4* dynamic_shared_memory() { return reinterpret_cast<uint4*>(emulation::shared_memory()); }

inline char* shared_pointer(uint32_t address, size_t bytes) {
  const size_t all = emulation::machine.shared_bytes;
  if (address + bytes > all) emulation::violate("%zu bytes of shared memory at %u are beyond the kernel's %zu", bytes, address, all);
  return emulation::shared_memory() + address;
}

inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(static_cast<const char*>(shared) - emulation::shared_memory());
}

inline uint4 ld_shared_16(uint32_t address) { return ld_aligned<uint4>(shared_pointer(address, 16)); }
inline uint32_t ld_shared_4(uint32_t address) { return ld_aligned<uint32_t>(shared_pointer(address, 4)); }

inline void st_shared_16(uint32_t address, const uint4& v) {
  ld_shared_16(address);  // aligned as a store must be
  std::memcpy(shared_pointer(address, 16), &v, sizeof(v));
}

}  // namespace ptx

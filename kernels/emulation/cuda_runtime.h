// The CUDA that the kernels use, on a CPU: one block at a time, every thread a fiber, exchanges between lanes as barriers.
// For tests: it stands in for <cuda_runtime.h> and, with emulation/ptx, for <ptx/...>, by being first on the include path.
#pragma once

#include <cxxabi.h>
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorLaunchFailure = 719 };

namespace emulation {

constexpr size_t kStackBytes = 64 * 1024;
constexpr size_t kSharedBytes = 228 * 1024;  // the most that any chip has
constexpr size_t kPageBytes = 4096;

struct Warp {
  int arrived = 0;
  unsigned generation = 0;
  uint32_t exchange[32][9];
};

// A thread's copies under way, each with the number of its group.
struct Copies {
  struct Copy {
    unsigned group;
    std::function<void()> deliver;
  };
  std::deque<Copy> waiting;
  unsigned committed = 0;
};

struct Machine {
  dim3 thread, block, block_size, grid_size;
  std::vector<ucontext_t> fibers;
  std::vector<bool> done;
  std::vector<char> stacks;
  std::vector<Warp> warps;
  std::vector<Copies> copies;
  std::function<void()> body;
  std::string kernel;
  size_t shared_bytes = 0;
  ucontext_t scheduler;
  int current = 0, threads = 0, alive = 0, arrived = 0;
  unsigned generation = 0;
  bool moved = false;  // whether a thread has ended or a barrier has opened since it was last asked
  // Block by block in turn, copies arrive at once, where a block may still read what they overwrite, or when they are waited
  // for and no sooner, where it may read what has not come.
  bool late = false;
};

inline Machine machine;
inline int block_shared_bytes = 99 * 1024;  // GB10's

// A block's shared memory lies in front of a page that nobody may touch.
inline char* shared_memory() {
  static char* const end = [] {
    void* all = mmap(nullptr, kSharedBytes + kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* guard = static_cast<char*>(all) + kSharedBytes;
    if (all == MAP_FAILED || mprotect(guard, kPageBytes, PROT_NONE)) std::abort();
    return guard;
  }();
  return end - (machine.shared_bytes + 127) / 128 * 128;
}

// What a kernel did that a GPU would not have borne: which kernel, block and thread, and what. It ends the launch with an error
// and leaves the process alone. Empty where the last launch did nothing of the kind.
inline std::string violation;

inline void record(const char* what) {
  const Machine& m = machine;
  char where[128];
  std::snprintf(where, sizeof where, ", block (%u, %u, %u), thread (%u, %u, %u): ", m.block.x, m.block.y, m.block.z, m.thread.x,
                m.thread.y, m.thread.z);
  violation = "kernel " + m.kernel + where + what;
}

template <class... Values>
[[noreturn]] inline void violate(const char* format, Values... values) {
  char what[256];
  std::snprintf(what, sizeof what, format, values...);
  record(what);
  setcontext(&machine.scheduler);  // which sees it, and does not come back
  std::abort();
}

// The machine's own signals: memory that is not there, and what the standard library asserts.
inline void on_signal(int number, siginfo_t* info, void*) {
  if (number == SIGABRT) violate("it was aborted");
  const char* at = static_cast<const char*>(info->si_addr);
  const size_t offset = at - shared_memory();
  if (offset < machine.shared_bytes + 2 * kPageBytes)
    violate("shared memory at %zu is beyond the kernel's %zu bytes", offset, machine.shared_bytes);
  violate("memory at %p cannot be reached", static_cast<const void*>(at));
}

// They are ours while a kernel runs.
class Signals {
 public:
  Signals() {
    struct sigaction ours = {};
    ours.sa_sigaction = on_signal;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;
    for (int i = 0; i < 3; i++) sigaction(kNumbers[i], &ours, &before_[i]);
  }
  ~Signals() {
    for (int i = 0; i < 3; i++) sigaction(kNumbers[i], &before_[i], nullptr);
  }

 private:
  static constexpr int kNumbers[3] = {SIGSEGV, SIGBUS, SIGABRT};
  struct sigaction before_[3];
};

// The name that a function has in this library, without its parameters.
inline std::string name_of(const void* function) {
  Dl_info info;
  if (!dladdr(function, &info) || info.dli_saddr != function) return "(without a name)";
  int status;
  char* plain = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  std::string name = status ? info.dli_sname : plain;
  std::free(plain);
  // A template's name begins with what it returns, and `>(` ends its arguments.
  const size_t end = name.rfind(">(") != std::string::npos ? name.rfind(">(") + 1 : name.find('(');
  name = name.substr(0, end);
  return name.rfind("void ", 0) == 0 ? name.substr(5) : name;
}

inline int lane() { return machine.current & 31; }
inline Warp& warp() { return machine.warps[machine.current >> 5]; }
inline void yield() { swapcontext(&machine.fibers[machine.current], &machine.scheduler); }

// Every warp here is whole and its lanes leave together, as the kernels must see to anyway.
inline void warp_barrier() {
  Warp& w = warp();
  const unsigned generation = w.generation;
  if (++w.arrived == 32) w.arrived = 0, w.generation++, machine.moved = true;
  else
    while (w.generation == generation) yield();
}

inline void block_barrier() {
  const unsigned generation = machine.generation;
  if (++machine.arrived == machine.threads) machine.arrived = 0, machine.generation++, machine.moved = true;
  else
    while (machine.generation == generation) yield();
}

inline Copies& copies() { return machine.copies[machine.current]; }
inline void copy_later(std::function<void()> deliver) {
  if (machine.late) copies().waiting.push_back({copies().committed, std::move(deliver)});
  else deliver();
}
// Those of the thread, but for its newest `pending` groups.
inline void deliver_copies(unsigned pending) {
  Copies& c = copies();
  for (; !c.waiting.empty() && c.waiting.front().group + pending < c.committed; c.waiting.pop_front())
    c.waiting.front().deliver();
}

inline void enter() {
  machine.body();
  machine.done[machine.current] = true;
  machine.alive--, machine.moved = true;
  swapcontext(&machine.fibers[machine.current], &machine.scheduler);
}

inline void run_block() {
  Machine& m = machine;
  m.fibers.resize(m.threads);
  m.done.assign(m.threads, false);
  m.warps.assign(m.threads / 32, Warp());
  m.stacks.resize(m.threads * kStackBytes);
  m.copies.assign(m.threads, Copies());
  m.arrived = 0, m.generation = 0, m.alive = m.threads, m.late = !m.late;
  std::memset(shared_memory(), 0xff, m.shared_bytes);  // NaN wherever a kernel reads what it has not written
  for (int i = 0; i < m.threads; i++) {
    getcontext(&m.fibers[i]);
    m.fibers[i].uc_stack.ss_sp = &m.stacks[i * kStackBytes];
    m.fibers[i].uc_stack.ss_size = kStackBytes;
    m.fibers[i].uc_link = nullptr;
    makecontext(&m.fibers[i], enter, 0);
  }
  while (m.alive) {
    m.moved = false;
    for (int i = 0; i < m.threads; i++)
      if (!m.done[i]) {
        m.current = i;
        m.thread = dim3(i % m.block_size.x, i / m.block_size.x % m.block_size.y, i / (m.block_size.x * m.block_size.y));
        swapcontext(&m.scheduler, &m.fibers[i]);
        if (!violation.empty()) return;
      }
    if (m.alive && !m.moved) {
      record("it waits at a barrier that other threads do not come to");
      return;
    }
  }
}

inline void run(dim3 grid, dim3 block, std::function<void()> body) {
  Machine& m = machine;
  m.grid_size = grid, m.block_size = block, m.threads = block.x * block.y * block.z, m.body = std::move(body);
  const Signals signals;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        m.block = dim3(x, y, z);
        run_block();
        if (!violation.empty()) return;
      }
}

// Every lane's value, as lane `from` sees it.
template <class T>
inline T exchange(T value, int from) {
  static_assert(sizeof(T) == 4, "Lanes exchange 32-bit values.");
  Warp& w = warp();
  std::memcpy(&w.exchange[lane()][0], &value, 4);
  warp_barrier();
  T result;
  std::memcpy(&result, &w.exchange[from & 31][0], 4);
  warp_barrier();
  return result;
}

}  // namespace emulation

inline dim3& threadIdx = emulation::machine.thread;
inline dim3& blockIdx = emulation::machine.block;
inline dim3& blockDim = emulation::machine.block_size;
inline dim3& gridDim = emulation::machine.grid_size;

inline void __syncthreads() { emulation::block_barrier(); }
inline void __syncwarp() { emulation::warp_barrier(); }
template <class T>
inline T __shfl_sync(unsigned, T value, int from) {
  return emulation::exchange(value, from);
}
template <class T>
inline T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::exchange(value, emulation::lane() ^ mask);
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  emulation::Warp& w = emulation::warp();
  w.exchange[emulation::lane()][0] = vote;
  emulation::warp_barrier();
  unsigned mask = 0;
  for (int i = 0; i < 32; i++) mask |= w.exchange[i][0] << i;
  emulation::warp_barrier();
  return mask;
}
inline int atomicAdd(int* address, int value) {
  const int before = *address;
  *address += value;
  return before;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(unsigned x) { return __builtin_ffs(static_cast<int>(x)); }
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; i++) result |= static_cast<uint32_t>(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}
inline float __uint_as_float(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline uint32_t __float_as_uint(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}
using std::max;
using std::min;
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }

// What common/launch.h asks of the runtime.
struct cudaLaunchAttribute {
  int id;
  struct {
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
constexpr int cudaFuncAttributeMaxDynamicSharedMemorySize = 0;
constexpr int cudaFuncAttributePreferredSharedMemoryCarveout = 1;
constexpr int cudaSharedmemCarveoutMaxShared = 100;
constexpr int cudaLaunchAttributeProgrammaticStreamSerialization = 0;
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor,
  cudaDevAttrMaxSharedMemoryPerBlockOptin
};
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? 48 : emulation::block_shared_bytes;
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void*, int, int) { return cudaSuccess; }
template <class... Parameters>
inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                                      const Parameters&... arguments) {
  const dim3 block = config->blockDim;
  emulation::violation.clear();
  if (config->dynamicSmemBytes > static_cast<size_t>(emulation::block_shared_bytes)) return cudaErrorInvalidValue;
  if (block.x * block.y * block.z % 32) return cudaErrorInvalidValue;  // warps are whole here
  emulation::machine.kernel = emulation::name_of(reinterpret_cast<const void*>(kernel));
  emulation::machine.shared_bytes = config->dynamicSmemBytes;
  emulation::run(config->gridDim, block, [&] { kernel(arguments...); });
  return emulation::violation.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

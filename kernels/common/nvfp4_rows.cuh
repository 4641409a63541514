// One warp's stream over two octets of NVFP4 weight rows. Scales are applied to weights (nvfp4_weights.cuh) or to sums
// (nvfp4_runs.cuh).
//
// Lane 4g+t works on row g of either octet and on every fourth run of 32 values: a chunk is 128 values of K, 16 bytes a
// lane and row. The code calls g lane_row and t lane_quad. Which value of K sits where in the tensor cores' operand does not
// matter as long as weights and activations agree, so the bytes are used as the checkpoint has them.
//
// A scale's sign is ignored, as the tensor cores' UE4M3 has it. E4M3's NaN codes (0x7F, 0xFF) are NaN where scales are applied
// to sums, and count as 480 where they are applied to weights.
#pragma once

#include <cstdint>

#include <common/bf16.cuh>
#include <common/block_scales.cuh>
#include <ptx/copy.cuh>

namespace dgx {
namespace nvfp4 {

constexpr int kChunk = 128;              // values of K
constexpr int kHalf = kChunk / 2;        // four blocks of 16, whose scales are one 32-bit word
constexpr int kStage = 2 * kChunk;       // values of K that are copied together
constexpr int kRowBytes = kStage / 2;    // of weights in a stage
constexpr int kScaleBytes = kStage / 16;
constexpr int kStridedScaleBytes = kStage / 64 * 512;  // from one stage of swizzled scales to the next
constexpr int kStageBytes = 16 * (kRowBytes + kScaleBytes);
constexpr int kColumnBytes = 2 * kStage;  // of one column's activations in a stage

static_assert(kRowBytes == 128, "Eight lanes copy a row, and rows meet in the same banks.");
static_assert(kColumnBytes == 512, "The lanes of a warp copy a column.");

__host__ __device__ constexpr int stages(int k) { return (k + kStage - 1) / kStage; }
__host__ __device__ inline int chunks(int k) { return (k + kChunk - 1) / kChunk; }

// Two octets of rows of a matrix, and where a lane reads what it copies of them: eight lanes a row, four rows at a time.
struct Source {
  const uint8_t* weight;   // this lane's 16 bytes in the first four rows
  const uint8_t* scale;    // this lane's 16 bytes of scales; of the matrix where they must be copied word by word
  int next;                // bytes to the next four rows of an octet
  int high;                // bytes from the low octet to the high one, which may lie in front of it
  uint32_t bytes;          // of a row
  int row_low, row_high;   // the first row of each octet
  ScaleLayout layout;
  bool strided;            // rows as `tile_row` strides them
  bool wide_scales;        // scales can be copied 16 bytes at a time

  // Goes on by `stages`, in rows that are whole stages.
  __device__ __forceinline__ void advance(int stages) {
    weight += stages * kRowBytes, scale += stages * (strided ? kStridedScaleBytes : kScaleBytes);
  }
};

// `row_low` and `row_high` are the first rows of two octets of `tile_row`, both strided or both not, in rows of `k` values.
__device__ __forceinline__ Source source(const uint8_t* weight, const uint8_t* scale, ScaleLayout layout, bool strided,
                                         int row_low, int row_high, uint32_t k, int lane) {
  Source s;
  s.bytes = k / 2;
  s.next = (strided ? 1 : 4) * static_cast<int>(s.bytes);
  s.high = (row_high - row_low) * static_cast<int>(s.bytes);
  s.row_low = row_low, s.row_high = row_high;
  s.layout = layout, s.strided = strided;
  s.weight = weight + (static_cast<uint32_t>(row_low + (lane >> 3) * (strided ? 32 : 1)) * s.bytes + (lane & 7) * 16);
  s.scale = scale;
  s.wide_scales = strided || (layout == ScaleLayout::kLinear && k % kStage == 0);
  const int octet_row = lane & 8 ? row_high : row_low;
  if (strided)  // lanes: octet, group of four blocks, four of the octet's rows
    s.scale += scale_row_offset(layout, octet_row + (lane & 1), k / 16) + (lane >> 1 & 3) * 512;
  else if (s.wide_scales)  // lanes: row of an octet
    s.scale += static_cast<uint32_t>(octet_row + (lane & 7)) * (k / 16);
  return s;
}

// The scales word by word, for the shapes whose rows of scales do not start at multiples of 16 bytes.
__device__ __forceinline__ void copy_scale_words(uint32_t to, const Source& s, int stage, int lane) {
  const uint32_t groups = s.bytes / 32;
#pragma unroll
  for (int i = lane; i < 16 * 4; i += 32) {
    const int index = i >> 2 & 7, row = (i & 32 ? s.row_high : s.row_low) + index;
    const uint32_t group = stage * 4 + (i & 3);
    ptx::cp_async_4(to + i * 4, s.scale + scale_row_offset(s.layout, row, groups * 4) + group * scale_group_stride(s.layout),
                    group < groups);
  }
}

// Starts the copy of a stage of the rows' weights. Units of 16 bytes trade places in odd rows, so that two rows read at once
// meet in different banks. kWhole: rows are whole stages.
template <bool kWhole = false>
__device__ __forceinline__ void copy_rows(uint32_t to, const Source& s, int stage, int lane) {
  const uint32_t at = stage * kRowBytes;
  const bool valid = kWhole || at + (lane & 7) * 16 < s.bytes;
  const uint8_t* from = s.weight + at;
  const uint32_t row = to + (lane >> 3) * kRowBytes + ((lane & 7) ^ (lane >> 3 & 1) * 4) * 16;
#pragma unroll
  for (int i = 0; i < 4; i++)
    ptx::cp_async_16(row + i * 4 * kRowBytes, from + ((i & 1 ? s.next : 0) + (i & 2 ? s.high : 0)), valid);
}

template <bool kWhole = false>
__device__ __forceinline__ void copy_stage(uint32_t to, const Source& s, int stage, int lane) {
  copy_rows<kWhole>(to, s, stage, lane);
  const uint32_t scales = to + 16 * kRowBytes;
  if (!s.wide_scales) {
    copy_scale_words(scales, s, stage, lane);
  } else if (lane < 16) {
    const uint32_t group = stage * 4 + (s.strided ? lane >> 1 & 3 : 0);
    ptx::cp_async_16(scales + lane * 16, s.scale + stage * (s.strided ? kStridedScaleBytes : kScaleBytes),
                     kWhole || group * 32 < s.bytes);
  }
}

// Where a lane finds its scales in a stage: `step` bytes further for each next chunk.
struct ScaleSlot {
  int offset, step;
};

// Eight E2M1 codes to BF16 pairs (0,4) (1,5) (2,6) (3,7), times 2^-126: a product with two powers of two puts a nibble's
// sign and its magnitude each in place, one multiplication where shifts would be two.
__device__ __forceinline__ void decode_e2m1(uint32_t q, uint32_t (&pair)[4]) {
  constexpr uint32_t kKept = 0x81C081C0u;
  constexpr uint32_t kEven = (1u << 12) + (1u << 6), kOdd = (1u << 8) + (1u << 2);
  const uint32_t upper = q >> 8;
  pair[0] = (q & 0x000F000Fu) * kEven & kKept;
  pair[1] = (q & 0x00F000F0u) * kOdd & kKept;
  pair[2] = (upper & 0x000F000Fu) * kEven & kKept;
  pair[3] = (upper & 0x00F000F0u) * kOdd & kKept;
}

__device__ __forceinline__ uint32_t word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

}  // namespace nvfp4
}  // namespace dgx

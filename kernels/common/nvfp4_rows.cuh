// One warp's stream over two octets of NVFP4 weight rows, and its products with up to 16 activation columns.
//
// Lane 4g+t works on row g of either octet and on every fourth run of 32 values: a chunk is 128 values of K, 16 bytes a
// lane and row. Which value of K sits where in the tensor cores' operand does not matter as long as weights and
// activations agree, so the bytes are used as the checkpoint has them. A weight times its block scale has at most six
// significant bits: the product is exact in BF16, and K needs no splitting at block borders.
//
// A scale's sign is ignored, as the tensor cores' UE4M3 has it. E4M3's NaN codes (0x7F, 0xFF) are NaN where scales are applied
// to sums, and count as 480 where they are applied to weights.
#pragma once

#include <cstdint>

#include <common/bf16.cuh>
#include <common/block_scales.cuh>
#include <ptx/arithmetic.cuh>
#include <ptx/convert.cuh>
#include <ptx/copy.cuh>
#include <ptx/mma.cuh>
#include <ptx/shared.cuh>

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
constexpr float kProductScale = 256.0f;   // weights times scales come out of the decoder times 2^-8

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

// Activations come through shared memory as the weights do: a load that is waited for would stand behind all the weights
// under way. A column's units of 16 bytes lie so that the lanes of two columns meet in different banks.
__device__ __forceinline__ int column_unit(int unit, int column) { return (unit ^ (unit >> 3 & 1) ^ (column & 1) * 2) * 16; }

// Starts the copy of a stage of a column of `k` values.
__device__ __forceinline__ void copy_column(char* to, int column, const bf16_bits* values, int stage, int k, int lane) {
  const int at = stage * kStage + lane * 8;
  ptx::cp_async_16(ptx::shared_address(to + column_unit(lane, column)), values + at, at < k);
}

// Brings what this lane has copied of a column into the order of the decoded weights; others see it after a barrier.
__device__ __forceinline__ void pair_column(char* to, int column, int lane) {
  uint4* unit = reinterpret_cast<uint4*>(to + column_unit(lane, column));
  *unit = pair_by_fours(*unit);
}

// Where a lane finds its scales in a stage: two bytes, `step` further for each next chunk.
struct ScaleSlot {
  int offset, step;
};

__device__ __forceinline__ ScaleSlot scale_slot(bool strided, int lane) {
  const int g = lane >> 2, t = lane & 3;
  if (strided) return {16 * kRowBytes + (g >> 2) * 16 + (g & 3) * 4 + (t >> 1) * 32 + (t & 1) * 2, 64};
  return {16 * kRowBytes + g * kScaleBytes + t * 2, 8};
}

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

// Two E4M3 scales to BF16 pairs of each, times 2^118: bits moved (times 2^-120), then two powers of two.
__device__ __forceinline__ void decode_scales(uint32_t two, uint32_t& first, uint32_t& second) {
  const uint32_t moved = (__byte_perm(two, 0u, 0x4140) << 4) & 0x07F007F0u;
  const uint32_t both = ptx::mul_bf16x2(ptx::mul_bf16x2(moved, bf16x2_power_of_two<127>()), bf16x2_power_of_two<111>());
  first = __byte_perm(both, both, 0x1010);
  second = __byte_perm(both, both, 0x3232);
}

__device__ __forceinline__ uint32_t word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

// Adds the products of a chunk of a stage. `columns`: for each tile of 8 columns this lane's column g in shared memory, paired,
// or zeros.
template <int kTiles>
__device__ __forceinline__ void multiply(const char* stage, ScaleSlot scales, int chunk, const char* const (&columns)[kTiles],
                                         float (&c)[kTiles][2][4], int lane) {
  const int g = lane >> 2, t = lane & 3;
  const char* row = stage + g * kRowBytes + ((chunk * 4 + t) ^ (g & 1) * 4) * 16;
  const uint4 rows[2] = {*reinterpret_cast<const uint4*>(row), *reinterpret_cast<const uint4*>(row + 8 * kRowBytes)};
  const char* scale = stage + scales.offset + chunk * scales.step;
  uint32_t scale_low[2], scale_high[2];
  decode_scales(*reinterpret_cast<const uint16_t*>(scale), scale_low[0], scale_low[1]);
  decode_scales(*reinterpret_cast<const uint16_t*>(scale + 8 * kScaleBytes), scale_high[0], scale_high[1]);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    uint32_t low[4], high[4];
    decode_e2m1(word(rows[0], i), low);
    decode_e2m1(word(rows[1], i), high);
#pragma unroll
    for (int p = 0; p < 4; p++) {
      low[p] = ptx::mul_bf16x2(low[p], scale_low[i / 2]);
      high[p] = ptx::mul_bf16x2(high[p], scale_high[i / 2]);
    }
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      const uint4 x = *reinterpret_cast<const uint4*>(columns[n] + column_unit(chunk * 16 + t * 4 + i, g));
      ptx::mma_m16n8k16_bf16(c[n][0], low[0], high[0], low[1], high[1], x.x, x.y);
      ptx::mma_m16n8k16_bf16(c[n][1], low[2], high[2], low[3], high[3], x.z, x.w);
    }
  }
}

// Products with two columns only, which are cheaper by a third: scales are applied to sums instead of to weights. Lane 4g+t
// decodes run t of 32 values, which has scales of its own. So the operand of the activations has a column for each run of each
// of the two, with zeros at the places of the other runs: column 4c+r holds run r of column c. A lane then finds the sums of
// runs 2t and 2t+1 (mod 4) apart, and scales them in FP32.
//
// Activations come paired and times 2^90, as the decoder leaves weights times 2^-126; from 2^38 up they become infinite.
constexpr int kRunBytes = 64;                            // of a column
constexpr int kRunExponent = 90;
constexpr float kRunScale = 1.2379400392853803e27f;     // 2^kRunExponent
constexpr float kRunProductScale = 68719476736.0f;       // 2^36: weights times activations come out times 2^-36

// Where value k of a column is.
__device__ __forceinline__ int run_position(int k) { return (k & ~7) | (k & 3) << 1 | (k >> 2 & 1); }

__device__ __forceinline__ uint4 run_unit(const uint4& values) {
  const uint4 paired = pair_by_fours(values);
  constexpr uint32_t kScale = bf16x2_power_of_two<kRunExponent>();
  return make_uint4(ptx::mul_bf16x2(paired.x, kScale), ptx::mul_bf16x2(paired.y, kScale), ptx::mul_bf16x2(paired.z, kScale),
                    ptx::mul_bf16x2(paired.w, kScale));
}

// Where a lane finds four scales in a stage: of runs 2t and 2t+1.
__device__ __forceinline__ ScaleSlot run_scale_slot(bool strided, int lane) {
  const int g = lane >> 2, t = lane & 1;
  if (strided) return {16 * kRowBytes + (g >> 2) * 16 + (g & 3) * 4 + t * 32, 64};
  return {16 * kRowBytes + g * kScaleBytes + t * 4, 8};
}

// Two of four E4M3 scales without their signs, the low ones or the high ones.
__device__ __forceinline__ void decode_scales(uint32_t four, bool high, float (&scales)[2]) {
  const uint32_t halves = ptx::cvt_f16x2_e4m3x2(static_cast<uint16_t>(high ? four >> 16 : four));
  scales[0] = ptx::cvt_f32_f16(static_cast<uint16_t>(halves));
  scales[1] = ptx::cvt_f32_f16(static_cast<uint16_t>(halves >> 16));
}

constexpr uint32_t kScaleMagnitudes = 0x7F7F7F7Fu;

// One lane's part of a chunk of 16 rows: run t of rows g and g + 8, and the scales of runs 2t and 2t+1 (mod 4).
struct LaneChunk {
  uint4 rows[2];
  uint32_t scales[2];
};

// Whether a lane multiplies a run: t of column g / 4 where t = g % 4; else zeros.
__device__ __forceinline__ bool has_run(int lane) { return (lane >> 2 & 3) == (lane & 3); }

// A run in shared memory, 16 bytes at a time.
struct SharedRun {
  uint32_t address;

  __device__ __forceinline__ uint4 operator[](int i) const { return ptx::ld_shared_16(address + i * 16); }
};

// Adds a chunk's products, of rows g and g + 8 with column t / 2; `add_runs` brings the lanes' parts together.
template <class Run>
__device__ __forceinline__ void multiply_runs(const LaneChunk& chunk, const Run& run, float (&sum)[2]) {
  float even[2][2], odd[2][2];  // of the runs, for each of their two blocks
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const uint32_t magnitudes = chunk.scales[r] & kScaleMagnitudes;
    decode_scales(magnitudes, false, even[r]), decode_scales(magnitudes, true, odd[r]);
  }
#pragma unroll
  for (int block = 0; block < 2; block++) {
    float c[4];
#pragma unroll
    for (int i = 2 * block; i < 2 * block + 2; i++) {
      uint32_t low[4], high[4];
      decode_e2m1(word(chunk.rows[0], i), low);
      decode_e2m1(word(chunk.rows[1], i), high);
      const uint4 x = run[i];
      if (i % 2 == 0) ptx::mma_m16n8k16_bf16_zero(c, low[0], high[0], low[1], high[1], x.x, x.y);
      else ptx::mma_m16n8k16_bf16(c, low[0], high[0], low[1], high[1], x.x, x.y);
      ptx::mma_m16n8k16_bf16(c, low[2], high[2], low[3], high[3], x.z, x.w);
    }
    sum[0] += c[0] * even[0][block], sum[0] += c[1] * odd[0][block];
    sum[1] += c[2] * even[1][block], sum[1] += c[3] * odd[1][block];
  }
}

// Lanes without a run read zeros instead, as far as from one chunk's run to the end of the next one's. They begin 32 bytes
// into a line, where they meet in no bank with the runs that are read beside them.
constexpr int kZeroBytes = 32 + 5 * kRunBytes + 32;
static_assert(kZeroBytes % 128 == 0, "What lies behind begins in a line of its own.");

// By the first lanes of a block; others read them after a barrier.
__device__ __forceinline__ void write_zeros(uint32_t zeros, int thread) {
  if (thread < kZeroBytes / 16) ptx::st_shared_16(zeros + thread * 16, make_uint4(0, 0, 0, 0));
}

// Where a lane finds its run of the first chunk of a stage's two columns.
__device__ __forceinline__ uint32_t lane_run(uint32_t columns, uint32_t zeros, int lane) {
  return has_run(lane) ? columns + (lane >> 4) * kColumnBytes + (lane & 3) * kRunBytes : zeros + 32;
}

// Where a lane reads its part of a stage's weights in shared memory.
struct LaneStage {
  uint32_t rows[2];  // row g in each chunk; row g + 8 is eight rows further
  uint32_t scales;
  int scale_step;

  __device__ __forceinline__ LaneStage(uint32_t stage, ScaleSlot slot, int lane) {
    const int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int c = 0; c < 2; c++) rows[c] = stage + g * kRowBytes + ((c * 4 + t) ^ (g & 1) * 4) * 16;
    set_scales(stage, slot);
  }

  __device__ __forceinline__ void set_scales(uint32_t stage, ScaleSlot slot) {
    scales = stage + slot.offset, scale_step = slot.step;
  }

  // Adds the products of the stage `offset` bytes further, of which `chunks` are within K, with the columns of `run`.
  __device__ __forceinline__ void multiply(int offset, uint32_t run, int chunks, float (&sum)[2]) const {
#pragma unroll
    for (int c = 0; c < 2; c++) {
      if (c >= chunks) continue;
      const uint32_t row = rows[c] + offset, scale = scales + offset + c * scale_step;
      const LaneChunk chunk = {{ptx::ld_shared_16(row), ptx::ld_shared_16(row + 8 * kRowBytes)},
                               {ptx::ld_shared_4(scale), ptx::ld_shared_4(scale + 8 * kScaleBytes)}};
      multiply_runs(chunk, SharedRun{run + c * 4 * kRunBytes}, sum);
    }
  }
};

// Lanes with even t then hold rows g and g + 8 of column t / 2.
__device__ __forceinline__ void add_runs(float (&sum)[2]) {
  sum[0] += __shfl_xor_sync(0xffffffffu, sum[0], 1);
  sum[1] += __shfl_xor_sync(0xffffffffu, sum[1], 1);
}

}  // namespace nvfp4
}  // namespace dgx

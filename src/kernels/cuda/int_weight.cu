#include "kernels/cuda/int_weight.h"

#include "kernels/cuda/placed_row.cuh"
#include "kernels/cuda/row_math.cuh"

namespace hp::cuda {
namespace {

inline constexpr int kWarps = 8;
inline constexpr int kScaleSteps = 16;           // candidates of a scale of 4 bits …
inline constexpr float kSmallestFactor = 0.65F;  // … from the full range down to this part of it

struct Target {
  std::uint8_t* data;
  IntForm form;
  int k;
};

__device__ __forceinline__ std::uint8_t* code_at(const Target& t, int row, int column) {
  return t.data + int_tile_at(t.form, t.k, row, column) + int_place(t.form.bits, row, column).byte;
}
__device__ __forceinline__ void put_scale(const Target& t, int row, int column, float scale) {
  std::uint8_t* tile = t.data + int_tile_at(t.form, t.k, row, column);
  *reinterpret_cast<float*>(tile + int_scale_at(t.form, row, column)) = scale;
}

/// A thread per byte of the tiles' codes of a row: of 4 bits it holds columns c and c + 8.
__global__ void place_kernel(const std::uint8_t* codes, const float* scales, Target out, int first, RowPlace place) {
  const int source = static_cast<int>(blockIdx.x), row = static_cast<int>(placed_row(first + source, place));
  const std::uint8_t* in = codes + static_cast<std::size_t>(source) * int_row_bytes(out.form.bits, out.k);
  const int groups = (out.k + out.form.group - 1) / out.form.group;
  for (int g = static_cast<int>(threadIdx.x); g < groups; g += static_cast<int>(blockDim.x))
    put_scale(
        out, row, g * out.form.group,
        scales[static_cast<std::size_t>(source) * static_cast<std::size_t>(groups) + static_cast<std::size_t>(g)]);
  if (out.form.bits == 8) {
    for (int c = static_cast<int>(threadIdx.x); c < out.k; c += static_cast<int>(blockDim.x))
      *code_at(out, row, c) = in[c];
    return;
  }
  const auto nibble = [&](int c) { return c < out.k ? static_cast<unsigned>(in[c / 2]) >> (c % 2 * 4) & 15U : 8U; };
  for (int i = static_cast<int>(threadIdx.x); 2 * i < out.k + 8; i += static_cast<int>(blockDim.x)) {
    const int c = i / 8 * 16 + i % 8;
    if (c < out.k) *code_at(out, row, c) = static_cast<std::uint8_t>(nibble(c) | nibble(c + 8) << 4U);
  }
}

/// One group of a row, which a warp holds as values lane, lane + 32, …
struct Group {
  float v[4];

  [[nodiscard]] __device__ __forceinline__ float squared_error(float scale) const {
    const float inverse = 1.0F / scale;
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float e = static_cast<float>(level(i, inverse, -8, 7)) * scale - v[i];
      sum = __fmaf_rn(e, e, sum);
    }
    return warp_sum(sum);
  }
  [[nodiscard]] __device__ __forceinline__ int level(int i, float inverse, int low, int high) const {
    return min(max(__float2int_rn(v[i] * inverse), low), high);
  }
  [[nodiscard]] __device__ __forceinline__ float scale(int bits) const {
    float low = 0.0F, high = 0.0F;
#pragma unroll
    for (int i = 0; i < 4; ++i) low = fminf(low, v[i]), high = fmaxf(high, v[i]);
    low = -warp_max(-low), high = warp_max(high);
    if (bits == 8) return fmaxf(high, -low) / 127.0F;
    const float full = fmaxf(high / 7.0F, -low / 8.0F);
    float best = 0.0F, least = INFINITY;
    for (int step = 0; step < kScaleSteps; ++step) {
      const float factor = 1.0F - (1.0F - kSmallestFactor) * static_cast<float>(step) / (kScaleSteps - 1);
      const float candidate = __bfloat162float(__float2bfloat16_rn(full * factor));
      if (!(candidate > 0.0F) || !isfinite(1.0F / candidate)) break;
      const float error = squared_error(candidate);
      if (error < least) least = error, best = candidate;
    }
    return best;
  }
};

/// A warp per group of a row.
__global__ void __launch_bounds__(kWarps * 32)
    round_kernel(const Bf16* in, int rows, Target out, int first, RowPlace place) {
  const int groups = (out.k + out.form.group - 1) / out.form.group, lane = static_cast<int>(threadIdx.x) % 32;
  const int index = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (index >= rows * groups) return;
  const int source = index / groups, column = index % groups * out.form.group;
  const int row = static_cast<int>(placed_row(first + source, place));
  const Bf16* from = in + static_cast<std::size_t>(source) * static_cast<std::size_t>(out.k);
  Group group;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int c = column + 32 * i + lane;
    group.v[i] = 32 * i < out.form.group && c < out.k ? __bfloat162float(from[c]) : 0.0F;
  }
  const float scale = group.scale(out.form.bits);
  const float inverse = scale >= 1.17549435e-38F ? 1.0F / scale : 0.0F;
  if (lane == 0) put_scale(out, row, column, scale);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int c = column + 32 * i + lane;
    const int code = out.form.bits == 8 ? group.level(i, inverse, -127, 127) : group.level(i, inverse, -8, 7) + 8;
    const int right = __shfl_down_sync(0xFFFFFFFFU, code, 8);
    if (32 * i >= out.form.group || c >= out.k) continue;
    if (out.form.bits == 8) {
      *code_at(out, row, c) = static_cast<std::uint8_t>(code);
    } else if (lane % 16 < 8) {
      *code_at(out, row, c) = static_cast<std::uint8_t>(code | right << 4);
    }
  }
}

__global__ void random_kernel(std::uint8_t* out, std::size_t bytes, IntForm form, float scale, std::uint64_t seed) {
  const auto tile = static_cast<std::size_t>(int_tile_bytes(form)),
             codes = static_cast<std::size_t>(int_code_bytes(form.bits));
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; 4 * i < bytes; i += step) {
    std::uint64_t z = seed * 0x9E3779B97F4A7C15ULL + i * 0xBF58476D1CE4E5B9ULL + 0x94D049BB133111EBULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    reinterpret_cast<std::uint32_t*>(out)[i] =
        4 * i % tile < codes ? static_cast<std::uint32_t>(z >> 32) : __float_as_uint(scale);
  }
}

Target target_of(Matrix& out) {
  return {static_cast<std::uint8_t*>(out.data), out.ints, out.k};
}

}  // namespace

void place_int_weight(const std::uint8_t* codes, const float* scales, int rows, Matrix& out, int first, RowPlace place,
                      cudaStream_t stream) {
  place_kernel<<<static_cast<unsigned>(rows), 256, 0, stream>>>(codes, scales, target_of(out), first, place);
}

void round_to_ints(const Bf16* rows_data, int rows, Matrix& out, int first, RowPlace place, cudaStream_t stream) {
  const int groups = rows * ((out.k + out.ints.group - 1) / out.ints.group);
  round_kernel<<<static_cast<unsigned>((groups + kWarps - 1) / kWarps), kWarps * 32, 0, stream>>>(
      rows_data, rows, target_of(out), first, place);
}

void random_ints(Matrix& out, float deviation, std::uint64_t seed, cudaStream_t stream) {
  const float levels = out.ints.bits == 4 ? 16.0F : 256.0F, spread = std::sqrt((levels * levels - 1.0F) / 12.0F);
  random_kernel<<<2048, 256, 0, stream>>>(static_cast<std::uint8_t*>(out.data), out.bytes(), out.ints,
                                          deviation / spread, seed);
}

}  // namespace hp::cuda

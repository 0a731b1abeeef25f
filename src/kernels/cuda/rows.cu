// Operations on rows of activations: embedding, norms, fp8 quantization, rotary positions with the KV store, and what
// loading and benchmarks need. One thread block per row; sums over a row run in one fixed tree.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/int_weight.h"
#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/kv_place.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/placed_row.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_math.cuh"

namespace hp::cuda {
namespace {

inline constexpr int kVectors = 8;  // float4 of a row that a thread keeps: rows of up to 16,384

/// Writes a row that the block holds as float4 vectors, as bf16 or as fp8 with its scale.
__device__ __forceinline__ void write_row(const float4 (&v)[kVectors], int vectors, bool fp8, void* out,
                                          float* row_scale) {
  const std::size_t row = blockIdx.x;
  float inverse = 0.0F;
  if (fp8) {
    const float scale = row_scale_of(v);
    inverse = 1.0F / scale;
    if (threadIdx.x == 0) row_scale[row] = scale;
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kRowThreads;
    if (at >= vectors) break;
    if (fp8) {
      static_cast<std::uint32_t*>(out)[row * static_cast<std::size_t>(vectors) + static_cast<std::size_t>(at)] =
          pack_fp8(times(v[i], inverse));
    } else {
      static_cast<uint2*>(out)[row * static_cast<std::size_t>(vectors) + static_cast<std::size_t>(at)] =
          make_uint2(pack_bf16(v[i].x, v[i].y), pack_bf16(v[i].z, v[i].w));
    }
  }
}

__global__ void __launch_bounds__(kRowThreads)
    norm_kernel(const float* x, const int* rows, const float* weight, float eps, int hidden, bool fp8, void* out,
                float* row_scale) {
  launch_dependents();
  const int vectors = hidden / 4;
  float4 w[kVectors], v[kVectors];
  load_row(w, weight, vectors);
  wait_for_previous();
  const int row = rows != nullptr ? rows[blockIdx.x] : static_cast<int>(blockIdx.x);
  load_row(v, x + static_cast<std::size_t>(row) * static_cast<std::size_t>(hidden), vectors);
  norm_row(v, w, hidden, eps);
  write_row(v, vectors, fp8, out, row_scale);
}

__device__ __forceinline__ void load_bf16_row(float4 (&v)[kVectors], const Bf16* row, int vectors) {
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kRowThreads;
    v[i] = make_float4(0, 0, 0, 0);
    if (at < vectors) {
      const uint2 bits = reinterpret_cast<const uint2*>(row)[at];
      const float2 low = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.x));
      const float2 high = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.y));
      v[i] = make_float4(low.x, low.y, high.x, high.y);
    }
  }
}

__global__ void __launch_bounds__(kRowThreads)
    norm_bf16_kernel(const Bf16* x, int stride, const float* weight, float eps, int k, bool fp8, void* out,
                     float* row_scale) {
  launch_dependents();
  const int vectors = k / 4;
  float4 w[kVectors], v[kVectors];
  load_row(w, weight, vectors);
  wait_for_previous();
  load_bf16_row(v, x + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(stride), vectors);
  norm_row(v, w, k, eps);
  write_row(v, vectors, fp8, out, row_scale);
}

__global__ void __launch_bounds__(kRowThreads) quantize_kernel(const Bf16* x, int k, void* out, float* row_scale) {
  launch_dependents();
  wait_for_previous();
  const int vectors = k / 4;
  float4 v[kVectors];
  // Rows longer than the block's registers hold are read in a second kernel shape; see quantize_rows.
  load_bf16_row(v, x + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(k), vectors);
  write_row(v, vectors, true, out, row_scale);
}

/// Rows beyond 16,384: two passes over memory.
__global__ void __launch_bounds__(kRowThreads) quantize_long_kernel(const Bf16* x, int k, Fp8* out, float* row_scale) {
  launch_dependents();
  wait_for_previous();
  const auto* in =
      reinterpret_cast<const __nv_bfloat162*>(x + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(k));
  float peak = 0.0F;
  for (int i = static_cast<int>(threadIdx.x); i < k / 2; i += kRowThreads) {
    const float2 v = __bfloat1622float2(in[i]);
    peak = fmaxf(peak, fmaxf(fabsf(v.x), fabsf(v.y)));
  }
  const float scale = scale_of_peak(block_reduce<true>(peak)), inverse = 1.0F / scale;
  if (threadIdx.x == 0) row_scale[blockIdx.x] = scale;
  auto* q =
      reinterpret_cast<__nv_fp8x2_storage_t*>(out + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(k));
  for (int i = static_cast<int>(threadIdx.x); i < k / 2; i += kRowThreads) {
    const float2 v = __bfloat1622float2(in[i]);
    q[i] = __nv_cvt_float2_to_fp8x2(make_float2(v.x * inverse, v.y * inverse), __NV_SATFINITE, __NV_E4M3);
  }
}

__global__ void embed_kernel(const Bf16* embedding, const int* tokens, int hidden, float* x) {
  launch_dependents();
  wait_for_previous();
  const auto* in = reinterpret_cast<const __nv_bfloat162*>(embedding + static_cast<std::size_t>(tokens[blockIdx.x]) *
                                                                           static_cast<std::size_t>(hidden));
  auto* out = reinterpret_cast<float2*>(x + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(hidden));
  for (int i = static_cast<int>(threadIdx.x); i < hidden / 2; i += static_cast<int>(blockDim.x))
    out[i] = __bfloat1622float2(in[i]);
}

/// One warp per head of q, k and v: blockIdx.x is the row, warps go over heads.
__global__ void rope_kernel(Bf16* qkv, AttentionShape shape, RopeArgs rope, const int* positions, const int* slots,
                            KvLayer kv) {
  launch_dependents();
  wait_for_previous();
  const int row = static_cast<int>(blockIdx.x), lane = static_cast<int>(threadIdx.x) % 32, d = shape.head_dim;
  const int head =
      static_cast<int>(blockIdx.y) * static_cast<int>(blockDim.x) / 32 + static_cast<int>(threadIdx.x) / 32;
  if (head >= shape.heads + 2 * shape.kv_heads) return;
  Bf16* in =
      qkv + static_cast<std::size_t>(row) * static_cast<std::size_t>(shape.row()) + static_cast<std::size_t>(head * d);
  const bool is_q = head < shape.heads, is_v = head >= shape.heads + shape.kv_heads;
  const int slot = slots[row], position = positions[row];
  if (!is_q && slot < 0) return;
  void* pool = is_v ? kv.v : kv.k;
  const std::size_t start =
      is_q ? 0 : block_start(slot / kBlockTokens, (head - shape.heads) % shape.kv_heads, shape.kv_heads, d);
  // Queries stay in their row, keys and values go to their block.
  const auto store = [&](int i, float v) {
    if (is_q) {
      in[i] = __float2bfloat16_rn(v);
    } else {
      store_element(pool, kv.fp8, start, slot % kBlockTokens, i, v);
    }
  };
  if (is_v) {
    for (int i = 2 * lane; i < d; i += 64) {
      const auto pair = *reinterpret_cast<const __nv_bfloat162*>(in + i);
      store(i, __bfloat162float(pair.x));
      store(i + 1, __bfloat162float(pair.y));
    }
    return;
  }
  const float* norm = is_q ? rope.q_norm : rope.k_norm;
  float factor = 1.0F;
  if (norm != nullptr) {
    float sum = 0.0F;
    for (int i = lane; i < d; i += 32) {
      const float v = __bfloat162float(in[i]);
      sum = __fmaf_rn(v, v, sum);
    }
    factor = rsqrtf(warp_sum(sum) / static_cast<float>(d) + rope.eps);
  }
  const int half = rope.rope_dims / 2;
  for (int pair = lane; pair < d / 2; pair += 32) {
    const bool turns = pair < half;
    // Pairs beyond the rotated dimensions are the remaining dimensions, two by two.
    const int a = !turns || rope.interleaved ? 2 * pair : pair,
              b = !turns || rope.interleaved ? 2 * pair + 1 : pair + half;
    float x = __bfloat162float(in[a]), y = __bfloat162float(in[b]);
    if (norm != nullptr) x = x * factor * norm[a], y = y * factor * norm[b];
    float rx = x, ry = y;
    if (turns) {
      const std::size_t at =
          static_cast<std::size_t>(position) * static_cast<std::size_t>(half) + static_cast<std::size_t>(pair);
      const float2 r = rotated(x, y, rope.cos[at], rope.sin[at]);
      rx = r.x, ry = r.y;
    }
    store(a, rx);
    store(b, ry);
  }
}

/// Writes the scale of source block (block, k_block) to every 64-row half of the placed matrix that it covers.
__device__ __forceinline__ void place_scale(float value, int first, int block_rows, int rows, int k_block, int k_blocks,
                                            RowPlace place, float* scale) {
  for (int r = 0; r < min(block_rows, rows); r += place == RowPlace::plain ? 64 : 32) {
    const std::size_t out_row = placed_row(first + r, place);
    const std::size_t tile = out_row / 64;
    for (int half = 0; half < 2; ++half) {
      if (place != RowPlace::plain && half != (place == RowPlace::up ? 1 : 0)) continue;
      scale[(2 * tile + static_cast<std::size_t>(half)) * static_cast<std::size_t>(k_blocks) +
            static_cast<std::size_t>(k_block)] = value;
    }
  }
}

__global__ void copy_rows_kernel(const Bf16* in, Bf16* out, int k, int first, RowPlace place) {
  const std::size_t from = static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(k);
  const std::size_t to = placed_row(first + static_cast<int>(blockIdx.x), place) * static_cast<std::size_t>(k);
  for (int i = static_cast<int>(threadIdx.x); i < k; i += static_cast<int>(blockDim.x))
    out[to + static_cast<std::size_t>(i)] = in[from + static_cast<std::size_t>(i)];
}

/// One block of 128 × 128 per thread block of 512: scale = peak / 448.
__global__ void __launch_bounds__(kRowThreads)
    quantize_block_kernel(const Bf16* in, int rows, int k, Fp8* out, float* scale, int first, int k_blocks,
                          RowPlace place) {
  const int row0 = static_cast<int>(blockIdx.y) * kQuantBlock, k0 = static_cast<int>(blockIdx.x) * kQuantBlock;
  float peak = 0.0F;
  for (int i = static_cast<int>(threadIdx.x); i < kQuantBlock * kQuantBlock; i += kRowThreads) {
    const int r = row0 + i / kQuantBlock, c = k0 + i % kQuantBlock;
    if (r < rows && c < k)
      peak = fmaxf(peak,
                   fabsf(__bfloat162float(
                       in[static_cast<std::size_t>(r) * static_cast<std::size_t>(k) + static_cast<std::size_t>(c)])));
  }
  const float value = scale_of_peak(block_reduce<true>(peak));
  for (int i = static_cast<int>(threadIdx.x); i < kQuantBlock * kQuantBlock; i += kRowThreads) {
    const int r = row0 + i / kQuantBlock, c = k0 + i % kQuantBlock;
    if (r < rows && c < k) {
      out[placed_row(first + r, place) * static_cast<std::size_t>(k) + static_cast<std::size_t>(c)] =
          Fp8(__bfloat162float(
                  in[static_cast<std::size_t>(r) * static_cast<std::size_t>(k) + static_cast<std::size_t>(c)]) /
              value);
    }
  }
  if (threadIdx.x == 0)
    place_scale(value, first + row0, kQuantBlock, rows - row0, static_cast<int>(blockIdx.x), k_blocks, place, scale);
}

__global__ void place_fp8_kernel(const Fp8* in, const float* in_scale, int rows, int k, Fp8* out, float* scale,
                                 int first, int k_blocks, RowPlace place) {
  const int row0 = static_cast<int>(blockIdx.y) * kQuantBlock, k0 = static_cast<int>(blockIdx.x) * kQuantBlock;
  for (int i = static_cast<int>(threadIdx.x); i < kQuantBlock * kQuantBlock; i += static_cast<int>(blockDim.x)) {
    const int r = row0 + i / kQuantBlock, c = k0 + i % kQuantBlock;
    if (r < rows && c < k) {
      out[placed_row(first + r, place) * static_cast<std::size_t>(k) + static_cast<std::size_t>(c)] =
          in[static_cast<std::size_t>(r) * static_cast<std::size_t>(k) + static_cast<std::size_t>(c)];
    }
  }
  if (threadIdx.x == 0) {
    place_scale(in_scale[static_cast<std::size_t>(blockIdx.y) * static_cast<std::size_t>(k_blocks) + blockIdx.x],
                first + row0, kQuantBlock, rows - row0, static_cast<int>(blockIdx.x), k_blocks, place, scale);
  }
}

__device__ __forceinline__ float uniform(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed * 0x9E3779B97F4A7C15ULL + index * 0xBF58476D1CE4E5B9ULL + 0x94D049BB133111EBULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  return static_cast<float>(z >> 40) * 0x1p-23F - 1.0F;  // [-1, 1)
}

__global__ void random_bf16_kernel(Bf16* out, std::size_t count, float deviation, std::uint64_t seed) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    out[i] = __float2bfloat16_rn(uniform(seed, i) * deviation * 1.7320508F);
  }
}
__global__ void random_fp8_kernel(Fp8* out, std::size_t count, std::uint64_t seed) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    out[i] = Fp8(uniform(seed, i) * kFp8Max);
  }
}
__global__ void fill_kernel(float* out, std::size_t count, float value) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
    out[i] = value;
}

}  // namespace

void embed(const Bf16* embedding, const int* tokens, int t, int hidden, float* x, cudaStream_t stream) {
  launch(embed_kernel, dim3(static_cast<unsigned>(t)), dim3(256), 0, stream, embedding, tokens, hidden, x);
}
void rms_norm(const float* x, const int* rows, const float* weight, float eps, int t, const Activations& out,
              cudaStream_t stream) {
  launch(norm_kernel, dim3(static_cast<unsigned>(t)), dim3(kRowThreads), 0, stream, x, rows, weight, eps, out.k,
         out.fp8, out.data, out.row_scale);
}
void rms_norm_bf16(const Bf16* x, int stride, const float* weight, float eps, int t, const Activations& out,
                   cudaStream_t stream) {
  launch(norm_bf16_kernel, dim3(static_cast<unsigned>(t)), dim3(kRowThreads), 0, stream, x, stride, weight, eps, out.k,
         out.fp8, out.data, out.row_scale);
}
void quantize_rows(const Bf16* x, int t, const Activations& out, cudaStream_t stream) {
  if (out.k / 4 <= kVectors * kRowThreads) {
    launch(quantize_kernel, dim3(static_cast<unsigned>(t)), dim3(kRowThreads), 0, stream, x, out.k, out.data,
           out.row_scale);
  } else {
    launch(quantize_long_kernel, dim3(static_cast<unsigned>(t)), dim3(kRowThreads), 0, stream, x, out.k,
           static_cast<Fp8*>(out.data), out.row_scale);
  }
}
void rope_and_store(Bf16* qkv, const AttentionShape& shape, const RopeArgs& rope, const int* positions,
                    const int* slots, int t, const KvLayer& kv, cudaStream_t stream) {
  const int heads = shape.heads + 2 * shape.kv_heads;
  launch(rope_kernel, dim3(static_cast<unsigned>(t), static_cast<unsigned>((heads + 7) / 8)), dim3(256), 0, stream, qkv,
         shape, rope, positions, slots, kv);
}
void place_weight(const Bf16* rows_data, int rows, Matrix& out, int first, RowPlace place, cudaStream_t stream) {
  if (out.ints.bits > 0) return round_to_ints(rows_data, rows, out, first, place, stream);
  if (!out.fp8) {
    copy_rows_kernel<<<static_cast<unsigned>(rows), 256, 0, stream>>>(rows_data, static_cast<Bf16*>(out.data), out.k,
                                                                      first, place);
    return;
  }
  const dim3 grid(static_cast<unsigned>(out.k_blocks()), static_cast<unsigned>((rows + kQuantBlock - 1) / kQuantBlock));
  quantize_block_kernel<<<grid, kRowThreads, 0, stream>>>(rows_data, rows, out.k, static_cast<Fp8*>(out.data),
                                                          out.scale, first, out.k_blocks(), place);
}
void place_fp8_weight(const Fp8* rows_data, const float* scales, int rows, Matrix& out, int first, RowPlace place,
                      cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(out.k_blocks()), static_cast<unsigned>((rows + kQuantBlock - 1) / kQuantBlock));
  place_fp8_kernel<<<grid, 256, 0, stream>>>(rows_data, scales, rows, out.k, static_cast<Fp8*>(out.data), out.scale,
                                             first, out.k_blocks(), place);
}
void random_bf16(Bf16* out, std::size_t count, float deviation, std::uint64_t seed, cudaStream_t stream) {
  random_bf16_kernel<<<2048, 256, 0, stream>>>(out, count, deviation, seed);
}
void random_weight(Matrix& out, float deviation, std::uint64_t seed, cudaStream_t stream) {
  const std::size_t count = static_cast<std::size_t>(out.n) * static_cast<std::size_t>(out.k);
  if (out.ints.bits > 0) return random_ints(out, deviation, seed, stream);
  if (!out.fp8) return random_bf16(static_cast<Bf16*>(out.data), count, deviation, seed, stream);
  random_fp8_kernel<<<2048, 256, 0, stream>>>(static_cast<Fp8*>(out.data), count, seed);
  fill_f32(out.scale, out.scales(), deviation * 1.7320508F / kFp8Max, stream);
}
void fill_f32(float* out, std::size_t count, float value, cudaStream_t stream) {
  fill_kernel<<<1024, 256, 0, stream>>>(out, count, value);
}

}  // namespace hp::cuda

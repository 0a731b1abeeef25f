#include "kernels/cuda/sampling.h"

#include <cfloat>

#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/ptx.cuh"

namespace hp::cuda {
namespace {

inline constexpr int kThreads = 1024;
inline constexpr int kWeightBlock = 64, kMostBlocks = 4096;  // vocabularies of up to 262,144
inline constexpr int kMostKept = 2048;                       // candidates of top-p or min-p that are sorted here
inline constexpr float kNegligible = -40.0F;

struct Scratch {
  double sums[kMostBlocks];
  unsigned long long kept[kMostKept];  // order << 32 | token
  float values[32], weights[kWeightBlock];
  int places[32], kept_count, block;
  double left;
};

/// vocab_scan.cpp's exp_of.
__device__ __forceinline__ float exp_of(float x) {
  constexpr float kShift = 12582912.0F;
  const float shifted = __fadd_rn(__fmul_rn(x, 1.44269504F), kShift);
  const float n = __fsub_rn(shifted, kShift);
  const float r = __fsub_rn(__fsub_rn(x, __fmul_rn(n, 0.693359375F)), __fmul_rn(n, -2.12194440e-4F));
  float p = __fadd_rn(__fmul_rn(r, 1.9875691500e-4F), 1.3981999507e-3F);
  p = __fadd_rn(__fmul_rn(p, r), 8.3334519073e-3F);
  p = __fadd_rn(__fmul_rn(p, r), 4.1665795894e-2F);
  p = __fadd_rn(__fmul_rn(p, r), 1.6666665459e-1F);
  p = __fadd_rn(__fmul_rn(p, r), 5.0000001201e-1F);
  p = __fadd_rn(__fadd_rn(__fmul_rn(p, __fmul_rn(r, r)), r), 1.0F);
  return __fmul_rn(p, __int_as_float((__float2int_rz(n) + 127) << 23));
}

__device__ __forceinline__ float weight_of(const float* row, int i, int vocab, float best, float scale) {
  if (i >= vocab) return 0.0F;
  const float x = __fmul_rn(__fsub_rn(row[i], best), scale);
  return x >= kNegligible ? exp_of(x) : 0.0F;  // NaN: 0
}

/// base/counter_rng.cpp's uniform_at with draw 0.
__device__ __forceinline__ double uniform_at(unsigned long long seed, unsigned long long position, unsigned choice) {
  unsigned c[4] = {static_cast<unsigned>(position), static_cast<unsigned>(position >> 32), choice, 0};
  unsigned key[2] = {static_cast<unsigned>(seed), static_cast<unsigned>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const unsigned long long a = 0xD2511F53ULL * c[0], b = 0xCD9E8D57ULL * c[2];
    const unsigned next[4] = {static_cast<unsigned>(b >> 32) ^ c[1] ^ key[0], static_cast<unsigned>(b),
                              static_cast<unsigned>(a >> 32) ^ c[3] ^ key[1], static_cast<unsigned>(a)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    key[0] += 0x9E3779B9U, key[1] += 0xBB67AE85U;
  }
  const unsigned long long bits = (static_cast<unsigned long long>(c[0]) << 21) ^ (c[1] >> 11);
  return static_cast<double>(bits & ((1ULL << 53) - 1)) * 0x1p-53;
}

__device__ __forceinline__ void keep_better(float& best, int& at, float other, int place) {
  if (other > best || (other == best && place < at)) best = other, at = place;
}

/// The largest of the row and its first place, in every thread; the place is `vocab` when there is none.
__device__ __forceinline__ void find_best(const float* row, int vocab, Scratch& s, float& best, int& at) {
  best = -INFINITY, at = vocab;
  if (vocab % 4 == 0) {  // rows begin at multiples of 16 bytes then
    const auto* quads = reinterpret_cast<const float4*>(row);
#pragma unroll 5
    for (int q = static_cast<int>(threadIdx.x); q < vocab / 4; q += kThreads) {
      const float4 v = quads[q];
      if (v.x > best) best = v.x, at = 4 * q;
      if (v.y > best) best = v.y, at = 4 * q + 1;
      if (v.z > best) best = v.z, at = 4 * q + 2;
      if (v.w > best) best = v.w, at = 4 * q + 3;
    }
  } else {
#pragma unroll 8
    for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kThreads) {
      const float v = row[i];
      if (v > best) best = v, at = i;
    }
  }
  for (int step = 16; step > 0; step /= 2)
    keep_better(best, at, __shfl_xor_sync(0xFFFFFFFFU, best, step), __shfl_xor_sync(0xFFFFFFFFU, at, step));
  if (threadIdx.x % 32U == 0) s.values[threadIdx.x / 32U] = best, s.places[threadIdx.x / 32U] = at;
  __syncthreads();
  best = s.values[threadIdx.x % 32U], at = s.places[threadIdx.x % 32U];
  for (int step = 16; step > 0; step /= 2)
    keep_better(best, at, __shfl_xor_sync(0xFFFFFFFFU, best, step), __shfl_xor_sync(0xFFFFFFFFU, at, step));
}

/// Sums of weights by blocks of 64 tokens, each in four lanes, as the host adds them.
__device__ __forceinline__ void sum_blocks(const float* row, int vocab, int blocks, float best, float scale,
                                           Scratch& s) {
  const int lane = static_cast<int>(threadIdx.x) % 4;
  // Whole warps: the shuffles want every lane.
  for (int b = static_cast<int>(threadIdx.x) / 4; b / 8 * 8 < blocks; b += kThreads / 4) {
    double sum = 0.0;
    if (b < blocks) {
#pragma unroll 4
      for (int i = b * kWeightBlock + lane; i < (b + 1) * kWeightBlock; i += 4)
        sum = __dadd_rn(sum, static_cast<double>(weight_of(row, i, vocab, best, scale)));
    }
    sum = __dadd_rn(sum, __shfl_xor_sync(0xFFFFFFFFU, sum, 1));
    sum = __dadd_rn(sum, __shfl_xor_sync(0xFFFFFFFFU, sum, 2));
    if (lane == 0 && b < blocks) s.sums[b] = sum;
  }
  __syncthreads();
}

/// In order, by one thread.
__device__ __forceinline__ double total_of(const Scratch& s, int blocks) {
  double total = 0.0;
#pragma unroll 8
  for (int b = 0; b < blocks; ++b) total = __dadd_rn(total, s.sums[b]);
  return total;
}

/// Sampler::draw_from_all. The result is thread 0's.
__device__ __forceinline__ int draw_from_all(const float* row, int vocab, int blocks, float best, float scale,
                                             double random, Scratch& s) {
  if (threadIdx.x == 0) {
    double left = __dmul_rn(random, total_of(s, blocks));
    int b = 0;
    while (b + 1 < blocks && left >= s.sums[b]) left = __dsub_rn(left, s.sums[b++]);
    while (s.sums[b] == 0.0) --b;
    s.block = b, s.left = left;
  }
  __syncthreads();
  const int first = s.block * kWeightBlock;
  if (threadIdx.x < kWeightBlock)
    s.weights[threadIdx.x] = weight_of(row, first + static_cast<int>(threadIdx.x), vocab, best, scale);
  __syncthreads();
  int last = 0;
  if (threadIdx.x == 0) {
    double left = s.left;
    for (int i = 0; i < kWeightBlock; ++i) {
      const auto weight = static_cast<double>(s.weights[i]);
      if (weight == 0.0) continue;
      last = first + i;
      if (left < weight) break;
      left = __dsub_rn(left, weight);
    }
  }
  return last;
}

/// Ascending; count is a power of two.
__device__ __forceinline__ void sort_kept(unsigned long long* kept, int count) {
  for (int size = 2; size <= count; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
        const int other = i ^ step;
        if (other > i) {
          const unsigned long long a = kept[i], b = kept[other];
          if ((a > b) == ((i & size) == 0)) kept[i] = b, kept[other] = a;
        }
      }
      __syncthreads();
    }
  }
}

__device__ __forceinline__ double kept_weight(unsigned long long entry, bool by_weight) {
  const auto bits = static_cast<unsigned>(by_weight ? ~(entry >> 32) : entry & 0xFFFFFFFFULL);
  return static_cast<double>(__uint_as_float(bits));
}

/// Sampler::draw with top-p or min-p: candidates of at least `least`, by weight (top-p) or by id. Thread 0's result.
__device__ __forceinline__ int draw_from_some(const float* row, int vocab, int blocks, float best, float scale,
                                              const RowDraw& draw, double random, Scratch& s) {
  const bool nucleus = draw.top_p < 1.0F;
  const float floor = fminf(1.0F, draw.min_p);
  if (threadIdx.x == 0) s.left = total_of(s, blocks), s.kept_count = 0;
  __syncthreads();
  const double all = s.left;
  const double least =
      nucleus ? __ddiv_rn(__dmul_rn(__dsub_rn(1.0, static_cast<double>(draw.top_p)), all), static_cast<double>(vocab))
              : static_cast<double>(floor);
  for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kThreads) {
    if (s.sums[i / kWeightBlock] < least) continue;
    const float weight = weight_of(row, i, vocab, best, scale);
    if (!(weight > 0.0F) || static_cast<double>(weight) < least) continue;
    const int at = atomicAdd(&s.kept_count, 1);
    if (at >= kMostKept) continue;
    const auto bits = static_cast<unsigned long long>(__float_as_uint(weight));
    s.kept[at] = nucleus ? ((~bits & 0xFFFFFFFFULL) << 32 | static_cast<unsigned>(i))
                         : (static_cast<unsigned long long>(i) << 32 | bits);
  }
  __syncthreads();
  int count = s.kept_count;
  if (count > kMostKept) return kUndecided;
  int size = 1;
  while (size < count) size *= 2;
  for (int i = count + static_cast<int>(threadIdx.x); i < size; i += kThreads) s.kept[i] = ~0ULL;
  __syncthreads();
  sort_kept(s.kept, size);
  if (threadIdx.x != 0) return 0;
  if (nucleus) {
    const double limit = __dmul_rn(static_cast<double>(draw.top_p), all);
    double sum = 0.0;
    int n = 0;
    while (n < count && (n == 0 || sum < limit)) sum = __dadd_rn(sum, kept_weight(s.kept[n++], true));
    count = n;
    if (draw.min_p > 0.0F)
      while (count > 1 && kept_weight(s.kept[count - 1], true) < static_cast<double>(floor)) --count;
  }
  double total = 0.0;
  for (int i = 0; i < count; ++i) total = __dadd_rn(total, kept_weight(s.kept[i], nucleus));
  double left = __dmul_rn(random, total);
  const auto token = [&](int i) { return static_cast<int>(nucleus ? s.kept[i] & 0xFFFFFFFFULL : s.kept[i] >> 32); };
  for (int i = 0; i < count; ++i) {
    const double weight = kept_weight(s.kept[i], nucleus);
    if (left < weight) return token(i);
    left = __dsub_rn(left, weight);
  }
  return token(count - 1);
}

/// One block per row.
__global__ void __launch_bounds__(kThreads)
    draw_kernel(const float* logits, const RowDraw* draws, int vocab, int* tokens) {
  launch_dependents();
  wait_for_previous();
  extern __shared__ std::uint8_t raw[];
  Scratch& s = *reinterpret_cast<Scratch*>(raw);
  const float* row = logits + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(vocab);
  const RowDraw draw = draws[blockIdx.x];
  float best;
  int at;
  find_best(row, vocab, s, best, at);
  int token = at < vocab ? at : -1;
  const int blocks = (vocab + kWeightBlock - 1) / kWeightBlock;
  if (token >= 0 && draw.temperature > 0.0F) {
    if (best > FLT_MAX || blocks > kMostBlocks) {
      token = kUndecided;
    } else {
      const float scale = __fdiv_rn(1.0F, fmaxf(draw.temperature, 1e-6F));
      sum_blocks(row, vocab, blocks, best, scale, s);
      const double random = uniform_at(draw.seed, draw.position, draw.choice);
      token = draw.top_p >= 1.0F && draw.min_p <= 0.0F
                  ? draw_from_all(row, vocab, blocks, best, scale, random, s)
                  : draw_from_some(row, vocab, blocks, best, scale, draw, random, s);
    }
  }
  if (threadIdx.x == 0) tokens[blockIdx.x] = token;
}

}  // namespace

void draw_tokens(const float* logits, const RowDraw* draws, int rows, int vocab, int* tokens, cudaStream_t stream) {
  static const cudaError_t ready =
      cudaFuncSetAttribute(reinterpret_cast<const void*>(draw_kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(sizeof(Scratch)));
  (void)ready;
  launch(draw_kernel, dim3(static_cast<unsigned>(rows)), dim3(kThreads), sizeof(Scratch), stream, logits, draws, vocab,
         tokens);
}

}  // namespace hp::cuda

// What this machine can do, measured now: `machine_limits THREADS` prints one line of JSON. Reads from memory in GB/s,
// multiply-adds of registers in G/s; all threads at once, the best of five rounds, each about a tenth of a second.
#include <fmt/format.h>
#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

namespace {

constexpr int kRounds = 5;
constexpr std::size_t kBytes = std::size_t{384} << 20U;  // per thread, far beyond any cache
constexpr int kChains = 12;                              // independent sums: more than latency times width

using Clock = std::chrono::steady_clock;

/// The best of the rounds: work of all threads over the time until the last was done. `body` gives its own work.
double rate(int threads, const std::function<double(int thread)>& body) {
  std::vector<double> work(static_cast<std::size_t>(threads));
  double best = 0;
  std::barrier meet(threads + 1);
  std::vector<std::jthread> team;
  for (int t = 0; t < threads; ++t) {
    team.emplace_back([&, t] {
      for (int r = 0; r < kRounds; ++r) {
        meet.arrive_and_wait();
        work[static_cast<std::size_t>(t)] = body(t);
        meet.arrive_and_wait();
      }
    });
  }
  for (int r = 0; r < kRounds; ++r) {
    meet.arrive_and_wait();
    const auto start = Clock::now();
    meet.arrive_and_wait();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    double sum = 0;
    for (const double w : work) sum += w;
    best = std::max(best, sum / seconds);
  }
  return best;
}

volatile std::int64_t sink;  // keeps the loops alive

__attribute__((target("avx2"))) double read_memory(const std::byte* data) {
  __m256i sum[8] = {};
  for (std::size_t i = 0; i < kBytes; i += 256) {
    for (std::size_t j = 0; j < 8; ++j) {
      _mm_prefetch(reinterpret_cast<const char*>(data + i + j * 32 + 4096), _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (std::size_t j = 0; j < 8; ++j) {
      sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i + j * 32)));
    }
  }
  for (int j = 1; j < 8; ++j) sum[0] = _mm256_xor_si256(sum[0], sum[j]);
  sink = _mm_cvtsi128_si64(_mm256_castsi256_si128(sum[0]));
  return static_cast<double>(kBytes);
}

constexpr std::int64_t kSteps = 20'000'000;

// Twelve chains as named variables: an array of them would live in memory. `EACH(c)` is one step of chain c.
#define HP_TWELVE(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)
#define HP_KEEP(c) asm volatile("" : "+v"(s##c));
#define HP_LOOP(EACH)                         \
  for (std::int64_t i = 0; i < kSteps; ++i) { \
    HP_TWELVE(EACH)                           \
    HP_TWELVE(HP_KEEP)                        \
  }

__attribute__((target("avx512f,avx512vnni"))) double int8_512() {
#define HP_DECLARE(c) __m512i s##c = _mm512_setzero_si512();
#define HP_STEP(c) s##c = _mm512_dpbusd_epi32(s##c, a, b);
  HP_TWELVE(HP_DECLARE)
  const __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  HP_LOOP(HP_STEP)
#undef HP_DECLARE
#undef HP_STEP
  return static_cast<double>(kSteps) * kChains * 64;
}

__attribute__((target("avx512f,avx512bf16"))) double bf16_512() {
#define HP_DECLARE(c) __m512 s##c = _mm512_setzero_ps();
#define HP_STEP(c) s##c = _mm512_dpbf16_ps(s##c, a, b);
  HP_TWELVE(HP_DECLARE)
  const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3C003C00)), b = a;
  HP_LOOP(HP_STEP)
#undef HP_DECLARE
#undef HP_STEP
  return static_cast<double>(kSteps) * kChains * 32;
}

__attribute__((target("avx512f"))) double fp32_512() {
#define HP_DECLARE(c) __m512 s##c = _mm512_setzero_ps();
#define HP_STEP(c) s##c = _mm512_fmadd_ps(a, b, s##c);
  HP_TWELVE(HP_DECLARE)
  const __m512 a = _mm512_set1_ps(0.5F), b = _mm512_set1_ps(0.25F);
  HP_LOOP(HP_STEP)
#undef HP_DECLARE
#undef HP_STEP
  return static_cast<double>(kSteps) * kChains * 16;
}

__attribute__((target("avx2"))) double int8_256() {
#define HP_DECLARE(c) __m256i s##c = _mm256_setzero_si256();
#define HP_STEP(c) s##c = _mm256_add_epi16(s##c, _mm256_maddubs_epi16(x, b));
  HP_TWELVE(HP_DECLARE)
  const __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  __m256i x = a;
  for (std::int64_t i = 0; i < kSteps; ++i) {
    asm volatile("" : "+v"(x));  // else the product is the same every time, and is taken once
    HP_TWELVE(HP_STEP)
    HP_TWELVE(HP_KEEP)
  }
#undef HP_DECLARE
#undef HP_STEP
  return static_cast<double>(kSteps) * kChains * 32;
}

__attribute__((target("avx2,fma"))) double fp32_256() {
#define HP_DECLARE(c) __m256 s##c = _mm256_setzero_ps();
#define HP_STEP(c) s##c = _mm256_fmadd_ps(a, b, s##c);
  HP_TWELVE(HP_DECLARE)
  const __m256 a = _mm256_set1_ps(0.5F), b = _mm256_set1_ps(0.25F);
  HP_LOOP(HP_STEP)
#undef HP_DECLARE
#undef HP_STEP
  return static_cast<double>(kSteps) * kChains * 8;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 2;
  const std::size_t all = kBytes * static_cast<std::size_t>(threads);
  void* const memory = ::mmap(nullptr, all + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  ::madvise(memory, all, MADV_HUGEPAGE);
  auto* const bytes = static_cast<std::byte*>(memory);
  for (std::size_t i = 0; i < all; i += 4096) bytes[i] = std::byte{1};
  const auto each = [&](double (*f)()) { return rate(threads, [f](int) { return f(); }) * 1e-9; };
  const bool wide = __builtin_cpu_supports("avx512f") != 0;
  fmt::print("{{\"threads\": {}, \"read_gb_s\": {:.1f}, \"int8\": {:.0f}, \"bf16\": {:.0f}, \"fp32\": {:.0f}, ",
             threads,
             rate(threads, [&](int t) { return read_memory(bytes + static_cast<std::size_t>(t) * kBytes); }) * 1e-9,
             wide && __builtin_cpu_supports("avx512vnni") != 0 ? each(int8_512) : 0.0,
             wide && __builtin_cpu_supports("avx512bf16") != 0 ? each(bf16_512) : 0.0, wide ? each(fp32_512) : 0.0);
  fmt::print("\"int8_avx2\": {:.0f}, \"fp32_avx2\": {:.0f}}}\n", each(int8_256), each(fp32_256));
  return 0;
}

// Products of one thread by ISA, weight type and rows: GMAC/s and weight bytes per second, from memory (a matrix of
// 4096 × 4096 walked through a 256 MB arena) and in cache (256 × 2048). Names: product/<isa>/<type>/m<rows>/<where>,
// with /narrow at the end where no activation is an outlier.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernel_table.h"
#include "tensor/buffer.h"

namespace hp::kernels {
namespace {

struct Case {
  Isa isa;
  DType type;
  std::int32_t rows, n, k;
};

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

/// Weights of any type whose values are finite and small, packed `copies` times one after the other.
Buffer packed_weights(const Case& c, std::size_t bytes, std::size_t copies) {
  std::mt19937 rng(7);
  std::vector<std::byte> source(storage_bytes(c.type, z(c.n) * z(c.k)));
  for (std::size_t i = 0; i < source.size(); ++i) {
    source[i] = std::byte{static_cast<std::uint8_t>(rng() & 0x37U)};
    const bool top = i % traits(c.type).block_bytes == traits(c.type).block_bytes - 1;
    if (top && (c.type == DType::f32 || c.type == DType::bf16)) source[i] = std::byte{0x3D};  // no subnormals
  }
  Buffer buffer = Buffer::allocate(bytes * copies).value();
  for (std::size_t i = 0; i < copies; ++i) {
    pack_panels({c.type, {c.n, c.k}, source.data()}, 0, (c.n + 15) / 16, buffer.data() + i * bytes);
  }
  return buffer;
}

struct Activations {
  std::vector<float> x, scale, sum;
  std::vector<std::int8_t> q;
  std::vector<std::int32_t> isum;
  std::vector<std::uint16_t> bf16;

  Activations(const KernelTable& t, std::int32_t rows, std::int32_t k, float narrow) : x(z(rows) * z(k)) {
    std::mt19937 rng(9);
    std::normal_distribution<float> dist;
    for (float& v : x) v = dist(rng);
    q.resize(2 * x.size());
    bf16.resize(x.size());
    scale.resize(x.size() / 32);
    sum.resize(scale.size());
    isum.resize(scale.size());
    t.to_q8(x.data(), rows, k, {q.data(), scale.data(), sum.data(), isum.data(), narrow});
    t.to_bf16(x.data(), rows, k, bf16.data());
  }
};

void product(benchmark::State& state, const Case& c, bool from_memory, bool narrow) {
  const KernelTable& table = kernel_table(c.isa);
  const std::size_t bytes = (packed_bytes(c.type, c.n, c.k).value() + 63) / 64 * 64;
  const std::size_t copies = from_memory ? std::max<std::size_t>(1, (std::size_t{256} << 20U) / bytes) : 1;
  const Buffer weights = packed_weights(c, bytes, copies);
  const Activations a(table, c.rows, c.k, narrow ? 4.0F : 0.0F);
  std::vector<float> out(z(c.rows) * z(c.n));
  std::size_t copy = 0;
  for (auto _ : state) {
    table.matmul({.operand = {.kind = table.operand_kind(c.type),
                              .rows = c.rows,
                              .k = c.k,
                              .f32 = a.x.data(),
                              .bf16 = a.bf16.data(),
                              .q8 = a.q.data(),
                              .q8_scale = a.scale.data(),
                              .q8_sum = a.sum.data(),
                              .q8_isum = a.isum.data()},
                  .m = c.rows,
                  .weight = packed_view(c.type, c.n, c.k, weights.data() + copy * bytes),
                  .out = out.data(),
                  .out_stride = z(c.n),
                  .panel_begin = 0,
                  .panel_end = (c.n + 15) / 16});
    copy = (copy + 1) % copies;
    benchmark::DoNotOptimize(out.data());
  }
  const auto runs = static_cast<double>(state.iterations());
  const double macs = static_cast<double>(c.rows) * c.n * c.k;
  state.counters["GMAC/s"] = benchmark::Counter(runs * macs * 1e-9, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(runs * static_cast<double>(bytes) * 1e-9, benchmark::Counter::kIsRate);
}

const KernelTable& table_of(const Case& c) {
  return kernel_table(c.isa);
}

const int kRegistered = [] {
  constexpr DType kTypes[] = {DType::f32,   DType::bf16,   DType::f8_e4m3, DType::q8_0,   DType::i8_32, DType::q6_k,
                              DType::q5_k,  DType::q5_0,   DType::q5_1,    DType::q4_k,   DType::q4_0,  DType::q4_1,
                              DType::i4_32, DType::i4_128, DType::iq4_nl,  DType::iq4_xs, DType::q3_k,  DType::q2_k};
  for (const Isa isa : available_isas()) {
    if (isa == Isa::ref) continue;
    for (const DType type : kTypes) {
      for (const std::int32_t rows : {1, 4, 16, 64, 512}) {
        for (const bool from_memory : {false, true}) {
          const Case c{isa, type, rows, from_memory ? 4096 : 256, from_memory ? 4096 : 2048};
          const std::string name = "product/" + std::string(to_string(isa)) + "/" + std::string(traits(type).name) +
                                   "/m" + std::to_string(rows) + (from_memory ? "/memory" : "/cache");
          benchmark::RegisterBenchmark(name.c_str(),
                                       [c, from_memory](benchmark::State& s) { product(s, c, from_memory, false); });
          if (rows < 16 || table_of(c).operand_kind(type) != OperandKind::q8) continue;
          benchmark::RegisterBenchmark((name + "/narrow").c_str(),
                                       [c, from_memory](benchmark::State& s) { product(s, c, from_memory, true); });
        }
      }
    }
  }
  return 0;
}();

}  // namespace
}  // namespace hp::kernels

BENCHMARK_MAIN();

// Formats against hand-computed blocks; packing against dequantize; products and attention against plain sums, and bit
// for bit against themselves in other batches.
#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/kernel_table.h"

namespace hp::kernels {
namespace {

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

std::vector<float> noise(std::size_t count, unsigned seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> dist(-1.0F, 1.0F);
  std::vector<float> v(count);
  for (float& x : v) x = dist(rng);
  return v;
}

/// Random bytes whose f16 scales are finite and small: every byte in turn is masked to keep exponents low.
std::vector<std::byte> weight_bytes(DType type, std::size_t elements, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<std::byte> v(storage_bytes(type, elements));
  const std::size_t block = traits(type).block_bytes;
  if (type == DType::f32) {
    const std::vector<float> f = noise(elements, seed);
    std::memcpy(v.data(), f.data(), v.size());
    return v;
  }
  const bool f32_scale = type >= DType::i4_32;
  for (std::size_t i = 0; i < v.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(rng());
    v[i] = std::byte{byte};
    const std::size_t at = i % block;
    if (f32_scale && at == 3) v[i] = std::byte{0x3D};  // a twentieth or so
    if (f32_scale && at == 4 && type != DType::i8_32) v[i] &= std::byte{15};
    if (f32_scale) continue;
    if (type == DType::f8_e4m3) v[i] &= std::byte{0xBF};  // no NaN
    const bool top_of_half =                              // the high byte of any f16/bf16 field
        at == 1 ||
        (at == 3 && (type == DType::q4_1 || type == DType::q5_1 || type == DType::q4_k || type == DType::q5_k)) ||
        (type == DType::q2_k && (at == 81 || at == 83)) || (type == DType::q3_k && at == 109) ||
        (type == DType::q6_k && at == 209);  // iq4 has its d first
    if (top_of_half) v[i] = std::byte{static_cast<std::uint8_t>(byte & 0xB0U)};
  }
  return v;
}

constexpr DType kTypes[] = {DType::f32,    DType::f16,   DType::bf16,  DType::f8_e4m3, DType::q4_0,
                            DType::q4_1,   DType::q5_0,  DType::q5_1,  DType::q8_0,    DType::q2_k,
                            DType::q3_k,   DType::q4_k,  DType::q5_k,  DType::q6_k,    DType::iq4_nl,
                            DType::iq4_xs, DType::i4_32, DType::i4_64, DType::i4_128,  DType::i8_32};

TEST(Dequantize, SmallBlocksByHand) {
  std::vector<std::byte> b(18);
  b[1] = std::byte{0x3C};  // d = 1
  b[2] = std::byte{0xF0};
  std::vector<float> y(32);
  dequantize(DType::q4_0, b.data(), 32, y.data());
  EXPECT_EQ(y[0], -8.0F);
  EXPECT_EQ(y[16], 7.0F);
  dequantize(DType::iq4_nl, b.data(), 32, y.data());
  EXPECT_EQ(y[0], -127.0F);
  EXPECT_EQ(y[16], 113.0F);
  std::vector<std::byte> c(20);
  c[1] = std::byte{0x40};  // d = 2
  c[3] = std::byte{0xBC};  // m = -1
  c[4] = std::byte{0x53};
  dequantize(DType::q4_1, c.data(), 32, y.data());
  EXPECT_EQ(y[0], 5.0F);
  EXPECT_EQ(y[16], 9.0F);
  std::vector<std::byte> e(22);
  e[1] = std::byte{0x3C};
  e[2] = std::byte{0x01};  // fifth bit of element 0
  e[4] = std::byte{0x02};  // and of element 17
  e[6] = std::byte{0x03};
  dequantize(DType::q5_0, e.data(), 32, y.data());
  EXPECT_EQ(y[0], 3.0F);
  EXPECT_EQ(y[1], -16.0F);
  EXPECT_EQ(y[17], 0.0F);
}

TEST(Dequantize, SixBitBlockByHand) {
  std::vector<std::byte> b(210);
  b[209] = std::byte{0x3C};  // d = 1
  b[0] = std::byte{0xA5};    // low bits of elements 0 and 64
  b[128] = std::byte{0x21};  // high bits: 1 for 0, 0 for 32, 2 for 64
  for (std::size_t i = 192; i < 208; ++i) b[i] = std::byte{1};
  b[196] = std::byte{0xFE};  // scale -2 for elements 64..79
  std::vector<float> y(256);
  dequantize(DType::q6_k, b.data(), 256, y.data());
  EXPECT_EQ(y[0], 21.0F - 32.0F);
  EXPECT_EQ(y[32], -32.0F);
  EXPECT_EQ(y[64], -2.0F * (42.0F - 32.0F));
}

TEST(Packing, EveryRowComesBackAndPanelsPackAlone) {
  for (const DType type : kTypes) {
    const std::int32_t n = 37;
    const std::int32_t k = traits(type).block_size == 1 ? 45 : 512;
    const auto bytes = weight_bytes(type, z(n) * z(k), 7);
    const TensorView view{type, {n, k}, bytes.data()};
    const auto size = packed_bytes(type, n, k);
    ASSERT_TRUE(size.has_value());
    std::vector<std::byte> whole(*size, std::byte{0xEE});
    std::vector<std::byte> parts(*size, std::byte{0x11});
    pack_panels(view, 0, 3, whole.data());
    for (const std::int32_t p : {2, 0, 1}) pack_panels(view, p, p + 1, parts.data());
    EXPECT_EQ(whole, parts) << traits(type).name;
    std::vector<float> want(z(n) * z(k));
    dequantize(type, bytes.data(), want.size(), want.data());
    std::vector<float> row(z(k));
    for (std::int32_t r = 0; r < n; ++r) {
      kernel_table(Isa::ref).unpack_row(packed_view(type, n, k, whole.data()), r, row.data());
      for (std::size_t i = 0; i < z(k); ++i) ASSERT_EQ(row[i], want[z(r) * z(k) + i]) << traits(type).name << " " << r;
    }
  }
  EXPECT_FALSE(packed_bytes(DType::q4_0, 16, 33).has_value());
  EXPECT_FALSE(packed_bytes(DType::i32, 16, 32).has_value());
}

TEST(Packing, QuantizedFormatsStayNearTheSizeOfTheirFiles) {
  for (const DType type : kTypes) {
    const auto file = static_cast<double>(storage_bytes(type, std::size_t{4096} * 512));
    const auto packed = static_cast<double>(packed_bytes(type, 512, 4096).value());
    const bool f32_scales = type == DType::i4_32 || type == DType::i4_64 || type == DType::i4_128;
    EXPECT_LE(packed, file * (type == DType::q3_k ? 1.06 : 1.04)) << traits(type).name;
    EXPECT_GE(packed, file * (f32_scales ? 0.85 : 0.99)) << traits(type).name;  // unused bytes of the source blocks
  }
}

TEST(Packing, F8TakesTheScaleOfItsBlock) {
  const std::int32_t n = 20, k = 300;
  const auto bytes = weight_bytes(DType::f8_e4m3, z(n) * z(k), 3);
  const std::vector<float> scales = {0.5F, 2.0F, 3.0F, 0.25F, 5.0F, 7.0F};
  std::vector<std::byte> packed(*packed_bytes(DType::f8_e4m3, n, k));
  pack_panels({DType::f8_e4m3, {n, k}, bytes.data()}, 0, 2, packed.data(),
              {.data = scales.data(), .rows = 16, .columns = 128});
  std::vector<float> row(z(k));
  for (const std::int32_t r : {0, 15, 16, 19}) {
    kernel_table(Isa::ref).unpack_row(packed_view(DType::f8_e4m3, n, k, packed.data()), r, row.data());
    for (std::size_t i = 0; i < z(k); ++i) {
      const auto value = std::to_integer<std::uint8_t>(bytes[z(r) * z(k) + i]);
      ASSERT_EQ(row[i], f8_e4m3_to_f32(value) * scales[z(r) / 16 * 3 + i / 128]) << r << " " << i;
    }
  }
}

std::vector<std::pair<Isa, DType>> isas_and_types() {
  std::vector<std::pair<Isa, DType>> all;
  for (const Isa isa : available_isas()) {
    for (const DType type : kTypes) all.emplace_back(isa, type);
  }
  return all;
}

TEST(Matmul, AgreesWithDoublesAndIsTheSameAloneAndInABatch) {
  for (const auto& [isa, type] : isas_and_types()) {
    const KernelTable& table = kernel_table(isa);
    if (table.operand_kind(type) != OperandKind::f32) continue;
    const std::int32_t n = 21;
    const std::int32_t k = traits(type).block_size == 1 ? 301 : 256;
    const std::int32_t m = type == DType::f16 ? 259 : 33;
    const auto bytes = weight_bytes(type, z(n) * z(k), 3);
    std::vector<std::byte> packed(*packed_bytes(type, n, k));
    pack_panels({type, {n, k}, bytes.data()}, 0, 2, packed.data());
    std::vector<float> w(z(n) * z(k));
    dequantize(type, bytes.data(), w.size(), w.data());
    const auto x = noise(z(m) * z(k), 5);
    const auto bias = noise(z(n), 6);
    std::vector<float> out(z(m) * 24, -1.0F);
    MatmulArgs args{.operand = {.rows = m, .k = k, .f32 = x.data()},
                    .m = m,
                    .weight = packed_view(type, n, k, packed.data()),
                    .bias = bias.data(),
                    .out = out.data(),
                    .out_stride = 24,
                    .panel_begin = 0,
                    .panel_end = 2};
    table.matmul(args);
    for (std::size_t r = 0; r < z(m); ++r) {
      for (std::size_t c = 0; c < z(n); ++c) {
        double want = bias[c];
        double size = std::abs(want);
        for (std::size_t i = 0; i < z(k); ++i) {
          const double term = double{x[r * z(k) + i]} * double{w[c * z(k) + i]};
          want += term;
          size += std::abs(term);
        }
        // k + 1 roundings of at most 2^-24 each, on partial sums bounded by the sum of magnitudes
        ASSERT_NEAR(out[r * 24 + c], want, size * (k + 2) * 0x1p-24) << traits(type).name;
      }
      EXPECT_EQ(out[r * 24 + 21], -1.0F) << "columns past n stay untouched";
      std::vector<float> alone(24);
      const auto id = static_cast<std::int32_t>(r);
      MatmulArgs one = args;
      one.m = 1;
      one.operand.row_ids = &id;
      one.out = alone.data();
      table.matmul(one);
      for (std::size_t c = 0; c < z(n); ++c)
        ASSERT_EQ(std::bit_cast<int>(alone[c]), std::bit_cast<int>(out[r * 24 + c]));
    }
  }
}

TEST(Matmul, QuantizedProductsAgreeWithRefAndAreTheSameAloneAndInABatch) {
  for (const DType type : kTypes) {
    std::vector<float> elsewhere;  // the same product on the ISA before
    for (const Isa isa : available_isas()) {
      const KernelTable& table = kernel_table(isa);
      if (table.operand_kind(type) != OperandKind::q8) continue;
      const std::int32_t n = 37;
      const std::int32_t k = traits(type).block_size == 32 ? 352 : 768;
      const std::int32_t m = type == DType::q4_k ? 261 : 33;
      const auto bytes = weight_bytes(type, z(n) * z(k), 3);
      std::vector<std::byte> packed(*packed_bytes(type, n, k));
      pack_panels({type, {n, k}, bytes.data()}, 0, 3, packed.data());
      const auto x = noise(z(m) * z(k), 5);
      std::vector<std::int8_t> q(2 * x.size());
      std::vector<float> scale(x.size() / 32);
      std::vector<float> sum(x.size() / 32);
      std::vector<std::int32_t> isum(x.size() / 32);
      table.to_q8(x.data(), m, k, {q.data(), scale.data(), sum.data(), isum.data(), 1.3F});
      std::vector<float> rounded(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t at = i / 32 * 64 + i % 32;
        rounded[i] = static_cast<float>(16 * q[at] + q[at + 32]) * scale[i / 32];
      }
      const auto bias = noise(z(n), 6);
      std::vector<float> want(z(m) * 40, 0.5F);
      std::vector<float> got = want;
      MatmulArgs args{.operand = {.rows = m, .k = k, .f32 = rounded.data()},
                      .m = m,
                      .weight = packed_view(type, n, k, packed.data()),
                      .bias = bias.data(),
                      .out = want.data(),
                      .out_stride = 40,
                      .accumulate = true,
                      .panel_begin = 0,
                      .panel_end = 3};
      kernel_table(Isa::ref).matmul(args);
      args.operand = {.kind = OperandKind::q8,
                      .rows = m,
                      .k = k,
                      .q8 = q.data(),
                      .q8_scale = scale.data(),
                      .q8_sum = sum.data(),
                      .q8_isum = isum.data()};
      args.out = got.data();
      table.matmul(args);
      std::vector<float> w(z(n) * z(k));
      dequantize(type, bytes.data(), w.size(), w.data());
      for (std::size_t i = 0; i < got.size(); ++i) {
        const std::size_t r = i / 40, c = i % 40;
        if (c >= z(n)) continue;
        float largest = 0.0F, x_size = 0.0F;
        for (std::size_t j = 0; j < z(k); ++j) {
          largest = std::max(largest, std::abs(w[c * z(k) + j]));
          x_size += std::abs(rounded[r * z(k) + j]);
        }
        // k and k / 16 + 8 roundings on sums of |d · q| and |m|, together below four times the largest weight
        const float tolerance = 4 * largest * x_size * (static_cast<float>(k) * 1.1F + 10) * 0x1p-24F + 1e-6F;
        ASSERT_NEAR(got[i], want[i], tolerance) << to_string(isa) << " " << traits(type).name << " " << i;
      }
      EXPECT_EQ(got[37], 0.5F) << "columns past n stay untouched";
      if (!elsewhere.empty()) {
        EXPECT_EQ(got, elsewhere) << "integers are exact, floats go in one order: " << to_string(isa);
      }
      elsewhere = got;
      for (const std::int32_t rows : {1, 2, 3, 7, 16}) {
        for (std::int32_t first = 0; first + rows <= m; first += rows) {
          std::vector<std::int32_t> ids(z(rows));
          for (std::int32_t i = 0; i < rows; ++i) ids[z(i)] = first + i;
          std::vector<float> part(z(rows) * 40, 0.5F);
          MatmulArgs some = args;
          some.m = rows;
          some.operand.row_ids = ids.data();
          some.out = part.data();
          table.matmul(some);
          ASSERT_EQ(0, std::memcmp(part.data(), got.data() + z(first) * 40, part.size() * 4)) << rows << " " << first;
        }
      }
    }
  }
}

TEST(Attention, ChunksSplitsAndSinglesGiveTheSameBitsAndTheRightValues) {
  const KernelTable& table = kernel_table(Isa::ref);
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    const std::int32_t tokens = 530;  // two splits
    const std::size_t block_bytes = 2 * 16 * (8 + 6) * (type == DType::f32 ? 4U : 2U);
    std::vector<std::byte> memory(40 * block_bytes);
    std::vector<std::int32_t> blocks(34);
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::int32_t>(39 - i);
    const KvView kv{
        .base = memory.data(), .block_stride = block_bytes, .dtype = type, .kv_heads = 2, .head_dim = 8, .v_dim = 6};
    const auto k = noise(z(tokens) * 16, 1);
    const auto v = noise(z(tokens) * 12, 2);
    const auto q = noise(z(tokens) * 32, 3);
    table.kv_write({.kv = kv,
                    .blocks = blocks.data(),
                    .position = 0,
                    .tokens = tokens,
                    .k = k.data(),
                    .v = v.data(),
                    .k_stride = 16,
                    .v_stride = 12});
    std::vector<float> whole(z(tokens) * 24);
    std::vector<float> other(whole.size());
    AttentionArgs a{.kv = kv,
                    .blocks = blocks.data(),
                    .position = 0,
                    .tokens = tokens,
                    .heads = 4,
                    .kv_head = 1,
                    .scale = 0.35F,
                    .q = q.data(),
                    .q_stride = 32,
                    .split_begin = 0,
                    .split_end = 2,
                    .out = whole.data(),
                    .out_stride = 24};
    std::vector<float> scratch(table.attention_scratch_floats(a));
    a.scratch = scratch.data();
    table.attention(a);
    for (const std::int32_t t : {0, 1, 511, 512, 529}) {  // one by one
      AttentionArgs one = a;
      one.position = t;
      one.tokens = 1;
      one.q += z(t) * 32;
      one.split_end = t / kKvSplitTokens + 1;
      one.out = other.data() + z(t) * 24;
      table.attention(one);
      EXPECT_EQ(0, std::memcmp(one.out + 12, whole.data() + z(t) * 24 + 12, 12 * sizeof(float))) << t;
    }
    std::vector<float> partial(z(tokens) * 2 * 2 * 8);
    a.partial = partial.data();
    a.out = other.data();
    for (const std::int32_t s : {1, 0}) {
      a.split_begin = s;
      a.split_end = s + 1;
      table.attention(a);
    }
    table.attention_merge(a);
    EXPECT_EQ(other, whole);
    const std::size_t t = 529;  // the last query, head 3, by plain sums
    double sum = 0;
    double value = 0;
    for (std::size_t p = 0; p <= t; ++p) {
      double dot = 0;
      for (std::size_t d = 0; d < 8; ++d) dot += double{q[t * 32 + 24 + d]} * double{k[p * 16 + 8 + d]};
      const double weight = std::exp(dot * double{a.scale});
      sum += weight;
      value += weight * double{v[p * 12 + 6 + 2]};
    }
    const double tolerance = type == DType::f32   ? 1e-5
                             : type == DType::f16 ? 2e-3
                                                  : 2e-2;  // a rounding of K and V each
    EXPECT_NEAR(whole[t * 24 + 18 + 2], value / sum, tolerance);
  }
}

TEST(RowOperations, ByHand) {
  const KernelTable& table = kernel_table(Isa::ref);
  const std::vector<float> x = {3, 4};
  const std::vector<float> weight = {1, 2};
  std::vector<float> out(2);
  table.rms_norm(x.data(), 2, weight.data(), 0.0F, 1, 2, out.data(), 2);
  EXPECT_FLOAT_EQ(out[0], 3.0F / std::sqrt(12.5F));
  EXPECT_FLOAT_EQ(out[1], 8.0F / std::sqrt(12.5F));
  table.swiglu(x.data(), weight.data(), 2, out.data());
  EXPECT_FLOAT_EQ(out[1], 4.0F / (1.0F + std::exp(-4.0F)) * 2.0F);
  const std::vector<float> cos = {0, 1};
  const std::vector<float> sin = {1, 0};
  std::vector<float> a = {1, 2, 3, 4};
  table.rope(a.data(), 1, 4, 0, 4, false, cos.data(), sin.data());
  EXPECT_THAT(a, testing::ElementsAre(-3, 2, 1, 4));
  a = {1, 2, 3, 4};
  table.rope(a.data(), 1, 4, 0, 4, true, cos.data(), sin.data());
  EXPECT_THAT(a, testing::ElementsAre(-2, 1, 3, 4));
}

TEST(ToQ8, IsWithinHalfAStepAndSumsItsQuants) {
  const auto x = noise(128, 4);
  std::vector<std::int8_t> q(256);
  std::vector<float> scale(4);
  std::vector<float> sum(4);
  std::vector<std::int32_t> isum(4);
  kernel_table(Isa::ref).to_q8(x.data(), 2, 64, {q.data(), scale.data(), sum.data(), isum.data()});
  for (std::size_t g = 0; g < 4; ++g) {
    int half[2] = {};
    for (std::size_t i = g * 32; i < g * 32 + 32; ++i) {
      const int v = 16 * q[g * 64 + i % 32] + q[g * 64 + 32 + i % 32];
      EXPECT_NEAR(x[i], static_cast<float>(v) * scale[g], scale[g] * 0.5001F);
      half[i / 16 % 2] += v;
    }
    EXPECT_EQ(isum[g] >> 16, half[1]);
    EXPECT_EQ(static_cast<std::int16_t>(isum[g] & 0xFFFF), half[0]);
    EXPECT_EQ(sum[g], scale[g] * static_cast<float>(half[0] + half[1]));
  }
}

TEST(ToQ8, GroupsWithoutOutliersHaveNoLowPlane) {
  auto x = noise(128, 4);
  x[70] = 40.0F;
  std::vector<std::int8_t> q(256);
  std::vector<float> scale(4), sum(4);
  std::vector<std::int32_t> isum(4);
  kernel_table(Isa::ref).to_q8(x.data(), 1, 128, {q.data(), scale.data(), sum.data(), isum.data(), 1.5F});
  for (std::size_t g = 0; g < 4; ++g) {
    const auto* low = &q[g * 64 + 32];
    EXPECT_EQ(std::any_of(low, low + 32, [](int v) { return v != 0; }), g == 2) << g;
    for (std::size_t i = 0; i < 32; ++i) {
      const int v = 16 * q[g * 64 + i] + low[i];
      EXPECT_NEAR(x[g * 32 + i], static_cast<float>(v) * scale[g], scale[g] * (g == 2 ? 0.5001F : 8.001F));
    }
  }
}

TEST(Isa, RefIsAlwaysThereAndNonsenseIsNot) {
  EXPECT_EQ(available_isas().front(), Isa::ref);
  EXPECT_EQ(choose_isa("ref").value(), Isa::ref);
  EXPECT_EQ(choose_isa("auto").value(), available_isas().back());
  EXPECT_THAT(choose_isa("sse9").error().message, testing::HasSubstr("ref"));
}

}  // namespace
}  // namespace hp::kernels

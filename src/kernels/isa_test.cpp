// Every ISA against ref, over odd shapes, and bit for bit against itself in other company.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/kernel_table.h"
#include "tensor/kv_groups.h"

namespace hp::kernels {
namespace {

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

std::vector<float> noise(std::size_t count, unsigned seed, float size = 1.0F) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> dist(0.0F, size);
  std::vector<float> v(count);
  for (float& x : v) x = dist(rng);
  return v;
}

bool same_bits(const float* a, const float* b, std::size_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

class EveryIsa : public testing::TestWithParam<Isa> {
 protected:
  const KernelTable& ref = kernel_table(Isa::ref);
  const KernelTable& table = kernel_table(GetParam());
};

struct Prepared {
  std::vector<std::int8_t> q;
  std::vector<float> scale, sum;
  std::vector<std::int32_t> isum;
  Prepared(const KernelTable& t, const std::vector<float>& x, std::int32_t rows, std::int32_t k, float narrow = 1.2F)
      : q(2 * x.size()), scale(x.size() / 32), sum(scale.size()), isum(scale.size()) {
    t.to_q8(x.data(), rows, k, {q.data(), scale.data(), sum.data(), isum.data(), narrow});
  }
};

TEST_P(EveryIsa, PreparesTheSameOperandsAsRef) {
  std::vector<float> x = noise(3 * 352, 1, 4.0F);
  std::fill_n(x.begin() + 64, 32, 0.0F);
  x[7] = 2.5F;
  const Prepared want(ref, x, 3, 352), got(table, x, 3, 352);
  EXPECT_EQ(got.q, want.q);
  EXPECT_EQ(got.isum, want.isum);
  EXPECT_TRUE(same_bits(got.scale.data(), want.scale.data(), want.scale.size()));
  EXPECT_TRUE(same_bits(got.sum.data(), want.sum.data(), want.sum.size()));
  x[3] = std::nanf("1");
  std::vector<std::uint16_t> a(5 * 45, 7), b(a);
  ref.to_bf16(x.data(), 5, 45, a.data());
  table.to_bf16(x.data(), 5, 45, b.data());
  EXPECT_EQ(a, b);
}

/// A product's weights, packed, its activations, and the rows that the ISA's preparation makes of them.
struct Product {
  std::int32_t n, k, m;
  std::vector<std::byte> packed;
  std::vector<float> x, rounded, bias;
  std::vector<std::uint16_t> half;
  Prepared quants;
  MatmulArgs args;

  Product(const KernelTable& t, DType type, std::int32_t outputs, std::int32_t inputs, std::int32_t rows)
      : n(outputs),
        k(inputs),
        m(rows),
        packed(*packed_bytes(type, n, k)),
        x(noise(z(m) * z(k), 5)),
        rounded(x),
        bias(noise(z(n), 6)),
        half(x.size()),
        quants(t, k % 32 == 0 ? x : std::vector<float>(32), k % 32 == 0 ? m : 1, k % 32 == 0 ? k : 32) {
    std::vector<std::byte> bytes(storage_bytes(type, z(n) * z(k)));
    std::mt19937 rng(3);
    for (std::byte& b : bytes) b = std::byte{static_cast<std::uint8_t>(rng() & 0xB7U)};  // no large exponents
    if (type == DType::f32) std::memcpy(bytes.data(), noise(z(n) * z(k), 8).data(), bytes.size());
    if (type == DType::bf16) {
      const std::vector<float> w = noise(z(n) * z(k), 8);
      for (std::size_t i = 0; i < w.size(); ++i) {
        const std::uint16_t bits = f32_to_bf16(w[i]);
        std::memcpy(&bytes[2 * i], &bits, 2);
      }
    }
    pack_panels({type, {n, k}, bytes.data()}, 0, (n + 15) / 16, packed.data());
    const OperandKind kind = t.operand_kind(type);
    t.to_bf16(x.data(), m, k, half.data());
    if (kind == OperandKind::q8) {
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t at = i / 32 * 64 + i % 32;
        rounded[i] = static_cast<float>(16 * quants.q[at] + quants.q[at + 32]) * quants.scale[i / 32];
      }
    }
    if (kind == OperandKind::bf16) {
      for (std::size_t i = 0; i < x.size(); ++i) rounded[i] = bf16_to_f32(half[i]);
    }
    args = {.operand = {.kind = kind,
                        .rows = m,
                        .k = k,
                        .f32 = x.data(),
                        .bf16 = half.data(),
                        .q8 = quants.q.data(),
                        .q8_scale = quants.scale.data(),
                        .q8_sum = quants.sum.data(),
                        .q8_isum = quants.isum.data()},
            .m = m,
            .weight = packed_view(type, n, k, packed.data()),
            .bias = bias.data(),
            .out_stride = z(n) + 3,
            .accumulate = true,
            .panel_end = (n + 15) / 16};
  }

  /// Rows [first, first + count), by their ids when `gather`; panels one at a time when `apart`.
  std::vector<float> run(const KernelTable& t, std::int32_t first, std::int32_t count, bool gather, bool apart) {
    MatmulArgs a = args;
    std::vector<float> out(z(count) * a.out_stride, 0.25F);
    std::vector<std::int32_t> ids(z(count));
    for (std::int32_t i = 0; i < count; ++i) ids[z(i)] = first + i;
    a.m = count;
    a.out = out.data();
    a.operand.row_ids = gather ? ids.data() : nullptr;
    if (!gather) {
      a.operand.f32 += z(first) * z(k);
      a.operand.bf16 += z(first) * z(k);
      a.operand.q8 += z(first) * z(k) / 32 * 64;
      a.operand.q8_scale += z(first) * z(k) / 32;
      a.operand.q8_sum += z(first) * z(k) / 32;
      a.operand.q8_isum += z(first) * z(k) / 32;
    }
    const std::int32_t panels = a.panel_end;
    for (std::int32_t p = 0; p < panels; p += apart ? 1 : panels) {
      a.panel_begin = p;
      a.panel_end = apart ? p + 1 : panels;
      t.matmul(a);
    }
    return out;
  }
};

TEST_P(EveryIsa, MultipliesLikeRefAndAlikeInEveryCompany) {
  const DType types[] = {DType::f32,  DType::f16,  DType::bf16,   DType::f8_e4m3, DType::q4_0, DType::q4_1,
                         DType::q5_0, DType::q5_1, DType::q8_0,   DType::q2_k,    DType::q3_k, DType::q4_k,
                         DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs};
  for (const DType type : types) {
    const std::size_t block = traits(type).block_size;
    for (const std::int32_t k : {45, 320, 1536}) {
      if (block > 1 && z(k) % block != 0) continue;
      Product product(table, type, 53, k, 41);
      std::vector<float> want(41 * product.args.out_stride, 0.25F), size(want);
      MatmulArgs plain = product.args;
      plain.operand = {.rows = 41, .k = k, .f32 = product.rounded.data()};
      plain.out = want.data();
      ref.matmul(plain);
      std::vector<float> row(z(k));
      const std::vector<float> got = product.run(table, 0, 41, false, false);
      for (std::size_t c = 0; c < 53; ++c) {
        ref.unpack_row(plain.weight, static_cast<std::int32_t>(c), row.data());
        for (std::size_t r = 0; r < 41; ++r) {
          double terms = std::abs(double{product.bias[c]}) + 0.25;
          for (std::size_t i = 0; i < z(k); ++i)
            terms += std::abs(double{row[i]} * double{product.rounded[r * z(k) + i]});
          // a weight with an offset is the difference of two terms of up to 32 times its size; 2 K roundings
          const double tolerance = terms * (block > 1 ? 32.0 : 1.0) * (2.0 * k + 8) * 0x1p-24;
          const std::size_t at = r * product.args.out_stride + c;
          ASSERT_NEAR(got[at], want[at], tolerance) << traits(type).name << " K " << k << " at " << r << "," << c;
        }
      }
      for (std::size_t r = 0; r < 41; ++r) ASSERT_EQ(got[r * product.args.out_stride + 53], 0.25F) << "beyond n";
      for (const std::int32_t rows : {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 32, 40}) {
        const std::int32_t first = 41 - rows;
        for (const bool gather : {false, true}) {
          const std::vector<float> part = product.run(table, first, rows, gather, rows % 2 != 0);
          ASSERT_TRUE(same_bits(part.data(), got.data() + z(first) * product.args.out_stride, part.size()))
              << traits(type).name << " K " << k << ", " << rows << (gather ? " gathered" : "") << " rows";
        }
      }
    }
  }
}

TEST_P(EveryIsa, NormsRows) {
  for (const std::int32_t dim : {1, 6, 16, 17, 31, 33, 64, 576, 1001}) {
    const std::size_t stride = z(dim) + 3;
    const std::vector<float> x = noise(4 * stride, 2), weight = noise(z(dim), 3);
    std::vector<float> want(4 * stride, 9.0F), got(want), alone(stride);
    ref.rms_norm(x.data(), stride, weight.data(), 1e-5F, 4, dim, want.data(), stride);
    table.rms_norm(x.data(), stride, weight.data(), 1e-5F, 4, dim, got.data(), stride);
    for (std::size_t i = 0; i < want.size(); ++i) {
      // the mean of squares has at most dim + 2 roundings, its root half as much error
      ASSERT_NEAR(got[i], want[i], std::abs(want[i]) * (static_cast<float>(dim) + 8) * 0x1p-24F) << dim << " " << i;
    }
    table.rms_norm(x.data() + 2 * stride, stride, weight.data(), 1e-5F, 1, dim, alone.data(), stride);
    EXPECT_TRUE(same_bits(alone.data(), got.data() + 2 * stride, z(dim)));
  }
}

TEST_P(EveryIsa, AddsAndActivates) {
  for (const std::size_t n : {1U, 15U, 16U, 100U}) {
    std::vector<float> x = noise(n, 4), y = noise(n, 5, 30.0F);
    std::vector<float> want(x), got(x);
    ref.add(want.data(), y.data(), n);
    table.add(got.data(), y.data(), n);
    EXPECT_EQ(got, want);
    y[0] = -200.0F;
    ref.swiglu(y.data(), x.data(), n, want.data());
    table.swiglu(y.data(), x.data(), n, got.data());
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_NEAR(got[i], want[i], std::abs(want[i]) * 1e-6F + 1e-30F) << y[i];
    }
    std::vector<float> alone(1);
    table.swiglu(y.data() + n - 1, x.data() + n - 1, 1, alone.data());
    EXPECT_TRUE(same_bits(alone.data(), got.data() + n - 1, 1)) << "an element's bits must not depend on its place";
  }
}

TEST_P(EveryIsa, Rotates) {
  for (const std::int32_t dims : {2, 6, 16, 34, 64, 128}) {
    for (const bool interleaved : {false, true}) {
      const std::int32_t head = dims + 5;
      const std::vector<float> cos = noise(z(dims) / 2, 6), sin = noise(z(dims) / 2, 7);
      std::vector<float> want = noise(3 * z(head), 8), got = want;
      ref.rope(want.data(), 3, head, 2, dims, interleaved, cos.data(), sin.data());
      table.rope(got.data(), 3, head, 2, dims, interleaved, cos.data(), sin.data());
      for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 4e-6F) << dims << interleaved << i;
    }
  }
}

TEST_P(EveryIsa, GivesRowsOfPackedWeights) {
  for (const DType type : {DType::f32, DType::bf16, DType::q4_0, DType::q4_1, DType::q8_0, DType::q4_k}) {
    const std::int32_t n = 21, k = 256;
    std::vector<std::byte> bytes(storage_bytes(type, z(n) * z(k)));
    std::mt19937 rng(9);
    for (std::byte& b : bytes) b = std::byte{static_cast<std::uint8_t>(rng() & 0x37U)};
    std::vector<std::byte> packed(*packed_bytes(type, n, k));
    pack_panels({type, {n, k}, bytes.data()}, 0, 2, packed.data());
    const PackedMatrix weight = packed_view(type, n, k, packed.data());
    std::vector<float> want(z(k)), got(z(k));
    for (const std::int32_t row : {0, 7, 20}) {
      ref.unpack_row(weight, row, want.data());
      table.unpack_row(weight, row, got.data());
      EXPECT_EQ(got, want) << traits(type).name;
    }
  }
}

struct AttentionShape {
  std::int32_t heads, kv_heads, head_dim, v_dim;
  bool v_in_k = false;
};

/// KV of one sequence in shuffled blocks, its queries, and the arguments of attention over all of them.
struct Attended {
  AttentionShape shape;
  std::int32_t tokens;
  std::vector<std::byte> memory;
  std::vector<std::int32_t> blocks;
  std::vector<float> q, scratch;
  AttentionArgs args;

  Attended(const KernelTable& t, AttentionShape s, std::int32_t count, DType type) : shape(s), tokens(count) {
    const std::int32_t in_use = (count + 15) / 16;
    const std::size_t groups = kv_scale_groups(s.head_dim) + (s.v_in_k ? 0 : kv_scale_groups(s.v_dim));
    const std::int32_t k_bf16 = type == DType::f8_e4m3 && s.v_in_k ? s.head_dim - s.v_dim : 0;
    const std::size_t block_bytes = storage_bytes(type, 16 * z(s.kv_heads) * z(s.head_dim + (s.v_in_k ? 0 : s.v_dim))) +
                                    (type == DType::i8 ? 2 * 16 * z(s.kv_heads) * groups : 0) + 16 * z(k_bf16);
    memory.resize((z(in_use) + 3) * block_bytes, std::byte{0xFF});  // unwritten slots hold NaN, and must not count
    for (std::int32_t i = 0; i < in_use; ++i) blocks.push_back(in_use + 2 - i);
    const auto k = noise(z(count) * z(s.kv_heads * s.head_dim), 1), v = noise(z(count) * z(s.kv_heads * s.v_dim), 2);
    q = noise(z(count) * z(s.heads * s.head_dim), 3);
    const KvView kv{.base = memory.data(),
                    .block_stride = block_bytes,
                    .dtype = type,
                    .kv_heads = s.kv_heads,
                    .head_dim = s.head_dim,
                    .v_dim = s.v_dim,
                    .v_in_k = s.v_in_k,
                    .k_bf16 = k_bf16};
    for (std::int32_t at = 0; at < count; at += 7) {  // in pieces that straddle blocks
      t.kv_write({.kv = kv,
                  .blocks = blocks.data(),
                  .position = at,
                  .tokens = std::min(7, count - at),
                  .k = k.data() + z(at) * z(s.kv_heads * s.head_dim),
                  .v = v.data() + z(at) * z(s.kv_heads * s.v_dim),
                  .k_stride = z(s.kv_heads * s.head_dim),
                  .v_stride = z(s.kv_heads * s.v_dim)});
    }
    args = {.kv = kv,
            .blocks = blocks.data(),
            .position = 0,
            .tokens = count,
            .heads = s.heads,
            .scale = 0.3F,
            .q = q.data(),
            .q_stride = z(s.heads * s.head_dim),
            .split_begin = 0,
            .split_end = (count + kKvSplitTokens - 1) / kKvSplitTokens,
            .out_stride = z(s.heads * s.v_dim)};
    scratch.resize(t.attention_scratch_floats(args));
    args.scratch = scratch.data();
  }

  /// Queries [first, first + count) on their own, all heads.
  std::vector<float> run(const KernelTable& t, std::int32_t first, std::int32_t count) {
    std::vector<float> out(z(count) * args.out_stride);
    AttentionArgs a = args;
    a.position = first;
    a.tokens = count;
    a.q = q.data() + z(first) * a.q_stride;
    a.out = out.data();
    a.split_end = (first + count + kKvSplitTokens - 1) / kKvSplitTokens;
    for (a.kv_head = 0; a.kv_head < shape.kv_heads; ++a.kv_head) t.attention(a);
    return out;
  }

  /// The same through partial results, splits in descending order.
  std::vector<float> run_split(const KernelTable& t, std::int32_t first, std::int32_t count) {
    std::vector<float> out(z(count) * args.out_stride);
    AttentionArgs a = args;
    a.position = first;
    a.tokens = count;
    a.q = q.data() + z(first) * a.q_stride;
    a.out = out.data();
    const std::int32_t splits = (first + count + kKvSplitTokens - 1) / kKvSplitTokens;
    std::vector<float> partial(z(count) * z(shape.heads / shape.kv_heads) * z(splits) * z(2 + shape.v_dim));
    a.partial = partial.data();
    for (a.kv_head = 0; a.kv_head < shape.kv_heads; ++a.kv_head) {
      for (std::int32_t s = splits - 1; s >= 0; --s) {
        a.split_begin = s;
        a.split_end = s + 1;
        t.attention(a);
      }
      t.attention_merge(a);
    }
    return out;
  }
};

TEST_P(EveryIsa, AttendsLikeRefAndAlikeInEveryCompany) {
  const AttentionShape shapes[] = {{9, 3, 64, 64},  {4, 2, 8, 6},         {7, 1, 128, 128},    {2, 2, 40, 80},
                                   {12, 2, 96, 33}, {5, 1, 40, 27, true}, {8, 1, 72, 64, true}};
  for (const AttentionShape& shape : shapes) {
    for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::i8, DType::f8_e4m3}) {
      const std::int32_t tokens = 1050, from = 500;
      Attended want(ref, shape, tokens, type), got(table, shape, tokens, type);
      const std::vector<float> whole = got.run(table, from, 40);
      for (const std::int32_t first : {0, 507, 512, 1047}) {
        const std::int32_t count = std::min(tokens - first, 9);
        const std::vector<float> expected = want.run(ref, first, count);
        const std::vector<float> part = got.run(table, first, count);
        const std::vector<float> split = got.run_split(table, first, count);
        for (std::size_t i = 0; i < expected.size(); ++i) {
          // weights and values rounded like KV where the ISA computes in bf16 (2^-8), else float sums
          ASSERT_NEAR(part[i], expected[i], type == DType::bf16 ? 0.02F : 2e-5F) << first << " " << i;
        }
        if (first >= from && first < from + 40) {
          const float* in_whole = whole.data() + z(first - from) * got.args.out_stride;
          EXPECT_TRUE(same_bits(part.data(), in_whole, part.size())) << first;
        }
        EXPECT_TRUE(same_bits(part.data(), split.data(), part.size())) << first;
        for (std::int32_t t = 0; t < count; t += 4) {
          const std::vector<float> one = got.run(table, first + t, 1);
          EXPECT_TRUE(same_bits(one.data(), part.data() + z(t) * got.args.out_stride, one.size())) << first << " " << t;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, EveryIsa, testing::ValuesIn(available_isas()),
                         [](const auto& one) { return std::string(to_string(one.param)); });

}  // namespace
}  // namespace hp::kernels

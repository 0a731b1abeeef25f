// Attention alone, with KV of bf16 and e4m3: what lies in the cache, prefill, decode and decode with rotation against
// each other bit by bit, and against double arithmetic on the host over the cached values; odd lengths.
#include "gpu_test_support.cuh"

using namespace hp::cuda;

namespace {

std::size_t size(int a, int b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

template <typename T>
T* upload(const std::vector<T>& values) {
  T* out = device<T>(values.size());
  cudaMemcpy(out, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  return out;
}

/// Sequences of the given lengths whose tokens lie one after the other; their blocks are scattered.
struct Pages {
  std::vector<int> lengths, first_row, position, slot, table;
  int rows = 0, stride = 0, blocks = 0;
  explicit Pages(std::vector<int> of) : lengths(std::move(of)) {
    for (int length : lengths) stride = std::max(stride, (length + kBlockTokens - 1) / kBlockTokens);
    blocks = stride * static_cast<int>(lengths.size());
    const int used = blocks;
    while (blocks % 7 == 0) ++blocks;  // so that 7 i never meets itself
    for (int i = 0; i < used; ++i) table.push_back((i * 7 + 3) % blocks);
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      first_row.push_back(rows);
      for (int p = 0; p < lengths[s]; ++p, ++rows) {
        position.push_back(p);
        slot.push_back(block(s, p) * kBlockTokens + p % kBlockTokens);
      }
    }
  }
  [[nodiscard]] int block(std::size_t sequence, int p) const {
    return table[sequence * static_cast<std::size_t>(stride) + static_cast<std::size_t>(p / kBlockTokens)];
  }
  [[nodiscard]] AttentionBatch prefill(int tile_tokens) const {
    std::vector<int4> tiles;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      for (int p = 0; p < lengths[s]; p += tile_tokens)
        tiles.push_back({first_row[s] + p, static_cast<int>(s), p, std::min(tile_tokens, lengths[s] - p)});
    }
    AttentionBatch batch;
    batch.tables = upload(table), batch.table_stride = stride;
    batch.tiles = static_cast<int>(tiles.size()), batch.tile = upload(tiles);
    return batch;
  }
  /// Every sequence's last token, `copies` times.
  [[nodiscard]] AttentionBatch decode(int keys, int copies) const {
    std::vector<int> row, sequence, length, first;
    std::vector<int2> work;
    for (int c = 0; c < copies; ++c) {
      for (std::size_t s = 0; s < lengths.size(); ++s) {
        first.push_back(static_cast<int>(work.size()));
        for (int u = 0; u * keys < lengths[s]; ++u) work.push_back({static_cast<int>(row.size()), u});
        row.push_back(first_row[s] + lengths[s] - 1), sequence.push_back(static_cast<int>(s));
        length.push_back(lengths[s]);
      }
    }
    AttentionBatch batch;
    batch.tables = upload(table), batch.table_stride = stride;
    batch.decodes = static_cast<int>(row.size()), batch.works = static_cast<int>(work.size());
    batch.decode_row = upload(row), batch.decode_sequence = upload(sequence), batch.decode_length = upload(length),
    batch.decode_first = upload(first), batch.work = upload(work);
    return batch;
  }
};

std::vector<Bf16> random_values(std::size_t count, float deviation, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<Bf16> out(count);
  for (auto& v : out) v = __float2bfloat16_rn(normal(random) * deviation);
  return out;
}

/// [positions, pairs] of cos and sin.
std::pair<std::vector<float>, std::vector<float>> turns(int positions, int pairs) {
  std::pair<std::vector<float>, std::vector<float>> out;
  for (int p = 0; p < positions; ++p) {
    for (int i = 0; i < pairs; ++i) {
      const double angle = p * std::pow(10000.0, -static_cast<double>(i) / pairs);
      out.first.push_back(static_cast<float>(std::cos(angle))),
          out.second.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return out;
}

/// A cached element as the header describes the layout, whatever its type.
float cached(const std::uint8_t* pool, bool fp8, std::size_t start, int token, int dim) {
  if (fp8) {
    Fp8 v;
    constexpr int kPlace[] = {0, 2, 1, 3};
    v.__x = pool[start + static_cast<std::size_t>((dim / 64 * 16 + token) * 64 + dim % 64 / 4 * 4 + kPlace[dim % 4])];
    return static_cast<float>(v);
  }
  const int at = (dim / 64 * 16 + token) * 64 + ((dim % 64 / 8) ^ (token % 8)) * 8 + dim % 8;
  Bf16 v;
  std::memcpy(&v, pool + 2 * (start + static_cast<std::size_t>(at)), 2);
  return value(v);
}

/// softmax(scale · q · keys) · values in double; key and value of j by function.
template <typename Key, typename Value>
std::vector<double> attend(int keys, int key_dims, int value_dims, double scale, const float* q, Key&& key,
                           Value&& values) {
  std::vector<double> p(keys), out(value_dims);
  double peak = -1e300, sum = 0;
  for (int j = 0; j < keys; ++j) {
    double dot = 0;
    for (int c = 0; c < key_dims; ++c) dot += double(q[c]) * key(j, c);
    peak = std::max(peak, p[j] = dot * scale);
  }
  for (auto& e : p) sum += e = std::exp(e - peak);
  for (int j = 0; j < keys; ++j)
    for (int c = 0; c < value_dims; ++c) out[c] += p[j] / sum * values(j, c);
  return out;
}

bool same_row(const std::vector<Bf16>& a, const std::vector<Bf16>& b, int row, int columns) {
  return std::memcmp(a.data() + size(row, columns), b.data() + size(row, columns), size(columns, 2)) == 0;
}

void test_dense(int head_dim, int heads, int kv_heads, bool fp8, bool interleaved, const std::vector<int>& lengths) {
  const char* type = fp8 ? "e4m3" : "bf16";
  const AttentionShape shape{heads, kv_heads, head_dim};
  const Pages pages(lengths);
  const int t = pages.rows, row = shape.row(), columns = heads * head_dim, pairs = head_dim / 2;
  auto raw = random_values(size(t, row), 1.0F, 41);
  for (std::size_t i = 0; i < raw.size(); i += 997) raw[i] = __float2bfloat16_rn(900.0F);  // beyond what e4m3 holds
  // Queries small, so that no score takes all the weight.
  for (int i = 0; i < t; ++i)
    for (int c = 0; c < columns; ++c) raw[size(i, row) + c] = __float2bfloat16_rn(value(raw[size(i, row) + c]) * 0.01F);
  const auto [cos, sin] = turns(1024, pairs);
  const RopeArgs rope{upload(cos), upload(sin), nullptr, nullptr, 1e-6F, head_dim, interleaved};
  const std::size_t pool_bytes = shape.block_bytes(fp8) * static_cast<std::size_t>(pages.blocks);
  const auto new_kv = [&] { return KvLayer{device<std::uint8_t>(pool_bytes), device<std::uint8_t>(pool_bytes), fp8}; };
  const KvLayer kv = new_kv();
  Bf16* qkv = upload(raw);
  int *positions = upload(pages.position), *slots = upload(pages.slot);
  rope_and_store(qkv, shape, rope, positions, slots, t, kv, nullptr);
  const auto rotated_rows = host(qkv, raw.size());
  const auto k_pool = host(static_cast<std::uint8_t*>(kv.k), pool_bytes),
             v_pool = host(static_cast<std::uint8_t*>(kv.v), pool_bytes);
  const auto start = [&](std::size_t s, int p, int head) {
    return size(pages.block(s, p) * kv_heads + head, kBlockTokens * head_dim);
  };
  int wrong = 0;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    for (int p = 0; p < lengths[s]; ++p) {
      for (int h = 0; h < kv_heads; ++h) {
        const Bf16* k = raw.data() + size(pages.first_row[s] + p, row) + (heads + h) * head_dim;
        const Bf16* v = k + kv_heads * head_dim;
        for (int i = 0; i < pairs; ++i) {
          const int a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + pairs;
          const float c = cos[size(p, pairs) + i], n = sin[size(p, pairs) + i], x = value(k[a]), y = value(k[b]);
          const float ra = std::fmaf(x, c, -(y * n)), rb = std::fmaf(x, n, y * c);
          for (auto [dim, wide] : {std::pair{a, ra}, {b, rb}})
            wrong += cached(k_pool.data(), fp8, start(s, p, h), p % 16, dim) !=
                     (fp8 ? as_e4m3(wide) : value(__float2bfloat16_rn(wide)));
        }
        for (int c = 0; c < head_dim; ++c)
          wrong += cached(v_pool.data(), fp8, start(s, p, h), p % 16, c) != (fp8 ? as_e4m3(value(v[c])) : value(v[c]));
      }
    }
  }
  expect(wrong == 0, "attention of %d, KV of %s: %d cached elements are others", head_dim, type, wrong);

  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  auto* scratch = device<float>(attention_scratch(shape, pages.decode(kUnitKeys, 1).works));
  const auto run = [&](Bf16* from, const KvLayer& cache, const AttentionBatch& batch, const RopeArgs* rotation) {
    auto* out = device<Bf16>(size(t, columns));
    attention(from, shape, cache, batch, scale, rotation, scratch, out, nullptr);
    auto result = host(out, size(t, columns));
    expect(cudaGetLastError() == cudaSuccess, "attention of %d, KV of %s: CUDA error", head_dim, type);
    cudaFree(out);
    return result;
  };
  const auto prefilled = run(qkv, kv, pages.prefill(prefill_tile_tokens(shape)), nullptr);
  const auto decoded = run(qkv, kv, pages.decode(kUnitKeys, 1), nullptr);
  // The own token stored by attention itself.
  const KvLayer own = new_kv();
  auto missing = pages.slot;
  for (std::size_t s = 0; s < lengths.size(); ++s) missing[pages.first_row[s] + lengths[s] - 1] = -1;
  Bf16* raw_qkv = upload(raw);
  rope_and_store(upload(raw), shape, rope, positions, upload(missing), t, own, nullptr);
  const auto rotating = run(raw_qkv, own, pages.decode(kUnitKeys, 1), &rope);
  expect(host(static_cast<std::uint8_t*>(own.k), pool_bytes) == k_pool &&
             host(static_cast<std::uint8_t*>(own.v), pool_bytes) == v_pool,
         "attention of %d, KV of %s: a decode stored its token otherwise than a prefill", head_dim, type);
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    const int last = lengths[s] - 1, at = pages.first_row[s] + last;
    expect(same_row(prefilled, decoded, at, columns), "attention of %d, KV of %s, %d keys: decode unlike prefill",
           head_dim, type, last + 1);
    expect(same_row(prefilled, rotating, at, columns), "attention of %d, KV of %s, %d keys: rotating decode unlike",
           head_dim, type, last + 1);
    std::vector<float> got;
    std::vector<double> wanted;
    for (int p : {last, last / 2}) {
      const int from = pages.first_row[s] + p;
      for (int h = 0; h < heads; ++h) {
        const int kv_head = h / shape.group();
        std::vector<float> q(head_dim);
        for (int c = 0; c < head_dim; ++c) q[c] = value(rotated_rows[size(from, row) + h * head_dim + c]);
        const auto out = attend(
            p + 1, head_dim, head_dim, scale, q.data(),
            [&](int j, int c) { return cached(k_pool.data(), fp8, start(s, j, kv_head), j % 16, c); },
            [&](int j, int c) { return cached(v_pool.data(), fp8, start(s, j, kv_head), j % 16, c); });
        wanted.insert(wanted.end(), out.begin(), out.end());
        for (int c = 0; c < head_dim; ++c) got.push_back(value(prefilled[size(from, columns) + h * head_dim + c]));
      }
    }
    const double error = relative_error(got, wanted);
    expect(error < 6e-3, "attention of %d, KV of %s, %d keys: error %.2e", head_dim, type, last + 1, error);
  }
}

void test_latent(int heads, bool fp8, const std::vector<int>& lengths) {
  const char* type = fp8 ? "e4m3" : "bf16";
  const LatentShape shape{heads, 32, 64};
  const Pages pages(lengths);
  const int t = pages.rows, columns = heads * kLatentDims;
  const auto raw_queries = random_values(size(t, heads * shape.query()), 0.1F, 43);
  const auto latents = random_values(size(t, kLatentKey), 1.0F, 44);
  const auto absorbed = random_values(size(t, heads * kLatentKey), 0.1F, 45);  // its last 64 of a head are replaced
  std::vector<float> norm(kLatentDims);
  for (int i = 0; i < kLatentDims; ++i) norm[i] = 0.5F + 0.002F * i;
  const auto [cos, sin] = turns(2048, kLatentRope / 2);
  const LatentPrepare prepare{upload(norm),      1e-6F, upload(cos), upload(sin), upload(pages.position),
                              upload(pages.slot)};
  const std::size_t block = LatentShape::block_bytes(fp8), pool_bytes = block * static_cast<std::size_t>(pages.blocks);
  const KvLayer kv{device<std::uint8_t>(pool_bytes), nullptr, fp8};
  Bf16* queries = upload(absorbed);
  latent_prepare({upload(raw_queries), upload(latents), heads * shape.query(), kLatentKey}, shape, prepare, t, kv,
                 queries, nullptr);
  const auto q = host(queries, absorbed.size());
  const auto pool = host(static_cast<std::uint8_t*>(kv.k), pool_bytes);
  const auto key = [&](std::size_t s, int j, int c) {
    const std::uint8_t* at = pool.data() + static_cast<std::size_t>(pages.block(s, j)) * block;
    const std::size_t rope_at = fp8 ? kBlockTokens * kLatentDims : 2 * kBlockTokens * kLatentDims;
    const bool rope = c >= kLatentDims;
    return cached(at + (rope ? rope_at : 0), fp8 && !rope, 0, j % 16, rope ? c - kLatentDims : c);
  };
  std::vector<std::vector<float>> keys(t);
  int wrong = 0;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    for (int p = 0; p < lengths[s]; ++p) {
      const int at = pages.first_row[s] + p;
      const Bf16* in = latents.data() + size(at, kLatentKey);
      std::vector<float> wide(kLatentDims);
      for (int c = 0; c < kLatentDims; ++c) wide[c] = value(in[c]);
      wide = normed(wide.data(), kLatentDims, norm.data(), 1e-6F);
      for (int c = 0; c < kLatentKey; ++c) keys[at].push_back(key(s, p, c));
      // A norm's sum in another order may round to the neighbour.
      for (int c = 0; c < kLatentDims; ++c)
        wrong += std::abs(keys[at][c] - wide[c]) >
                 (fp8 ? std::max(std::abs(wide[c]) / 15.9F, 0x1p-9F / 1.9F) : std::abs(wide[c]) / 250.0F);
      for (int i = 0; i < kLatentRope / 2; ++i) {
        const float c = cos[size(p, kLatentRope / 2) + i], n = sin[size(p, kLatentRope / 2) + i],
                    x = value(in[kLatentDims + 2 * i]), y = value(in[kLatentDims + 2 * i + 1]);
        wrong += keys[at][kLatentDims + 2 * i] != value(__float2bfloat16_rn(std::fmaf(x, c, -(y * n))));
        wrong += keys[at][kLatentDims + 2 * i + 1] != value(__float2bfloat16_rn(std::fmaf(x, n, y * c)));
      }
    }
  }
  expect(wrong == 0, "latent attention, KV of %s: %d cached elements are others", type, wrong);

  const float scale = 0.1F;
  const int copies = 1 + 96 / static_cast<int>(lengths.size());
  const auto few = pages.decode(shape.range(), 1);
  auto many = pages.decode(shape.range(), copies);
  auto* scratch = device<float>(latent_scratch(shape, many.works));
  const auto run = [&](const AttentionBatch& batch) {
    auto* out = device<Bf16>(size(t, columns));
    latent_attention(queries, shape, kv, batch, scale, scratch, out, nullptr);
    auto result = host(out, size(t, columns));
    expect(cudaGetLastError() == cudaSuccess, "latent attention, KV of %s: CUDA error", type);
    cudaFree(out);
    return result;
  };
  const auto prefilled = run(pages.prefill(kLatentTile)), decoded = run(few), whole = run(many);
  expect(latent_decodes_whole(many), "decodes in turn are not tested");
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    const int last = lengths[s] - 1, at = pages.first_row[s] + last;
    expect(same_row(prefilled, decoded, at, columns), "latent attention of %d heads, KV of %s, %d keys: decode unlike",
           heads, type, last + 1);
    expect(same_row(prefilled, whole, at, columns), "latent attention of %d heads, KV of %s, %d keys: in turn unlike",
           heads, type, last + 1);
    std::vector<float> got;
    std::vector<double> wanted;
    for (int p : {last, last / 2}) {
      const int from = pages.first_row[s] + p;
      for (int h : {0, heads / 2, heads - 1}) {
        std::vector<float> row(kLatentKey);
        for (int c = 0; c < kLatentKey; ++c) row[c] = value(q[size(from, heads * kLatentKey) + h * kLatentKey + c]);
        const auto cache = [&](int j, int c) { return keys[pages.first_row[s] + j][c]; };
        const auto out = attend(p + 1, kLatentKey, kLatentDims, scale, row.data(), cache, cache);
        wanted.insert(wanted.end(), out.begin(), out.end());
        for (int c = 0; c < kLatentDims; ++c)
          got.push_back(value(prefilled[size(from, columns) + h * kLatentDims + c]));
      }
    }
    const double error = relative_error(got, wanted);
    expect(error < 6e-3, "latent attention of %d heads, KV of %s, %d keys: error %.2e", heads, type, last + 1, error);
  }
}

}  // namespace

void test_attention_few() {
  for (bool fp8 : {false, true}) {
    test_dense(128, 4, 1, fp8, false, {1, 37, 150});
    test_latent(16, fp8, {1, 37, 150});
  }
}

void test_attention() {
  const std::vector<int> lengths = {1, 2, 5, 15, 16, 17, 31, 63, 64, 65, 127, 128, 129, 255, 257, 300, 515, 641};
  for (bool fp8 : {false, true}) {
    test_dense(128, 4, 1, fp8, false, lengths);
    test_dense(128, 8, 1, fp8, true, lengths);
    test_dense(64, 6, 2, fp8, false, lengths);
    test_latent(16, fp8, lengths);
    test_latent(48, fp8, lengths);
  }
}

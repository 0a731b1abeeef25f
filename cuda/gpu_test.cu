// Tests of the plug-in on a GPU, without a framework so that a bare GPU machine builds it: products against a plain
// kernel, every tile shape bit for bit; a small model against a float forward pass on the host; batch invariance of the
// model.
#include "gpu_test_support.cuh"

using namespace hp::cuda;

void test_ints();
void test_ints_few();
void test_latent_models();
void test_latent_few();
void test_latent_kv();
void test_attention();
void test_attention_few();
void test_latent_tiny();
void test_sampling();

namespace {

void test_matmul(bool fp8, int n, int k, int t) {
  Matrix w;
  w.fp8 = fp8, w.n = n, w.k = k;
  w.data = device<std::uint8_t>(w.bytes());
  if (fp8) w.scale = device<float>(w.scales());
  auto* source = device<Bf16>(static_cast<std::size_t>(n) * k);
  random_bf16(source, static_cast<std::size_t>(n) * k, 0.1F, 7, nullptr);
  place_weight(source, n, w, 0, RowPlace::plain, nullptr);
  Activations x;
  x.fp8 = fp8, x.rows = (t + 255) / 256 * 256, x.k = k;
  auto* rows = device<Bf16>(static_cast<std::size_t>(x.rows) * k);
  random_bf16(rows, static_cast<std::size_t>(x.rows) * k, 1.0F, 9, nullptr);
  x.data = fp8 ? static_cast<void*>(device<Fp8>(static_cast<std::size_t>(x.rows) * k)) : rows;
  if (fp8) {
    x.row_scale = device<float>(x.rows);
    quantize_rows(rows, x.rows, x, nullptr);
  }
  expect(make_maps(w) && make_maps(x), "maps of [%d, %d]", n, k);
  // Reference in double on the host, on the values that the product sees.
  std::vector<float> wf(static_cast<std::size_t>(n) * k), xf(static_cast<std::size_t>(t) * k);
  if (fp8) {
    const auto q = host(static_cast<Fp8*>(w.data), wf.size());
    const auto s = host(w.scale, w.scales());
    for (int r = 0; r < n; ++r)
      for (int c = 0; c < k; ++c)
        wf[static_cast<std::size_t>(r) * k + c] =
            float(q[static_cast<std::size_t>(r) * k + c]) * s[(r / 64 * 2 + r / 8 % 2) * w.k_blocks() + c / 128];
    const auto xq = host(static_cast<Fp8*>(x.data), xf.size());
    const auto xs = host(x.row_scale, t);
    for (std::size_t i = 0; i < xf.size(); ++i) xf[i] = float(xq[i]) * xs[i / k];
  } else {
    const auto q = host(static_cast<Bf16*>(w.data), wf.size());
    for (std::size_t i = 0; i < wf.size(); ++i) wf[i] = __bfloat162float(q[i]);
    const auto xq = host(rows, xf.size());
    for (std::size_t i = 0; i < xf.size(); ++i) xf[i] = __bfloat162float(xq[i]);
  }
  std::vector<double> reference(static_cast<std::size_t>(t) * n);
  for (int i = 0; i < t; ++i)
    for (int r = 0; r < n; ++r) {
      double sum = 0;
      for (int c = 0; c < k; ++c)
        sum += double(xf[static_cast<std::size_t>(i) * k + c]) * wf[static_cast<std::size_t>(r) * k + c];
      reference[static_cast<std::size_t>(i) * n + r] = sum;
    }
  auto* out = device<float>(static_cast<std::size_t>(t) * n);
  std::vector<float> first;
  // Tiles with a long K also in clusters.
  for (int run = 0; run < 2 * kTileChoices; ++run) {
    const int tile = run % kTileChoices, spread = run < kTileChoices ? 0 : 1 << 20;
    cudaMemset(out, 0xFF, static_cast<std::size_t>(t) * n * 4);
    matmul(w, x, t, {Epilogue::f32, out, n, nullptr, {spread}}, nullptr, tile);
    const auto result = host(out, static_cast<std::size_t>(t) * n);
    const double error = relative_error(result, reference);
    expect(error < (fp8 ? 2e-3 : 1e-5), "matmul %s n=%d k=%d t=%d tile %d: error %.2e", fp8 ? "fp8" : "bf16", n, k, t,
           tile, error);
    if (tile == 0) first = result;
    expect(std::memcmp(first.data(), result.data(), result.size() * 4) == 0,
           "matmul %s n=%d k=%d t=%d: tile %d (run %d) has other bits than tile 0", fp8 ? "fp8" : "bf16", n, k, t, tile,
           run);
  }
  if (!fp8) {  // other bits, as near
    matmul(w, x, t, {Epilogue::f32, out, n, nullptr}, nullptr, kChainTile);
    const double error = relative_error(host(out, static_cast<std::size_t>(t) * n), reference);
    expect(error < 1e-5, "matmul bf16 n=%d k=%d t=%d in one chain: error %.2e", n, k, t, error);
  }
  for (void* p : {static_cast<void*>(out), static_cast<void*>(rows), static_cast<void*>(source), w.data}) cudaFree(p);
}

/// A weight of random values on the device, quantized when asked.
Matrix random_matrix(bool fp8, int n, int k, unsigned seed) {
  Matrix w;
  w.fp8 = fp8, w.n = n, w.k = k;
  w.data = device<std::uint8_t>(w.bytes());
  if (fp8) w.scale = device<float>(w.scales());
  auto* source = device<Bf16>(static_cast<std::size_t>(n) * k);
  random_bf16(source, static_cast<std::size_t>(n) * k, 0.1F, seed, nullptr);
  place_weight(source, n, w, 0, RowPlace::plain, nullptr);
  expect(make_maps(w), "maps of [%d, %d]", n, k);
  cudaDeviceSynchronize();
  cudaFree(source);
  return w;
}

Activations new_rows(bool fp8, int rows, int k) {
  Activations x;
  x.fp8 = fp8, x.rows = rows, x.k = k;
  x.data = device<std::uint8_t>(static_cast<std::size_t>(rows) * k * 2);
  x.row_scale = device<float>(rows);
  expect(make_maps(x), "maps of [%d, %d]", rows, k);
  return x;
}

/// Products that normalize or quantize their own rows against a kernel before them: the same bits.
void test_own_rows(bool fp8, bool norm, int n, int k, int t) {
  if (!makes_rows(fp8, k, t, norm)) return expect(false, "own rows of k=%d t=%d are refused", k, t);
  Matrix w = random_matrix(fp8, n, k, 21);
  Activations x = new_rows(fp8, 128, k);
  auto* rows16 = device<Bf16>(static_cast<std::size_t>(t + 3) * k);
  auto* rows32 = device<float>(static_cast<std::size_t>(t + 3) * k);
  auto* weight = device<float>(k);
  random_bf16(rows16, static_cast<std::size_t>(t + 3) * k, 2.0F, 22, nullptr);
  const auto values = host(rows16, static_cast<std::size_t>(t + 3) * k);
  std::vector<float> wide(values.size()), gain(k);
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = value(values[i]) * 1.1F;
  for (int i = 0; i < k; ++i) gain[i] = 1.0F + 0.001F * (i % 97);
  cudaMemcpy(rows32, wide.data(), wide.size() * 4, cudaMemcpyHostToDevice);
  cudaMemcpy(weight, gain.data(), gain.size() * 4, cudaMemcpyHostToDevice);
  std::vector<int> index(t);
  for (int i = 0; i < t; ++i) index[i] = t + 2 - i;
  auto* places = device<int>(t);
  cudaMemcpy(places, index.data(), index.size() * 4, cudaMemcpyHostToDevice);
  auto* out = device<float>(static_cast<std::size_t>(t) * n);
  for (bool indexed : {false, true}) {
    if (indexed && !norm) continue;
    const int* from = indexed ? places : nullptr;
    cudaMemset(out, 0xFF, static_cast<std::size_t>(t) * n * 4);
    if (norm)
      rms_norm(rows32, from, weight, 1e-5F, t, x, nullptr);
    else
      quantize_rows(rows16, t, x, nullptr);
    matmul(w, x, t, {Epilogue::f32, out, n, nullptr}, nullptr);
    const auto wanted = host(out, static_cast<std::size_t>(t) * n);
    const RowSource source{norm ? static_cast<const void*>(rows32) : rows16, norm ? weight : nullptr, 1e-5F, t, from};
    for (const MatmulWays ways : {MatmulWays{}, MatmulWays{1 << 20}}) {
      cudaMemset(out, 0xFF, static_cast<std::size_t>(t) * n * 4);
      matmul(w, source, {Epilogue::f32, out, n, nullptr, ways}, nullptr);
      const auto got = host(out, wanted.size());
      expect(cudaGetLastError() == cudaSuccess && same(wanted, got) && std::isfinite(wanted[0]),
             "own rows: %s %s n=%d k=%d t=%d indexed=%d spread %d: other bits (%g for %g)", fp8 ? "fp8" : "bf16",
             norm ? "norm" : "quantize", n, k, t, indexed, ways.spread, got[0], wanted[0]);
    }
  }
  for (void* p : {static_cast<void*>(out), static_cast<void*>(rows16), static_cast<void*>(rows32), w.data, x.data})
    cudaFree(p);
}

/// Weights that are fp8 already land where the quantizer would put them, with their scales.
void test_ready_weights(int rows, int k, RowPlace place) {
  const bool plain = place == RowPlace::plain;
  Matrix w, direct;
  for (Matrix* m : {&w, &direct}) {
    m->fp8 = true, m->n = plain ? rows : 2 * rows, m->k = k;
    m->data = device<std::uint8_t>(m->bytes()), m->scale = device<float>(m->scales());
  }
  auto* source = device<Bf16>(static_cast<std::size_t>(rows) * k);
  random_bf16(source, static_cast<std::size_t>(rows) * k, 0.1F, 31, nullptr);
  place_weight(source, rows, w, 0, place, nullptr);
  // The same rows as a checkpoint holds them: plain, a scale per 128 × 128.
  Matrix stored;
  stored.fp8 = true, stored.n = rows, stored.k = k;
  stored.data = device<std::uint8_t>(stored.bytes()), stored.scale = device<float>(stored.scales());
  place_weight(source, rows, stored, 0, RowPlace::plain, nullptr);
  const auto wide = host(stored.scale, stored.scales());
  std::vector<float> scales;
  for (int block = 0; block < (rows + 127) / 128; ++block)
    for (int c = 0; c < stored.k_blocks(); ++c) scales.push_back(wide[(4 * block) * stored.k_blocks() + c]);
  auto* packed = device<float>(scales.size());
  cudaMemcpy(packed, scales.data(), scales.size() * 4, cudaMemcpyHostToDevice);
  place_fp8_weight(static_cast<const Fp8*>(stored.data), packed, rows, direct, 0, place, nullptr);
  const auto a = host(static_cast<std::uint8_t*>(w.data), w.bytes()),
             b = host(static_cast<std::uint8_t*>(direct.data), w.bytes());
  expect(a == b && same(host(w.scale, w.scales()), host(direct.scale, w.scales())),
         "fp8 rows [%d, %d] placed as %d: other bytes than quantized there", rows, k, static_cast<int>(place));
  for (void* p : {w.data, direct.data, stored.data, static_cast<void*>(source)}) cudaFree(p);
}

// The model on the host, in float over bf16 weights.
// --------------------------------------------------------------------
struct HostModel {
  ModelShape shape;
  std::vector<float> cos, sin;
  std::vector<std::vector<Bf16>> matrices;  // per layer q k v o gate up down; then embedding, head
  std::vector<std::vector<float>> norms;    // per layer attn, ffn, (q_norm, k_norm), (bias); then output
  std::vector<Codes> codes;                 // of the layers' matrices, for weights of whole numbers
};

HostModel make_model(ModelShape shape, unsigned seed, WeightType weights, int group) {
  HostModel m{shape, {}, {}, {}, {}, {}};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int p = 0; p < shape.context; ++p)
    for (int i = 0; i < shape.rope_dims / 2; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / shape.rope_dims);
      m.cos.push_back(static_cast<float>(std::cos(angle))), m.sin.push_back(static_cast<float>(std::sin(angle)));
    }
  const auto matrix = [&](int n, int k, float deviation) {
    std::vector<Bf16> out(static_cast<std::size_t>(n) * k);
    for (auto& v : out) v = __float2bfloat16_rn(normal(random) * deviation);
    return out;
  };
  const auto norm = [&](int n) {
    std::vector<float> out(n);
    for (auto& v : out) v = 1.0F + 0.1F * normal(random);
    return out;
  };
  const int d = shape.head_dim, h = shape.hidden;
  for (int l = 0; l < shape.layers; ++l) {
    const float s = 1.0F / std::sqrt(static_cast<float>(h));
    m.matrices.push_back(matrix(shape.heads * d, h, s)), m.matrices.push_back(matrix(shape.kv_heads * d, h, s));
    m.matrices.push_back(matrix(shape.kv_heads * d, h, s)), m.matrices.push_back(matrix(h, shape.heads * d, s));
    m.matrices.push_back(matrix(shape.ffn, h, s)), m.matrices.push_back(matrix(shape.ffn, h, s));
    m.matrices.push_back(matrix(h, shape.ffn, s));
    m.norms.push_back(norm(h)), m.norms.push_back(norm(h)), m.norms.push_back(norm(d)), m.norms.push_back(norm(d));
    m.norms.push_back(norm((shape.heads + 2 * shape.kv_heads) * d));
  }
  const int columns[7] = {h, h, h, shape.heads * d, h, h, shape.ffn};
  for (std::size_t i = 0; i < m.matrices.size(); ++i)
    m.codes.push_back(to_grid(m.matrices[i], columns[i % 7], weights, group));
  m.matrices.push_back(matrix(shape.vocab, h, 1.0F)),
      m.matrices.push_back(matrix(shape.vocab, h, 2.0F / std::sqrt(static_cast<float>(h))));
  m.norms.push_back(norm(h));
  return m;
}

/// Logits of every position; `kv8`: attention sees keys and values as e4m3.
std::vector<std::vector<float>> forward(const HostModel& m, const std::vector<int>& tokens, bool kv8) {
  const ModelShape& s = m.shape;
  const int d = s.head_dim, h = s.hidden, t = static_cast<int>(tokens.size());
  std::vector<std::vector<float>> x(t, std::vector<float>(h)), out;
  const auto& embedding = m.matrices[m.matrices.size() - 2];
  for (int i = 0; i < t; ++i)
    for (int c = 0; c < h; ++c) x[i][c] = value(embedding[static_cast<std::size_t>(tokens[i]) * h + c]);
  for (int l = 0; l < s.layers; ++l) {
    const auto* w = &m.matrices[static_cast<std::size_t>(l) * 7];
    const auto* n = &m.norms[static_cast<std::size_t>(l) * 5];
    std::vector<std::vector<float>> q(t), k(t), v(t);
    for (int i = 0; i < t; ++i) {
      const auto in = normed(x[i].data(), h, n[0].data(), s.eps);
      q[i] = product(w[0], s.heads * d, h, in), k[i] = product(w[1], s.kv_heads * d, h, in),
      v[i] = product(w[2], s.kv_heads * d, h, in);
      if (s.qkv_bias) {
        for (int c = 0; c < s.heads * d; ++c) q[i][c] += n[4][c];
        for (int c = 0; c < s.kv_heads * d; ++c)
          k[i][c] += n[4][s.heads * d + c], v[i][c] += n[4][(s.heads + s.kv_heads) * d + c];
      }
      const auto turn = [&](std::vector<float>& row, int heads, const std::vector<float>& weight) {
        for (int hd = 0; hd < heads; ++hd) {
          float* p = row.data() + hd * d;
          if (s.qk_norm) {
            const auto r = normed(p, d, weight.data(), s.eps);
            std::copy(r.begin(), r.end(), p);
          }
          const int half = s.rope_dims / 2;
          for (int j = 0; j < half; ++j) {
            const int a = s.rope_interleaved ? 2 * j : j, b = s.rope_interleaved ? 2 * j + 1 : j + half;
            const float c = m.cos[static_cast<std::size_t>(i) * half + j],
                        sn = m.sin[static_cast<std::size_t>(i) * half + j], p0 = p[a], p1 = p[b];
            p[a] = p0 * c - p1 * sn, p[b] = p0 * sn + p1 * c;
          }
        }
      };
      turn(q[i], s.heads, n[2]), turn(k[i], s.kv_heads, n[3]);
      if (!kv8) continue;
      for (auto* cached : {&k[i], &v[i]})
        for (float& e : *cached) e = as_e4m3(e);
    }
    for (int i = 0; i < t; ++i) {
      std::vector<float> attended(s.heads * d);
      for (int hd = 0; hd < s.heads; ++hd) {
        const int kh = hd / (s.heads / s.kv_heads);
        std::vector<double> p(i + 1);
        double peak = -1e30, sum = 0;
        for (int j = 0; j <= i; ++j) {
          double dot = 0;
          for (int c = 0; c < d; ++c) dot += double(q[i][hd * d + c]) * k[j][kh * d + c];
          p[j] = dot * s.attention_scale;
          peak = std::max(peak, p[j]);
        }
        for (auto& e : p) sum += e = std::exp(e - peak);
        for (int c = 0; c < d; ++c) {
          double o = 0;
          for (int j = 0; j <= i; ++j) o += p[j] * v[j][kh * d + c];
          attended[hd * d + c] = static_cast<float>(o / sum);
        }
      }
      const auto o = product(w[3], h, s.heads * d, attended);
      for (int c = 0; c < h; ++c) x[i][c] += o[c];
    }
    for (int i = 0; i < t; ++i) {
      const auto in = normed(x[i].data(), h, n[1].data(), s.eps);
      auto g = product(w[4], s.ffn, h, in);
      const auto u = product(w[5], s.ffn, h, in);
      for (int c = 0; c < s.ffn; ++c) g[c] = g[c] / (1 + std::exp(-g[c])) * u[c];
      const auto o = product(w[6], h, s.ffn, g);
      for (int c = 0; c < h; ++c) x[i][c] += o[c];
    }
  }
  for (int i = 0; i < t; ++i)
    out.push_back(product(m.matrices.back(), s.vocab, h, normed(x[i].data(), h, m.norms.back().data(), s.eps)));
  return out;
}

/// as_codes: the layers' matrices as codes and scales, else as bf16.
void upload(DeviceModel& model, const HostModel& m, bool as_codes) {
  const ModelShape& s = m.shape;
  const int d = s.head_dim, h = s.hidden;
  const WeightRole roles[7] = {WeightRole::q,    WeightRole::k,  WeightRole::v,   WeightRole::o,
                               WeightRole::gate, WeightRole::up, WeightRole::down};
  const int rows[7] = {s.heads * d, s.kv_heads * d, s.kv_heads * d, h, s.ffn, s.ffn, h},
            columns[7] = {h, h, h, s.heads * d, h, h, s.ffn};
  bool good = true;
  const auto floats = [&](WeightRole role, int l, const float* p, int n) {
    good = good && model.load({role, l, 0, n, 0, p});
  };
  for (int l = 0; l < s.layers; ++l) {
    for (int i = 0; i < 7; ++i) {
      const std::size_t at = static_cast<std::size_t>(l) * 7 + i;
      const void* data = as_codes ? static_cast<const void*>(m.codes[at].codes.data()) : m.matrices[at].data();
      good = good &&
             model.load({roles[i], l, 0, rows[i], columns[i], data, 0, as_codes ? m.codes[at].scales.data() : nullptr});
    }
    const auto* n = &m.norms[static_cast<std::size_t>(l) * 5];
    floats(WeightRole::attn_norm, l, n[0].data(), h), floats(WeightRole::ffn_norm, l, n[1].data(), h);
    if (s.qk_norm) floats(WeightRole::q_norm, l, n[2].data(), d), floats(WeightRole::k_norm, l, n[3].data(), d);
    if (s.qkv_bias) {
      floats(WeightRole::q_bias, l, n[4].data(), s.heads * d),
          floats(WeightRole::k_bias, l, n[4].data() + s.heads * d, s.kv_heads * d);
      floats(WeightRole::v_bias, l, n[4].data() + (s.heads + s.kv_heads) * d, s.kv_heads * d);
    }
  }
  good = good && model.load({WeightRole::embedding, 0, 0, s.vocab, h, m.matrices[m.matrices.size() - 2].data()});
  good = good && model.load({WeightRole::head, 0, 0, s.vocab, h, m.matrices.back().data()});
  floats(WeightRole::output_norm, 0, m.norms.back().data(), h);
  expect(good && model.finish(), "loading: %s", model.error().c_str());
}

/// requests > 0: only so many random ones, < 0: some steps; no reference then.
void test_model(ModelShape shape, WeightType weights, const char* name, int requests = 0, KvType kv = KvType::bf16,
                int group = 128) {
  const HostModel reference = make_model(shape, 3, weights, group);
  ModelOptions options;
  options.group = group;
  options.weights = weights, options.kv = kv, options.kv_bytes = std::size_t{requests < 0 ? 16U : 1024U} << 20;
  options.max_step_tokens = requests < 0 ? 64 : 1024, options.max_logit_rows = requests < 0 ? 8 : 256;
  DeviceModel model(0, shape, options);
  expect(model.create(reference.cos.data(), reference.sin.data()), "create: %s", model.error().c_str());
  upload(model, reference, false);
  if (requests < 0) return test_steps(model, shape.vocab, name);
  test_random(model, shape.vocab, requests > 0 ? requests : 200, name);
  if (requests > 0) return;
  const bool kv8 = kv == KvType::fp8;
  const auto last = [&](const std::vector<int>& tokens) { return forward(reference, tokens, kv8).back(); };
  // A key that bf16 puts beside the middle of two e4m3 falls on the other one: 6 % of a few elements.
  test_loaded(model, shape, last, (weights == WeightType::fp8 ? 0.12 : 0.03) + (kv8 ? 0.03 : 0.0), name);
  if (!is_int(weights)) return;
  DeviceModel given(0, shape, options);
  expect(given.create(reference.cos.data(), reference.sin.data()), "create: %s", given.error().c_str());
  upload(given, reference, true);
  std::vector<std::vector<float>> logits;
  for (DeviceModel* m : {&model, &given}) {
    Runner runner{*m, shape.vocab};
    auto s = runner.start({5, 3, 200, 77, 5, 1, 400}, 16);
    logits.push_back(runner.step({{&s, 7}})[0]);
  }
  expect(same(logits[0], logits[1]), "%s: other bits from codes than from the same weights in bf16", name);
}

void test_products() {
  for (bool fp8 : {false, true}) {
    test_matmul(fp8, 64, 640, 5);
    test_matmul(fp8, 200, 512, 33);
    test_matmul(fp8, 576, 1536, 130);
    test_matmul(fp8, 1536, 512, 300);
    test_matmul(fp8, 512, 8192, 40);
    test_matmul(fp8, 200, 8208, 9);
    test_matmul(fp8, 20000, 4096, 3);
  }
  test_matmul(false, 320, 576, 70);
  for (int t : {1, 2}) {
    for (auto [n, k] : {std::pair{64, 576}, {200, 328}, {3648, 2048}, {512, 4096}, {20000, 1536}})
      test_own_rows(false, true, n, k, t);
    for (auto [n, k] : {std::pair{64, 640}, {200, 528}, {3648, 2048}, {512, 8192}, {20000, 4096}, {256, 14336}})
      test_own_rows(true, true, n, k, t);
  }
  for (auto [k, t] : {std::pair{14336, 1}, {4096, 1}, {4096, 4}, {1408, 6}, {2048, 8}, {528, 3}})
    test_own_rows(true, false, 520, k, t);
  for (RowPlace place : {RowPlace::plain, RowPlace::gate, RowPlace::up}) {
    test_ready_weights(256, 512, place);
    test_ready_weights(448, 640, place);
  }
}

void test_models() {
  ModelShape shape;
  shape.layers = 2, shape.hidden = 256, shape.ffn = 512, shape.heads = 4, shape.kv_heads = 2, shape.head_dim = 64,
  shape.vocab = 512;
  shape.context = 1024, shape.eps = 1e-5F, shape.attention_scale = 0.125F, shape.rope_dims = 64;
  test_model(shape, WeightType::bf16, "bf16, head_dim 64");
  shape.qk_norm = shape.qkv_bias = true;
  shape.rope_interleaved = true;
  test_model(shape, WeightType::bf16, "bf16, q/k norm, bias, interleaved");
  shape.qk_norm = shape.qkv_bias = shape.rope_interleaved = false;
  shape.heads = 8, shape.kv_heads = 1, shape.head_dim = shape.rope_dims = 128, shape.attention_scale = 0.0884F;
  test_model(shape, WeightType::bf16, "bf16, head_dim 128, groups of 8");
  shape.hidden = 512, shape.ffn = 1024;
  test_model(shape, WeightType::fp8, "fp8, head_dim 128, groups of 8");
  test_model(shape, WeightType::int4, "int4, head_dim 128, groups of 8");
  test_model(shape, WeightType::int4, "int4 by 32, head_dim 128, groups of 8", 0, KvType::bf16, 32);
  test_model(shape, WeightType::int8, "int8, head_dim 128, groups of 8");
}

/// The same over KV of e4m3; groups of 8 rotate inside attention, the others before it.
void test_kv() {
  ModelShape shape;
  shape.layers = 2, shape.hidden = 256, shape.ffn = 512, shape.heads = 4, shape.kv_heads = 2, shape.head_dim = 64,
  shape.vocab = 512;
  shape.context = 1024, shape.eps = 1e-5F, shape.attention_scale = 0.125F, shape.rope_dims = 64;
  shape.qk_norm = shape.qkv_bias = shape.rope_interleaved = true;
  test_model(shape, WeightType::bf16, "KV e4m3, q/k norm, bias, interleaved", 0, KvType::fp8);
  shape.qk_norm = shape.qkv_bias = shape.rope_interleaved = false;
  shape.hidden = 512, shape.ffn = 1024;
  shape.heads = 8, shape.kv_heads = 1, shape.head_dim = shape.rope_dims = 128, shape.attention_scale = 0.0884F;
  test_model(shape, WeightType::bf16, "KV e4m3, head_dim 128, groups of 8", 0, KvType::fp8);
  test_model(shape, WeightType::fp8, "KV e4m3, weights fp8, groups of 8", 0, KvType::fp8);
  test_latent_kv();
}

ModelShape few_shape() {
  ModelShape shape;
  shape.layers = 1, shape.hidden = 512, shape.ffn = 512, shape.heads = 4, shape.kv_heads = 1, shape.vocab = 512;
  shape.head_dim = shape.rope_dims = 128, shape.context = 512, shape.eps = 1e-5F, shape.attention_scale = 0.0884F;
  return shape;
}

/// A little of everything, for compute-sanitizer: it runs hundreds of times slower.
void test_few() {
  for (bool fp8 : {false, true}) {
    test_matmul(fp8, 200, 640, 9);
    test_own_rows(fp8, true, 200, 640, 2);
  }
  test_own_rows(true, false, 200, 640, 3);
  test_model(few_shape(), WeightType::fp8, "fp8, few requests", 4);
  test_model(few_shape(), WeightType::int4, "int4, few requests", 4);
  test_ints_few();
  test_latent_few();
  test_attention_few();
}

/// Each kernel a few times, for its racecheck: that runs thousands of times slower.
void test_tiny() {
  for (bool fp8 : {false, true}) {
    test_matmul(fp8, 72, 528, 9);
    test_matmul(fp8, 72, 4016, 3);
    test_own_rows(fp8, true, 72, 528, 2);
  }
  for (int k : {528, 4016}) test_own_rows(true, false, 72, k, 2);
  test_model(few_shape(), WeightType::fp8, "fp8, steps", -1);
  test_latent_tiny();
}

}  // namespace

int main(int argc, char** argv) {
  // gpu_test [products|ints|attention|models|latent|kv|sampling|few|tiny]: everything but few and tiny without an
  // argument.
  const auto wants = [&](const char* name) { return argc < 2 || std::strcmp(argv[1], name) == 0; };
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("no GPU here\n0 passed, 0 failed, 1 skipped\n");
    return 0;
  }
  if (wants("sampling")) test_sampling();
  if (wants("products")) test_products();
  if (wants("attention")) test_attention();
  if (wants("ints")) test_ints();
  if (wants("models")) test_models();
  if (wants("latent")) test_latent_models();
  if (wants("kv")) test_kv();
  if (argc > 1 && wants("few")) test_few();
  if (argc > 1 && wants("tiny")) test_tiny();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

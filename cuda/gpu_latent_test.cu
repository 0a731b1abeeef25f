// Latent attention and experts on a GPU: a small DeepSeek-V2-shaped model against a float forward pass on the host.
#include "gpu_test_support.cuh"

using namespace hp::cuda;

namespace {

inline constexpr int kLatent = 512, kRope = 64;

struct LatentLayer {
  std::vector<Bf16> q_a, q, kv_a, k_b, v_b, o, gate, up, down, router;
  std::vector<std::vector<Bf16>> expert_gate, expert_up, expert_down;
  std::vector<float> attn_norm, ffn_norm, kv_norm, q_norm, bias;
};

struct LatentModel {
  ModelShape shape;
  std::vector<float> cos, sin, output_norm;
  std::vector<Bf16> embedding, head;
  std::vector<LatentLayer> layers;
};

LatentModel make_model(const ModelShape& s, unsigned seed) {
  LatentModel m;
  m.shape = s;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const auto matrix = [&](int n, int k, float gain = 1.0F) {
    std::vector<Bf16> out(static_cast<std::size_t>(n) * k);
    for (auto& v : out) v = __float2bfloat16_rn(normal(random) * gain / std::sqrt(static_cast<float>(k)));
    return out;
  };
  const auto norm = [&](int n) {
    std::vector<float> out(n);
    for (auto& v : out) v = 1.0F + 0.1F * normal(random);
    return out;
  };
  for (int p = 0; p < s.context; ++p)
    for (int i = 0; i < kRope / 2; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / kRope);
      m.cos.push_back(static_cast<float>(std::cos(angle))), m.sin.push_back(static_cast<float>(std::sin(angle)));
    }
  for (int l = 0; l < s.layers; ++l) {
    LatentLayer w;
    const int rank = s.latent.q_rank;
    if (rank > 0) w.q_a = matrix(rank, s.hidden), w.q_norm = norm(rank);
    w.q = matrix(s.heads * (s.latent.nope + kRope), rank > 0 ? rank : s.hidden),
    w.kv_a = matrix(kLatent + kRope, s.hidden);
    w.k_b = matrix(s.heads * kLatent, s.latent.nope), w.v_b = matrix(s.heads * s.latent.v_dim, kLatent);
    w.o = matrix(s.hidden, s.heads * s.latent.v_dim);
    const bool moe = l >= s.experts.first_dense;
    const int ffn = moe ? s.experts.shared_ffn : s.ffn;
    w.gate = matrix(ffn, s.hidden), w.up = matrix(ffn, s.hidden), w.down = matrix(s.hidden, ffn);
    if (moe) {
      // Well apart, so that float and bf16 choose the same experts.
      w.router = matrix(s.experts.experts, s.hidden, 3.0F);
      for (int e = 0; e < s.experts.experts; ++e) {
        w.expert_gate.push_back(matrix(s.experts.ffn, s.hidden)),
            w.expert_up.push_back(matrix(s.experts.ffn, s.hidden));
        w.expert_down.push_back(matrix(s.hidden, s.experts.ffn));
        w.bias.push_back(0.3F * normal(random));
      }
    }
    w.attn_norm = norm(s.hidden), w.ffn_norm = norm(s.hidden), w.kv_norm = norm(kLatent);
    m.layers.push_back(std::move(w));
  }
  m.embedding = matrix(s.vocab, s.hidden, std::sqrt(static_cast<float>(s.hidden))),
  m.head = matrix(s.vocab, s.hidden, 2.0F);
  m.output_norm = norm(s.hidden);
  return m;
}

std::vector<float> gated(const std::vector<Bf16>& gate, const std::vector<Bf16>& up, const std::vector<Bf16>& down,
                         int ffn, int hidden, const std::vector<float>& x) {
  auto g = product(gate, ffn, hidden, x);
  const auto u = product(up, ffn, hidden, x);
  for (int i = 0; i < ffn; ++i) g[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
  return product(down, hidden, ffn, g);
}

std::vector<float> experts(const LatentModel& m, const LatentLayer& w, const std::vector<float>& x) {
  const ExpertDims& e = m.shape.experts;
  auto score = product(w.router, e.experts, m.shape.hidden, x);
  double sum = 0;
  const float peak = *std::max_element(score.begin(), score.end());
  for (auto& s : score) sum += s = e.sigmoid ? 1 / (1 + std::exp(-s)) : std::exp(s - peak);
  if (!e.sigmoid)
    for (auto& s : score) s = static_cast<float>(s / sum);
  auto choice = score;
  if (e.has_bias)
    for (int i = 0; i < e.experts; ++i) choice[i] += w.bias[i];
  const int size = e.experts / e.groups;
  if (e.groups > 1) {
    std::vector<std::pair<float, int>> groups;
    for (int g = 0; g < e.groups; ++g) {
      std::vector<float> in(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      std::sort(in.rbegin(), in.rend());
      groups.emplace_back(e.best_two ? in[0] + in[1] : in[0], g);
    }
    std::sort(groups.rbegin(), groups.rend());
    for (int g = e.chosen_groups; g < e.groups; ++g)
      for (int i = 0; i < size; ++i) choice[groups[g].second * size + i] = -INFINITY;
  }
  std::vector<int> order(e.experts);
  for (int i = 0; i < e.experts; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return choice[a] > choice[b]; });
  double total = 0;
  for (int k = 0; k < e.chosen; ++k) total += score[order[k]];
  std::vector<float> out(m.shape.hidden);
  for (int k = 0; k < e.chosen; ++k) {
    const int expert = order[k];
    const auto y = gated(w.expert_gate[expert], w.expert_up[expert], w.expert_down[expert], e.ffn, m.shape.hidden, x);
    const double weight = (e.normalize ? score[expert] / total : score[expert]) * e.weight_scale;
    for (int i = 0; i < m.shape.hidden; ++i) out[i] += static_cast<float>(weight * y[i]);
  }
  return out;
}

void turn(float* x, const float* cos, const float* sin) {
  for (int i = 0; i < kRope / 2; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i], x[2 * i + 1] = a * sin[i] + b * cos[i];
  }
}

/// Attention as the papers write it: keys and values per head from the latent, nothing absorbed.
/// `kv8`: from latents as e4m3.
std::vector<float> last_logits(const LatentModel& m, const std::vector<int>& tokens, bool kv8) {
  const ModelShape& s = m.shape;
  const int t = static_cast<int>(tokens.size()), nope = s.latent.nope, v_dim = s.latent.v_dim, query = nope + kRope;
  std::vector<std::vector<float>> x(t, std::vector<float>(s.hidden));
  for (int i = 0; i < t; ++i)
    for (int c = 0; c < s.hidden; ++c) x[i][c] = value(m.embedding[static_cast<std::size_t>(tokens[i]) * s.hidden + c]);
  for (int l = 0; l < s.layers; ++l) {
    const LatentLayer& w = m.layers[l];
    std::vector<std::vector<float>> q(t), key(t), values(t), rope(t);
    for (int i = 0; i < t; ++i) {
      const auto in = normed(x[i].data(), s.hidden, w.attn_norm.data(), s.eps);
      const float *cos = m.cos.data() + static_cast<std::size_t>(i) * (kRope / 2),
                  *sin = m.sin.data() + static_cast<std::size_t>(i) * (kRope / 2);
      const int rank = s.latent.q_rank;
      if (rank > 0) {
        const auto low = product(w.q_a, rank, s.hidden, in);
        q[i] = product(w.q, s.heads * query, rank, normed(low.data(), rank, w.q_norm.data(), s.eps));
      } else {
        q[i] = product(w.q, s.heads * query, s.hidden, in);
      }
      for (int h = 0; h < s.heads; ++h) turn(q[i].data() + h * query + nope, cos, sin);
      const auto a = product(w.kv_a, kLatent + kRope, s.hidden, in);
      auto c = normed(a.data(), kLatent, w.kv_norm.data(), s.eps);
      if (kv8)
        for (float& e : c) e = as_e4m3(e);
      rope[i].assign(a.begin() + kLatent, a.end());
      turn(rope[i].data(), cos, sin);
      values[i] = product(w.v_b, s.heads * v_dim, kLatent, c);
      key[i].assign(static_cast<std::size_t>(s.heads) * nope, 0.0F);
      for (int h = 0; h < s.heads; ++h)
        for (int n = 0; n < nope; ++n) {
          double sum = 0;
          for (int d = 0; d < kLatent; ++d)
            sum += double(value(w.k_b[(static_cast<std::size_t>(h) * kLatent + d) * nope + n])) * c[d];
          key[i][static_cast<std::size_t>(h) * nope + n] = static_cast<float>(sum);
        }
    }
    for (int i = 0; i < t; ++i) {
      std::vector<float> attended(static_cast<std::size_t>(s.heads) * v_dim);
      for (int h = 0; h < s.heads; ++h) {
        std::vector<double> p(i + 1);
        double peak = -1e30, sum = 0;
        for (int j = 0; j <= i; ++j) {
          double dot = 0;
          for (int n = 0; n < nope; ++n)
            dot += double(q[i][h * query + n]) * key[j][static_cast<std::size_t>(h) * nope + n];
          for (int r = 0; r < kRope; ++r) dot += double(q[i][h * query + nope + r]) * rope[j][r];
          peak = std::max(peak, p[j] = dot * s.attention_scale);
        }
        for (auto& e : p) sum += e = std::exp(e - peak);
        for (int c = 0; c < v_dim; ++c) {
          double o = 0;
          for (int j = 0; j <= i; ++j) o += p[j] * values[j][static_cast<std::size_t>(h) * v_dim + c];
          attended[static_cast<std::size_t>(h) * v_dim + c] = static_cast<float>(o / sum);
        }
      }
      const auto o = product(w.o, s.hidden, s.heads * v_dim, attended);
      for (int c = 0; c < s.hidden; ++c) x[i][c] += o[c];
      const auto in = normed(x[i].data(), s.hidden, w.ffn_norm.data(), s.eps);
      const bool moe = !w.router.empty();
      const auto dense = gated(w.gate, w.up, w.down, moe ? s.experts.shared_ffn : s.ffn, s.hidden, in);
      for (int c = 0; c < s.hidden; ++c) x[i][c] += dense[c];
      if (!moe) continue;
      const auto sum = experts(m, w, in);
      for (int c = 0; c < s.hidden; ++c) x[i][c] += sum[c];
    }
  }
  return product(m.head, s.vocab, s.hidden, normed(x[t - 1].data(), s.hidden, m.output_norm.data(), s.eps));
}

/// The matrices that the device holds as whole numbers, on a grid that its rounding finds again.
void to_grid(LatentModel& m, WeightType weights) {
  const ModelShape& s = m.shape;
  const auto put = [&](std::vector<Bf16>& w, int columns) { hp::cuda::to_grid(w, columns, weights, 128); };
  for (LatentLayer& w : m.layers) {
    put(w.q_a, s.hidden), put(w.q, s.latent.q_rank > 0 ? s.latent.q_rank : s.hidden), put(w.kv_a, s.hidden);
    put(w.o, s.heads * s.latent.v_dim);
    put(w.gate, s.hidden), put(w.up, s.hidden), put(w.down, w.router.empty() ? s.ffn : s.experts.shared_ffn);
    for (auto& e : w.expert_gate) put(e, s.hidden);
    for (auto& e : w.expert_up) put(e, s.hidden);
    for (auto& e : w.expert_down) put(e, s.experts.ffn);
  }
}

void upload(DeviceModel& model, const LatentModel& m) {
  const ModelShape& s = m.shape;
  bool good = true;
  const auto matrix = [&](WeightRole role, int l, const std::vector<Bf16>& w, int rows, int columns, int expert = 0) {
    good = good && model.load({role, l, 0, rows, columns, w.data(), expert});
  };
  const auto floats = [&](WeightRole role, int l, const std::vector<float>& v) {
    good = good && model.load({role, l, 0, static_cast<int>(v.size()), 0, v.data()});
  };
  for (int l = 0; l < s.layers; ++l) {
    const LatentLayer& w = m.layers[l];
    const int rank = s.latent.q_rank;
    if (rank > 0) matrix(WeightRole::q_a, l, w.q_a, rank, s.hidden), floats(WeightRole::q_a_norm, l, w.q_norm);
    matrix(WeightRole::q, l, w.q, s.heads * (s.latent.nope + kRope), rank > 0 ? rank : s.hidden),
        matrix(WeightRole::kv_a, l, w.kv_a, kLatent + kRope, s.hidden);
    matrix(WeightRole::k_b, l, w.k_b, s.heads * kLatent, s.latent.nope),
        matrix(WeightRole::v_b, l, w.v_b, s.heads * s.latent.v_dim, kLatent);
    matrix(WeightRole::o, l, w.o, s.hidden, s.heads * s.latent.v_dim);
    const bool moe = !w.router.empty();
    const int ffn = moe ? s.experts.shared_ffn : s.ffn;
    matrix(moe ? WeightRole::shared_gate : WeightRole::gate, l, w.gate, ffn, s.hidden),
        matrix(moe ? WeightRole::shared_up : WeightRole::up, l, w.up, ffn, s.hidden);
    matrix(moe ? WeightRole::shared_down : WeightRole::down, l, w.down, s.hidden, ffn);
    floats(WeightRole::attn_norm, l, w.attn_norm), floats(WeightRole::ffn_norm, l, w.ffn_norm),
        floats(WeightRole::kv_a_norm, l, w.kv_norm);
    if (!moe) continue;
    matrix(WeightRole::router, l, w.router, s.experts.experts, s.hidden);
    if (s.experts.has_bias) floats(WeightRole::router_bias, l, w.bias);
    for (int e = 0; e < s.experts.experts; ++e) {
      matrix(WeightRole::expert_gate, l, w.expert_gate[e], s.experts.ffn, s.hidden, e),
          matrix(WeightRole::expert_up, l, w.expert_up[e], s.experts.ffn, s.hidden, e);
      matrix(WeightRole::expert_down, l, w.expert_down[e], s.hidden, s.experts.ffn, e);
    }
  }
  matrix(WeightRole::embedding, 0, m.embedding, s.vocab, s.hidden),
      matrix(WeightRole::head, 0, m.head, s.vocab, s.hidden);
  floats(WeightRole::output_norm, 0, m.output_norm);
  expect(good && model.finish(), "loading: %s", model.error().c_str());
}

/// requests > 0: only so many random ones, < 0: some steps; no reference then.
void test_model(const ModelShape& shape, WeightType weights, const char* name, int requests = 0,
                KvType kv = KvType::bf16) {
  LatentModel reference = make_model(shape, 11);
  to_grid(reference, weights);
  ModelOptions options;
  options.weights = weights, options.kv = kv, options.kv_bytes = std::size_t{requests < 0 ? 16U : 256U} << 20;
  options.max_step_tokens = requests < 0 ? 64 : 1024, options.max_logit_rows = requests < 0 ? 8 : 256;
  DeviceModel model(0, shape, options);
  expect(model.create(reference.cos.data(), reference.sin.data()), "create: %s", model.error().c_str());
  upload(model, reference);
  if (requests < 0) return test_steps(model, shape.vocab, name);
  test_random(model, shape.vocab, requests > 0 ? requests : 200, name);
  if (requests > 0) return;
  const bool kv8 = kv == KvType::fp8;
  test_loaded(
      model, shape, [&](const std::vector<int>& tokens) { return last_logits(reference, tokens, kv8); },
      (weights == WeightType::fp8 ? 0.25 : 0.05) + (kv8 ? 0.03 : 0.0), name);
}

}  // namespace

namespace {

ModelShape small_shape() {
  ModelShape s;
  s.layers = 2, s.hidden = 512, s.ffn = 1024, s.heads = 16, s.kv_heads = 1, s.vocab = 512, s.context = 2048,
  s.eps = 1e-6F;
  s.attention_scale = 0.1F, s.rope_dims = 64, s.rope_interleaved = true;
  s.latent = {32, 64};
  s.experts.experts = 16, s.experts.chosen = 4, s.experts.ffn = 448, s.experts.shared_ffn = 512,
  s.experts.first_dense = 1;
  return s;
}

}  // namespace

void test_latent_few() {
  test_model(small_shape(), WeightType::bf16, "latent attention, bf16, few requests", 4);
  test_model(small_shape(), WeightType::int4, "latent attention, int4, few requests", 2);
}

void test_latent_kv() {
  ModelShape s = small_shape();
  test_model(s, WeightType::bf16, "latent KV e4m3, softmax experts", 0, KvType::fp8);
  s.latent.q_rank = 512, s.heads = 48;
  test_model(s, WeightType::fp8, "latent KV e4m3, low-rank queries, weights fp8", 0, KvType::fp8);
}

void test_latent_tiny() {
  test_model(small_shape(), WeightType::fp8, "latent attention, fp8, steps", -1);
}

void test_latent_models() {
  ModelShape s = small_shape();
  test_model(s, WeightType::bf16, "latent attention, softmax experts, bf16");
  s.experts.sigmoid = s.experts.has_bias = s.experts.normalize = s.experts.best_two = true;
  s.experts.groups = 4, s.experts.chosen_groups = 2, s.experts.weight_scale = 2.5F;
  test_model(s, WeightType::bf16, "latent attention, grouped sigmoid experts, bf16");
  test_model(s, WeightType::int4, "latent attention, grouped sigmoid experts, int4");
  s.experts.ffn = 512;
  test_model(s, WeightType::fp8, "latent attention, grouped sigmoid experts, fp8");
  // DeepSeek-V3 in small: low-rank queries, many heads (ranges of 512 keys).
  s.latent.q_rank = 512, s.heads = 48;
  test_model(s, WeightType::bf16, "latent attention, low-rank queries, bf16");
  test_model(s, WeightType::fp8, "latent attention, low-rank queries, fp8");
  test_model(s, WeightType::int8, "latent attention, low-rank queries, int8");
}

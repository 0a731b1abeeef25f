// Speed of the plug-in on a GPU with random weights in real shapes: first token, prefill, decode over users; and of the
// products alone, beside the ceilings that the same run measures. One JSON object per line with --json.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "arch/cuda/device_model.h"
#include "kernels/cuda/int_matmul.h"

using namespace hp::cuda;

namespace {

struct WeightName {
  const char* name;
  WeightType type;
  int group = 128;
  /// Of a weight, with its scales.
  [[nodiscard]] double bytes() const {
    const double scale = 4.0 / group;
    return type == WeightType::bf16  ? 2.0
           : type == WeightType::fp8 ? 1.0
                                     : (type == WeightType::int8 ? 1.0 : 0.5) + scale;
  }
};
constexpr WeightName kWeightNames[] = {{"bf16", WeightType::bf16},
                                       {"fp8", WeightType::fp8},
                                       {"int8", WeightType::int8},
                                       {"int4", WeightType::int4},
                                       {"int4g32", WeightType::int4, 32}};

const std::map<std::string, ModelShape>& shapes() {
  static const auto make = [](int layers, int hidden, int ffn, int heads, int kv_heads, int vocab, bool bias) {
    ModelShape s;
    s.layers = layers, s.hidden = hidden, s.ffn = ffn, s.heads = heads, s.kv_heads = kv_heads,
    s.head_dim = s.rope_dims = 128;
    s.vocab = vocab, s.context = 8192, s.eps = 1e-5F, s.attention_scale = 0.08838835F, s.qkv_bias = bias;
    return s;
  };
  static const std::map<std::string, ModelShape> all = {
      {"deepseek-67b", make(95, 8192, 22016, 64, 8, 102400, false)},
      {"r1-distill-llama-8b", make(32, 4096, 14336, 32, 8, 128256, false)},
      {"r1-distill-llama-70b", make(80, 8192, 28672, 64, 8, 128256, false)},
      {"r1-distill-qwen-1.5b", make(28, 1536, 8960, 12, 2, 151936, true)},
      {"r1-distill-qwen-7b", make(28, 3584, 18944, 28, 4, 152064, true)},
      {"r1-distill-qwen-32b", make(64, 5120, 27648, 40, 8, 152064, true)},
  };
  return all;
}

ModelShape v2_lite() {
  ModelShape s;
  s.layers = 27, s.hidden = 2048, s.ffn = 10944, s.heads = 16, s.kv_heads = 1, s.vocab = 102400, s.context = 8192,
  s.eps = 1e-6F;
  s.attention_scale = 0.07216878F, s.rope_dims = 64, s.rope_interleaved = true;
  s.latent = {128, 128};
  s.experts.experts = 64, s.experts.chosen = 6, s.experts.ffn = 1408, s.experts.shared_ffn = 2816,
  s.experts.first_dense = 1;
  return s;
}

/// The first layers of DeepSeek-V3: the three dense ones and five of 58 with experts, about 61 GB in fp8.
ModelShape v3_stack() {
  ModelShape s;
  s.layers = 8, s.hidden = 7168, s.ffn = 18432, s.heads = 128, s.kv_heads = 1, s.vocab = 129280, s.context = 8192,
  s.eps = 1e-6F;
  s.attention_scale = 0.1352F, s.rope_dims = 64, s.rope_interleaved = true;
  s.latent = {128, 128, 1536};
  s.experts.experts = 256, s.experts.chosen = 8, s.experts.ffn = 2048, s.experts.shared_ffn = 2048,
  s.experts.first_dense = 3, s.experts.groups = 8, s.experts.chosen_groups = 4;
  s.experts.sigmoid = s.experts.best_two = s.experts.normalize = s.experts.has_bias = true;
  s.experts.weight_scale = 2.5F;
  return s;
}

const ModelShape* shape_named(const std::string& name) {
  static const ModelShape lite = v2_lite(), stack = v3_stack();
  if (name == "v2-lite") return &lite;
  if (name == "v3-stack") return &stack;
  const auto found = shapes().find(name);
  return found == shapes().end() ? nullptr : &found->second;
}

/// Parameters that a token's forward pass multiplies with.
double active_parameters(const ModelShape& s) {
  const double h = s.hidden;
  const double query = s.heads * (s.latent.nope + 64.0), rank = s.latent.q_rank;
  const double attention = s.latent.nope > 0
                               ? (rank > 0 ? h * rank + rank * query : h * query) + h * 576 +
                                     512.0 * s.heads * (s.latent.nope + s.latent.v_dim) + h * s.heads * s.latent.v_dim
                               : h * (s.heads + 2.0 * s.kv_heads) * s.head_dim + h * s.heads * s.head_dim;
  const double dense = 3 * h * s.ffn, experts = 3 * h * (s.experts.chosen * s.experts.ffn + s.experts.shared_ffn);
  const int dense_layers = s.experts.experts > 0 ? s.experts.first_dense : s.layers;
  return s.layers * attention + dense_layers * dense + (s.layers - dense_layers) * experts + h * s.vocab;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

/// Reads of device memory in TB/s, by a copy that counts both ways.
double bandwidth() {
  const std::size_t bytes = std::size_t{4} << 30;
  void *a = nullptr, *b = nullptr;
  if (cudaMalloc(&a, bytes) != cudaSuccess || cudaMalloc(&b, bytes) != cudaSuccess) return 0;
  cudaMemset(a, 1, bytes);
  std::vector<double> times;
  for (int i = 0; i < 7; ++i) {
    cudaDeviceSynchronize();
    const double start = now();
    cudaMemcpy(b, a, bytes, cudaMemcpyDeviceToDevice);
    cudaDeviceSynchronize();
    times.push_back(now() - start);
  }
  cudaFree(a), cudaFree(b);
  return 2.0 * static_cast<double>(bytes) / median(times) * 1e-12;
}

/// Products alone: every tile shape over token counts, best marked; weights rotate so that L2 does not serve them.
void bench_products(const WeightName& form, const std::vector<std::pair<int, int>>& sizes,
                    const std::vector<int>& counts) {
  for (const auto& [n, k] : sizes) {
    const bool fp8 = form.type == WeightType::fp8;
    Matrix one;
    set_form(one, form.type, form.group), one.n = n, one.k = k;
    const std::size_t bytes = one.bytes();
    const int copies = std::max(1, static_cast<int>((std::size_t{400} << 20) / bytes));
    std::vector<Matrix> w(static_cast<std::size_t>(copies), one);
    for (auto& m : w) {
      cudaMalloc(&m.data, bytes);
      if (fp8) cudaMalloc(reinterpret_cast<void**>(&m.scale), m.scales() * 4);
      random_weight(m, 0.02F, 3, nullptr);
      make_maps(m);
    }
    Activations x;
    x.fp8 = fp8, x.rows = 4096, x.k = k;
    cudaMalloc(&x.data, static_cast<std::size_t>(x.rows) * static_cast<std::size_t>(k) * 2U);
    cudaMalloc(reinterpret_cast<void**>(&x.row_scale), static_cast<std::size_t>(x.rows) * 4U);
    Bf16* source = nullptr;
    cudaMalloc(reinterpret_cast<void**>(&source), static_cast<std::size_t>(x.rows) * static_cast<std::size_t>(k) * 2U);
    random_bf16(source, static_cast<std::size_t>(x.rows) * static_cast<std::size_t>(k), 1.0F, 5, nullptr);
    if (fp8)
      quantize_rows(source, x.rows, x, nullptr);
    else
      cudaMemcpy(x.data, source, static_cast<std::size_t>(x.rows) * static_cast<std::size_t>(k) * 2U,
                 cudaMemcpyDeviceToDevice);
    make_maps(x);
    void* out = nullptr;
    cudaMalloc(&out, static_cast<std::size_t>(x.rows) * static_cast<std::size_t>(n) * 4U);
    cudaStream_t stream = nullptr;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaDeviceSynchronize();
    for (int t : counts) {
      std::printf("%s n=%d k=%d t=%d:", form.name, n, k, t);
      for (int tile = 0; tile <= (form.type == WeightType::bf16 ? kChainTile : kTileChoices - 1); ++tile) {
        const int tokens = tile_columns(tile);
        if (tokens > 2 * t && tile > 0) continue;
        if (t > 4 * tokens && tokens < 128) continue;
        const int repeats = t > 512 ? 10 : 40;
        cudaEvent_t begin, end;
        cudaEventCreate(&begin), cudaEventCreate(&end);
        std::vector<double> times;
        for (int round = 0; round < 4; ++round) {
          cudaEventRecord(begin, stream);
          for (int i = 0; i < repeats; ++i)
            matmul(w[static_cast<std::size_t>(i % copies)], x, t, {Epilogue::bf16, out, n, nullptr}, stream, tile);
          cudaEventRecord(end, stream);
          cudaEventSynchronize(end);
          float ms = 0;
          cudaEventElapsedTime(&ms, begin, end);
          if (round > 0) times.push_back(static_cast<double>(ms) * 1e-3 / repeats);
        }
        const double seconds = median(times);
        const int chosen = one.ints.bits > 0 ? choose_int_tile(n, t, multiprocessor_count())
                                             : choose_tile(fp8, n, t, multiprocessor_count());
        std::printf("  [%d] %.1fus %.2fTB/s %.0fTF%s", tile, seconds * 1e6,
                    static_cast<double>(bytes) / seconds * 1e-12, 2e-12 * n * static_cast<double>(k) * t / seconds,
                    tile == chosen ? "*" : "");
      }
      std::printf("  %s\n", cudaGetErrorString(cudaGetLastError()));
    }
    for (auto& m : w) cudaFree(m.data), cudaFree(m.scale);
    cudaFree(x.data), cudaFree(x.row_scale), cudaFree(source), cudaFree(out);
    cudaStreamDestroy(stream);
  }
}

/// Median seconds of one call among `repeats` on a stream.
template <typename F>
double seconds_of(cudaStream_t stream, int repeats, F&& call) {
  cudaEvent_t begin, end;
  cudaEventCreate(&begin), cudaEventCreate(&end);
  std::vector<double> times;
  for (int round = 0; round < 4; ++round) {
    cudaEventRecord(begin, stream);
    for (int i = 0; i < repeats; ++i) call();
    cudaEventRecord(end, stream);
    cudaEventSynchronize(end);
    float ms = 0;
    cudaEventElapsedTime(&ms, begin, end);
    if (round > 0) times.push_back(static_cast<double>(ms) * 1e-3 / repeats);
  }
  return median(times);
}

template <typename T>
T* memory(std::size_t count) {
  void* out = nullptr;
  cudaMalloc(&out, count * sizeof(T));
  cudaMemset(out, 0, count * sizeof(T));
  return static_cast<T*>(out);
}

/// Everything of a layer that is not a product, alone: microseconds per call; decodes of `keys` keys.
void bench_operations(const ModelShape& shape, bool fp8, bool kv_fp8, int keys) {
  const AttentionShape attention_shape{shape.heads, shape.kv_heads, shape.head_dim};
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  constexpr int kMost = 2048;
  const int units = (keys + kUnitKeys - 1) / kUnitKeys, stride = units * kUnitKeys / kBlockTokens;
  const int blocks = std::max(256 * stride, kMost / kBlockTokens);
  const auto size = [](int a, int b) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); };
  auto* x = memory<float>(size(kMost, shape.hidden));
  auto* norm = memory<float>(static_cast<std::size_t>(shape.hidden));
  auto* qkv = memory<Bf16>(size(kMost, attention_shape.row()));
  random_bf16(qkv, size(kMost, attention_shape.row()), 1.0F, 3, stream);
  auto* act = memory<Bf16>(size(kMost, shape.ffn));
  Activations normed, act8, attended8;
  normed.fp8 = fp8, normed.k = shape.hidden, act8.fp8 = attended8.fp8 = true, act8.k = shape.ffn,
  attended8.k = shape.heads * shape.head_dim;
  for (Activations* a : {&normed, &act8, &attended8})
    a->rows = kMost, a->data = memory<Bf16>(size(kMost, a->k)), a->row_scale = memory<float>(kMost);
  auto* rope = memory<float>(size(shape.context, shape.rope_dims));
  const RopeArgs rope_args{rope, rope, nullptr, nullptr, shape.eps, shape.rope_dims, false};
  // Any bits are numbers but those of the types' NaN, which bf16 of moderate size has nowhere.
  const std::size_t kv_count = size(blocks, shape.kv_heads * kBlockTokens * shape.head_dim);
  auto *keys_of = memory<Bf16>(kv_count), *values_of = memory<Bf16>(kv_count);
  random_bf16(keys_of, kv_count, 1.0F, 4, stream), random_bf16(values_of, kv_count, 1.0F, 5, stream);
  const KvLayer kv{keys_of, values_of, kv_fp8};
  auto* attended = memory<Bf16>(size(kMost, shape.heads * shape.head_dim));
  auto* scratch = memory<float>(attention_scratch(attention_shape, 256 * units));
  auto* ints = memory<int>(1 << 20);
  for (int t : {1, 64, 256, 512, 2048}) {
    std::printf("t=%-5d norm %.1f", t,
                1e6 * seconds_of(stream, 50, [&] { rms_norm(x, nullptr, norm, 1e-5F, t, normed, stream); }));
    std::vector<int> slots(static_cast<std::size_t>(t));
    for (int i = 0; i < t; ++i) slots[static_cast<std::size_t>(i)] = i;
    cudaMemcpy(ints, slots.data(), slots.size() * 4, cudaMemcpyHostToDevice);
    std::printf("  rope %.1f", 1e6 * seconds_of(stream, 50, [&] {
                                 rope_and_store(qkv, attention_shape, rope_args, ints, ints, t, kv, stream);
                               }));
    std::printf("  quantize heads %.1f ffn %.1f",
                1e6 * seconds_of(stream, 50, [&] { quantize_rows(attended, t, attended8, stream); }),
                1e6 * seconds_of(stream, 50, [&] { quantize_rows(act, t, act8, stream); }));
    AttentionBatch batch;
    std::vector<int> m;
    std::size_t bytes = 0;
    double flops = 0;
    if (t <= 256) {
      for (int i = 0; i < t * stride; ++i) m.push_back(i);
      for (int i = 0; i < t; ++i) m.push_back(i);
      for (int i = 0; i < t; ++i) m.push_back(keys);
      for (int i = 0; i < t; ++i) m.push_back(i * units);
      if (m.size() % 2 != 0) m.push_back(0);
      const int work_at = static_cast<int>(m.size());
      for (int i = 0; i < t * units; ++i) m.push_back(i / units), m.push_back(i % units);
      cudaMemcpy(ints, m.data(), m.size() * 4, cudaMemcpyHostToDevice);
      batch.tables = ints, batch.table_stride = stride, batch.decodes = t, batch.works = t * units;
      batch.decode_row = batch.decode_sequence = ints + t * stride, batch.decode_length = ints + t * stride + t;
      batch.decode_first = ints + t * stride + 2 * t, batch.work = reinterpret_cast<const int2*>(ints + work_at);
      bytes = size(t, keys * shape.kv_heads * shape.head_dim * (kv_fp8 ? 2 : 4));
    } else {
      const int tokens = prefill_tile_tokens(attention_shape);
      for (int i = 0; i < t; i += tokens) m.insert(m.end(), {i, 0, i, std::min(tokens, t - i)});
      const int tiles = static_cast<int>(m.size()) / 4;
      for (int i = 0; i < t / kBlockTokens; ++i) m.push_back(i);
      cudaMemcpy(ints, m.data(), m.size() * 4, cudaMemcpyHostToDevice);
      batch.tiles = tiles, batch.tile = reinterpret_cast<const int4*>(ints), batch.tables = ints + 4 * tiles;
      batch.table_stride = t / kBlockTokens;
      flops = 2.0 * t * t * shape.heads * shape.head_dim;
    }
    const double seconds = seconds_of(stream, 20, [&] {
      attention(qkv, attention_shape, kv, batch, 0.088F, t <= 256 ? &rope_args : nullptr, scratch, attended, stream);
    });
    std::printf("  attention %.1f us", seconds * 1e6);
    if (bytes > 0) std::printf(" (%.2f TB/s)", static_cast<double>(bytes) / seconds * 1e-12);
    if (flops > 0) std::printf(" (%.0f TFLOP/s)", flops / seconds * 1e-12);
    std::printf("  %s\n", cudaGetErrorString(cudaGetLastError()));
  }
}

/// What a step of few tokens may fuse, how much of the weights attention brings ahead, and whether bits are free.
struct Variant {
  unsigned fusions = kDefaultFusions;
  std::size_t ahead_mib = kAheadBytes >> 20;
  bool invariant = true;
  void use(DeviceModel& model) const { model.use_fusions(fusions, ahead_mib << 20, invariant); }
  [[nodiscard]] std::string name() const {
    const bool product = fusions == kDefaultFusions && ahead_mib == kAheadBytes >> 20;
    const std::string what = product ? "default" : std::to_string(fusions) + ":" + std::to_string(ahead_mib);
    return what + (invariant ? "" : ":free");
  }
};

/// FUSIONS|default[:MiB][:free]
Variant variant_of(const std::string& text) {
  Variant v;
  if (!text.starts_with("default")) v.fusions = static_cast<unsigned>(std::strtoul(text.c_str(), nullptr, 10));
  for (std::size_t at = text.find(':'); at != std::string::npos; at = text.find(':', at + 1)) {
    if (text.compare(at + 1, 4, "free") == 0) {
      v.invariant = false;
    } else {
      v.ahead_mib = std::strtoul(text.c_str() + at + 1, nullptr, 10);
    }
  }
  return v;
}

struct Plan {
  std::vector<int> users{1, 8, 32, 64, 128, 256}, prompts{512, 2048};
  int context = 256, repeats = 5;
  std::vector<Variant> variants{{}};
  /// Steps of one repeat; the first four do not count.
  [[nodiscard]] static int steps(int users) { return users < 64 ? 24 : 14; }
  [[nodiscard]] int blocks(int users) const { return (context + steps(users) + 8) / kBlockTokens + 1; }
};

/// The median second of a decode step of `users` sequences; negative on an error.
double decode_seconds(DeviceModel& model, const Plan& plan, int users, const std::vector<std::int32_t>& blocks) {
  const int span = plan.blocks(users);
  std::vector<PluginSequence> batch;
  std::vector<std::int32_t> next(static_cast<std::size_t>(users), 17);
  for (int u = 0; u < users; ++u)
    batch.push_back({&next[static_cast<std::size_t>(u)], 1, plan.context, 1, blocks.data() + u * span});
  std::vector<double> times;
  for (int i = 0; i < Plan::steps(users); ++i) {
    const double begin = now();
    if (!model.step(batch.data(), users, false, true)) {
      std::printf("%s\n", model.error().c_str());
      return -1;
    }
    if (i > 3) times.push_back(now() - begin);
    for (int u = 0; u < users; ++u)
      next[static_cast<std::size_t>(u)] = model.drawn()[u], ++batch[static_cast<std::size_t>(u)].position;
  }
  return median(times);
}

/// Variants in turn within each repeat, so that a drift of the card shows in none of them alone.
bool bench_decode(DeviceModel& model, const Plan& plan, int users, const std::vector<std::int32_t>& blocks) {
  if (users * plan.blocks(users) > static_cast<int>(blocks.size())) {
    std::printf("  decode %d users: KV too small\n", users);
    return true;
  }
  const std::size_t count = plan.variants.size();
  std::vector<std::vector<double>> seconds(count);
  for (int repeat = 0; repeat < plan.repeats; ++repeat) {
    for (std::size_t v = 0; v < count; ++v) {
      plan.variants[v].use(model);
      const double s = decode_seconds(model, plan, users, blocks);
      if (s < 0) return false;
      seconds[v].push_back(s);
    }
  }
  for (std::size_t v = 0; v < count; ++v) {
    const auto [least, most] = std::minmax_element(seconds[v].begin(), seconds[v].end());
    const double t = median(seconds[v]);
    std::printf("  decode %4d users: %7.3f ms (%.3f..%.3f) %8.0f tok/s", users, t * 1e3, *least * 1e3, *most * 1e3,
                users / t);
    std::printf("  fusions %s\n", plan.variants[v].name().c_str());
  }
  std::fflush(stdout);
  return true;
}

bool bench_prefill(DeviceModel& model, const Plan& plan, int prompt, const std::vector<std::int32_t>& tokens,
                   const std::vector<std::int32_t>& blocks, double active) {
  const std::size_t count = plan.variants.size();
  std::vector<std::vector<double>> seconds(count);
  for (int repeat = 0; repeat < 6; ++repeat) {
    for (std::size_t v = 0; v < count; ++v) {
      plan.variants[v].use(model);
      const PluginSequence s{tokens.data(), prompt, 0, 1, blocks.data()};
      const double begin = now();
      if (!model.step(&s, 1, false, true)) {
        std::printf("%s\n", model.error().c_str());
        return false;
      }
      if (repeat > 0) seconds[v].push_back(now() - begin);
    }
  }
  for (std::size_t v = 0; v < count; ++v) {
    const double t = median(seconds[v]);
    std::printf("  prefill %5d: %8.2f ms  %8.0f tok/s  %.0f TFLOP/s  fusions %s\n", prompt, t * 1e3, prompt / t,
                2e-12 * active * prompt / t, plan.variants[v].name().c_str());
  }
  return true;
}

bool bench_model(const std::string& name, const WeightName& form, KvType kv, const Plan& plan, double limit) {
  const ModelShape shape = *shape_named(name);
  ModelOptions options;
  options.weights = form.type, options.group = form.group, options.kv = kv;
  options.max_step_tokens = 4096, options.max_logit_rows = 256;
  DeviceModel model(0, shape, options);
  std::vector<float> table(static_cast<std::size_t>(shape.context) * static_cast<std::size_t>(shape.rope_dims / 2),
                           0.70710678F);
  const double start = now();
  if (!model.create(table.data(), table.data()) || !model.load_random(1) || !model.finish()) {
    std::printf("%s: %s\n", name.c_str(), model.error().c_str());
    return false;
  }
  DeviceInfo info;
  model.describe(info);
  const double active = active_parameters(shape);
  // The head is bf16 whatever the layers are.
  const double head = static_cast<double>(shape.hidden) * shape.vocab,
               per_token = 2.0 * head + form.bytes() * (active - head);
  std::printf(
      "%s %s on %s: weights %.1f GB, ready in %.1f s, KV %s of %d blocks, context %d, bandwidth limit %.0f tok/s\n",
      name.c_str(), form.name, info.name, static_cast<double>(info.weight_bytes) * 1e-9, now() - start,
      kv == KvType::fp8 ? "fp8" : "bf16", info.blocks, plan.context, limit * 1e12 / per_token);
  std::vector<std::int32_t> tokens(8192);
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>((i * 7919 + 13) % static_cast<std::size_t>(shape.vocab));
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(info.blocks));
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::int32_t>(i);
  for (int prompt : plan.prompts) {
    if (!bench_prefill(model, plan, prompt, tokens, blocks, active)) return false;
  }
  for (int users : plan.users) {
    if (!bench_decode(model, plan, users, blocks)) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const double limit = std::getenv("GPU_BENCH_QUICK") != nullptr ? 4.26 : bandwidth();
  std::printf("device memory: %.2f TB/s\n", limit);
  if (what == "ceiling") return 0;
  if (what == "products") {
    const std::vector<std::pair<int, int>> of_8b = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
    const std::vector<int> counts = {1, 16, 64, 128, 256, 512, 2048};
    for (const WeightName& form : kWeightNames) {
      if (argc > 2 && std::strcmp(argv[2], form.name) != 0) continue;
      bench_products(form, of_8b, counts);
      if (form.type == WeightType::bf16) bench_products(form, {{128256, 4096}}, counts);
      if (form.type == WeightType::fp8)
        bench_products(form, {{10240, 8192}, {8192, 8192}, {44032, 8192}, {8192, 22016}}, counts);
    }
    return 0;
  }
  if (what == "operations") {
    const bool kv_fp8 = argc > 2 && std::strcmp(argv[2], "fp8") == 0;
    const int keys = argc > 3 ? std::atoi(argv[3]) : 384;
    bench_operations(shapes().at("r1-distill-llama-8b"), true, kv_fp8, keys);
    bench_operations(shapes().at("deepseek-67b"), true, kv_fp8, keys);
    return 0;
  }
  if (argc < 3) {
    std::printf(
        "usage: gpu_bench ceiling | gpu_bench products [TYPE] | gpu_bench operations [KV bf16|fp8 [keys]] | gpu_bench "
        "SHAPE TYPE [users,users,... [fusions|default[:MiB ahead][:free],... [prompts,... [KV bf16|fp8 "
        "[context]]]]]\nshapes:");
    for (const auto& [name, shape] : shapes()) std::printf(" %s", name.c_str());
    std::printf(" v2-lite v3-stack");
    std::printf("\n");
    return 2;
  }
  if (shape_named(what) == nullptr) {
    std::printf("no shape named %s\n", what.c_str());
    return 2;
  }
  Plan plan;
  const auto numbers = [&](int at, auto& out) {
    if (argc <= at) return;
    out.clear();
    for (const char* p = argv[at]; p != nullptr; p = std::strchr(p, ',')) {
      if (*p == ',') ++p;
      if (*p != 0) out.push_back(static_cast<std::decay_t<decltype(out[0])>>(std::atoi(p)));
    }
  };
  numbers(3, plan.users), numbers(5, plan.prompts);
  if (argc > 4) plan.variants.clear();
  for (const char* p = argc > 4 ? argv[4] : nullptr; p != nullptr; p = std::strchr(p, ',')) {
    if (*p == ',') ++p;
    plan.variants.push_back(variant_of({p, std::strcspn(p, ",")}));
  }
  const KvType kv = argc > 6 && std::strcmp(argv[6], "fp8") == 0 ? KvType::fp8 : KvType::bf16;
  if (argc > 7) plan.context = std::atoi(argv[7]);
  for (const WeightName& form : kWeightNames) {
    if (std::strcmp(argv[2], form.name) == 0) return bench_model(what, form, kv, plan, limit) ? 0 : 1;
  }
  std::printf("%s: the types are bf16, fp8, int8 and int4\n", argv[2]);
  return 2;
}

// What the GPU tests share: checks that are counted, copies, and the invariance test of a model against a reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "arch/cuda/device_model.h"

namespace hp::cuda {

inline int passed = 0, failed = 0;

inline void expect(bool good, const char* what) {
  ++(good ? passed : failed);
  if (!good) std::printf("FAILED: %s\n", what);
}
template <typename... Args>
void expect(bool good, const char* format, Args... args) {
  char what[256];
  std::snprintf(what, sizeof what, format, args...);
  expect(good, what);
}

template <typename T>
T* device(std::size_t count) {
  void* out = nullptr;
  cudaMalloc(&out, count * sizeof(T) + 256);
  cudaMemset(out, 0, count * sizeof(T) + 256);
  return static_cast<T*>(out);
}
template <typename T>
std::vector<T> host(const T* in, std::size_t count) {
  std::vector<T> out(count);
  cudaMemcpy(out.data(), in, count * sizeof(T), cudaMemcpyDeviceToHost);
  return out;
}

inline double relative_error(const std::vector<float>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]), norm += b[i] * b[i];
  return std::sqrt(difference / (norm + 1e-30));
}

inline float value(Bf16 v) {
  return __bfloat162float(v);
}
/// What a cache of e4m3 keeps of a value.
inline float as_e4m3(float v) {
  return static_cast<float>(Fp8(v));
}

inline std::vector<float> product(const std::vector<Bf16>& w, int n, int k, const std::vector<float>& x) {
  std::vector<float> out(n);
  for (int r = 0; r < n; ++r) {
    double sum = 0;
    for (int c = 0; c < k; ++c) sum += double(value(w[static_cast<std::size_t>(r) * k + c])) * x[c];
    out[r] = static_cast<float>(sum);
  }
  return out;
}
inline std::vector<float> normed(const float* x, int n, const float* w, float eps) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += double(x[i]) * x[i];
  std::vector<float> out(n);
  for (int i = 0; i < n; ++i) out[i] = static_cast<float>(x[i] / std::sqrt(sum / n + eps) * w[i]);
  return out;
}

/// Rows of whole numbers as a checkpoint holds them.
struct Codes {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

/// Moves a weight [·, k] onto a grid that the device's rounding finds again exactly: codes times a power of two, the
/// largest of each group at the end of the range. Nothing for weights that are not whole numbers.
inline Codes to_grid(std::vector<Bf16>& w, int k, WeightType weights, int group) {
  Codes out;
  if (!is_int(weights)) return out;
  const bool four = weights == WeightType::int4;
  const float most = four ? 8.0F : 127.0F;
  for (std::size_t row = 0; row < w.size(); row += static_cast<std::size_t>(k))
    for (int g = 0; g < k; g += group) {
      const auto from = w.begin() + static_cast<std::ptrdiff_t>(row) + g, to = from + std::min(group, k - g);
      const auto peak =
          std::max_element(from, to, [](Bf16 a, Bf16 b) { return std::fabs(value(a)) < std::fabs(value(b)); });
      const float scale = std::exp2(std::ceil(std::log2(std::fabs(value(*peak)) / most)));
      out.scales.push_back(scale);
      for (auto v = from; v != to; ++v) {
        int code = std::clamp(static_cast<int>(std::lrint(value(*v) / scale)), four ? -8 : -127, four ? 7 : 127);
        if (v == peak) code = four ? -8 : 127;
        *v = __float2bfloat16_rn(static_cast<float>(code) * scale);
        if (!four)
          out.codes.push_back(static_cast<std::uint8_t>(code));
        else if ((v - from) % 2 == 0)
          out.codes.push_back(static_cast<std::uint8_t>(code + 8));
        else
          out.codes.back() = static_cast<std::uint8_t>(out.codes.back() | (code + 8) << 4);
      }
    }
  return out;
}

struct Runner {
  DeviceModel& model;
  int vocab;
  int next_block = 0;
  struct Sequence {
    std::vector<int> tokens, blocks;
    int done = 0;
  };
  Sequence start(std::vector<int> tokens, int capacity) {
    Sequence s{std::move(tokens), {}, 0};
    // Blocks out of order, so that the table matters.
    for (int i = 0; i < (capacity + 15) / 16; ++i) s.blocks.push_back(next_block++);
    std::reverse(s.blocks.begin(), s.blocks.end());
    return s;
  }
  /// One step over parts {sequence, tokens}; logits of the last of each.
  std::vector<std::vector<float>> step(const std::vector<std::pair<Sequence*, int>>& parts) {
    std::vector<PluginSequence> batch;
    for (auto& [s, count] : parts) batch.push_back({s->tokens.data() + s->done, count, s->done, 1, s->blocks.data()});
    expect(model.step(batch.data(), static_cast<int>(batch.size()), true, true), "step: %s", model.error().c_str());
    std::vector<std::vector<float>> out;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      parts[i].first->done += parts[i].second;
      out.emplace_back(model.logits() + i * vocab, model.logits() + (i + 1) * vocab);
    }
    return out;
  }
};

inline bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

/// Logits of a prompt's last position by a float forward pass on the host.
using Reference = std::function<std::vector<float>(const std::vector<int>& tokens)>;

/// A loaded model against its reference, and its logits bit for bit alone, chunked, decoded and in company.
inline void test_loaded(DeviceModel& model, const ModelShape& shape, const Reference& reference, double tolerance,
                        const char* name) {
  std::mt19937 random(5);
  const auto tokens = [&](int count) {
    std::vector<int> out(count);
    for (auto& t : out) t = static_cast<int>(random() % shape.vocab);
    return out;
  };
  Runner runner{model, shape.vocab};
  const int length = 300;
  const auto prompt = tokens(length);
  // Alone, in one prefill; against the host for the first positions.
  auto whole = runner.start(prompt, length);
  const auto last = runner.step({{&whole, length}})[0];
  const int checked = 40;
  auto part = runner.start(prompt, length);
  const auto early = runner.step({{&part, checked}})[0];
  const auto wanted = reference(std::vector<int>(prompt.begin(), prompt.begin() + checked));
  const double error = relative_error(early, std::vector<double>(wanted.begin(), wanted.end()));
  std::printf("%s: relative error of logits against float: %.2e\n", name, error);
  expect(error < tolerance, "%s: error %.2e against the float forward", name, error);
  // The same tokens one by one.
  while (part.done < length) {
    const auto logits = runner.step({{&part, 1}})[0];
    if (part.done == length) expect(same(logits, last), "%s: decoded one by one, other bits than in one prefill", name);
  }
  for (int chunk : {7, 16, 64, 129, 256}) {
    auto s = runner.start(prompt, length);
    std::vector<float> logits;
    while (s.done < length) logits = runner.step({{&s, std::min(chunk, length - s.done)}})[0];
    expect(same(logits, last), "%s: chunks of %d, other bits", name, chunk);
  }
  // In batches of 1 to 256 decodes with mates of other lengths, and mixed with prefills.
  for (int mates : {1, 3, 8, 17, 33, 70, 130, 255}) {
    std::vector<Runner::Sequence> others;
    for (int i = 0; i < mates; ++i) others.push_back(runner.start(tokens(2 + static_cast<int>(random() % 40)), 48));
    for (auto& o : others) runner.step({{&o, static_cast<int>(o.tokens.size()) - 1}});
    auto s = runner.start(prompt, length);
    runner.step({{&s, length - 1}});
    std::vector<std::pair<Runner::Sequence*, int>> batch;
    for (auto& o : others) batch.push_back({&o, 1});
    batch.insert(batch.begin() + mates / 2, {&s, 1});
    const auto logits = runner.step(batch);
    expect(same(logits[static_cast<std::size_t>(mates / 2)], last), "%s: decoded with %d mates, other bits", name,
           mates);
    runner.next_block = 200;  // mates' blocks are free again; the prompt's own stay
  }
  auto s = runner.start(prompt, length);
  auto mate = runner.start(tokens(500), 500);
  runner.step({{&s, 200}, {&mate, 333}});
  const auto logits = runner.step({{&mate, 100}, {&s, 100}});
  expect(same(logits[1], last), "%s: mixed with another prefill, other bits", name);
}

/// A request and what the model gave it alone: the logits behind every position of its output.
struct Request {
  std::vector<int> tokens;  // prompt and output
  int prompt = 0;
  std::vector<std::vector<float>> logits;
};

/// Answers `count` random requests alone, greedily.
inline std::vector<Request> answer_alone(Runner& runner, int count, std::mt19937& random) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request r;
    r.prompt = 1 + static_cast<int>(random() % (i % 8 == 0 ? 180 : 40));
    const int output = 1 + static_cast<int>(random() % 8);
    for (int t = 0; t < r.prompt; ++t) r.tokens.push_back(static_cast<int>(random() % runner.vocab));
    runner.next_block = 0;
    auto s = runner.start(r.tokens, r.prompt + output);
    for (int n = 0; n < output; ++n) {
      r.logits.push_back(runner.step({{&s, n == 0 ? r.prompt : 1}})[0]);
      const auto& l = r.logits.back();
      s.tokens.push_back(static_cast<int>(std::max_element(l.begin(), l.end()) - l.begin()));
    }
    r.tokens = s.tokens;
    requests.push_back(std::move(r));
  }
  return requests;
}

/// The requests together: prompts in random chunks, decodes beside them, up to `most` in a step, in random order.
inline int answer_together(Runner& runner, const std::vector<Request>& requests, std::size_t most,
                           std::mt19937& random) {
  runner.next_block = 0;
  std::vector<Runner::Sequence> open;
  for (const auto& r : requests) open.push_back(runner.start(r.tokens, static_cast<int>(r.tokens.size())));
  int wrong = 0;
  for (;;) {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < open.size(); ++i) {
      if (open[i].done + 1 < static_cast<int>(open[i].tokens.size())) order.push_back(i);
    }
    if (order.empty()) return wrong;
    std::shuffle(order.begin(), order.end(), random);
    order.resize(std::min(order.size(), 1 + static_cast<std::size_t>(random()) % most));
    std::vector<std::pair<Runner::Sequence*, int>> parts;
    int tokens = 0;
    for (std::size_t i : order) {
      const int left = requests[i].prompt - open[i].done;
      const int count = left > 1 ? 1 + static_cast<int>(random() % static_cast<unsigned>(left)) : 1;
      if (tokens + count > 1000) break;
      tokens += count, parts.push_back({&open[i], count});
    }
    order.resize(parts.size());
    const auto logits = runner.step(parts);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const Request& r = requests[order[i]];
      const int at = open[order[i]].done - r.prompt;
      if (at >= 0 && !same(logits[i], r.logits[static_cast<std::size_t>(at)])) ++wrong;
    }
  }
}

/// Alone = among others = in any chunks = one prefill of prompt and output, and = with other kernels for few tokens.
inline void test_random(DeviceModel& model, int vocab, int count, const char* name) {
  std::mt19937 random(17);
  Runner runner{model, vocab};
  const auto requests = answer_alone(runner, count, random);
  for (unsigned fusions : {kDefaultFusions, kDefaultFusions ^ fuse_spread, kDefaultFusions | fuse_everywhere, 0U}) {
    model.use_fusions(fusions);
    for (std::size_t most : {std::size_t{256}, fusions == 0 ? std::size_t{8} : std::size_t{2}}) {
      const int wrong = answer_together(runner, requests, most, random);
      expect(wrong == 0, "%s: %d random requests in steps of up to %zu, fusions %u: other bits %d times", name, count,
             most, fusions, wrong);
    }
    int wrong = 0;
    for (const auto& r : requests) {
      runner.next_block = 0;
      const int length = static_cast<int>(r.tokens.size()) - 1;
      auto s = runner.start(r.tokens, length);
      if (!same(runner.step({{&s, length}})[0], r.logits.back())) ++wrong;
      runner.next_block = 0;
      auto first = runner.start(r.tokens, length);
      if (!same(runner.step({{&first, r.prompt}})[0], r.logits.front())) ++wrong;
    }
    expect(wrong == 0, "%s: prompt with output in one prefill, fusions %u: other bits %d times", name, fusions, wrong);
  }
  model.use_fusions(kDefaultFusions);
}

/// The least that runs every kernel of a step: a prefill, decodes alone and beside another, the same bits.
inline void test_steps(DeviceModel& model, int vocab, const char* name) {
  Runner runner{model, vocab};
  std::vector<int> tokens;
  for (int i = 0; i < 20; ++i) tokens.push_back((i * 37 + 11) % vocab);
  const int length = static_cast<int>(tokens.size());
  auto whole = runner.start(tokens, length), part = runner.start(tokens, length), mate = runner.start(tokens, length);
  const auto last = runner.step({{&whole, length}})[0];
  runner.step({{&part, length - 3}, {&mate, 9}});
  runner.step({{&part, 1}});
  runner.step({{&part, 1}, {&mate, 1}});
  expect(same(runner.step({{&part, 1}})[0], last), "%s: decoded, other bits than in one prefill", name);
}

}  // namespace hp::cuda

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

}  // namespace hp::cuda

// Sampling on the device against the engine's own arithmetic: the same token for any logits, temperature, top-p, min-p.
#include <limits>

#include "base/counter_rng.h"
#include "engine/vocab_scan.h"
#include "gpu_test_support.cuh"
#include "kernels/cuda/sampling.h"

using namespace hp::cuda;

void test_sampling();

namespace {

/// Sampler::draw without top-k (engine/sampler.cpp), over the engine's passes.
int drawn_on_host(const std::vector<float>& row, const RowDraw& d) {
  const auto best = hp::best_of(row);
  if (best.token < 0 || d.temperature <= 0.0F) return best.token;
  hp::WeightRow w;
  hp::weigh(row, best.score, d.temperature, w);
  const double random = hp::uniform_at(d.seed, d.position, d.choice);
  if (d.top_p >= 1.0F && d.min_p <= 0.0F) {
    double left = random * w.total;
    std::size_t b = 0;
    while (b + 1 < w.sums.size() && left >= w.sums[b]) left -= w.sums[b++];
    while (w.sums[b] == 0.0) --b;
    int last = 0;
    for (std::size_t i = b * hp::kWeightBlock; i < (b + 1) * hp::kWeightBlock; ++i) {
      const auto weight = static_cast<double>(w.weights[i]);
      if (weight == 0.0) continue;
      last = static_cast<int>(i);
      if (left < weight) break;
      left -= weight;
    }
    return last;
  }
  std::vector<hp::ScoredToken> kept;
  const double least = (1.0 - static_cast<double>(d.top_p)) * w.total / static_cast<double>(row.size());
  for (std::size_t t = 0; t < row.size(); ++t)
    if (w.weights[t] > 0.0F &&
        (d.top_p >= 1.0F || (static_cast<double>(w.weights[t]) >= least && w.sums[t / hp::kWeightBlock] >= least)))
      kept.push_back({static_cast<int>(t), w.weights[t]});
  if (d.top_p < 1.0F) {
    std::sort(kept.begin(), kept.end(),
              [](const auto& a, const auto& b) { return a.score != b.score ? a.score > b.score : a.token < b.token; });
    double sum = 0.0;
    std::size_t n = 0;
    while (n < kept.size() && (n == 0 || sum < static_cast<double>(d.top_p) * w.total))
      sum += static_cast<double>(kept[n++].score);
    kept.resize(n);
  }
  if (d.min_p > 0.0F)
    kept.erase(
        std::remove_if(kept.begin(), kept.end(), [&](const auto& t) { return t.score < std::min(1.0F, d.min_p); }),
        kept.end());
  double total = 0.0;
  for (const auto& t : kept) total += static_cast<double>(t.score);
  double left = random * total;
  for (const auto& t : kept) {
    if (left < static_cast<double>(t.score)) return t.token;
    left -= static_cast<double>(t.score);
  }
  return kept.back().token;
}

}  // namespace

void test_sampling() {
  std::mt19937_64 random(17);
  std::normal_distribution<float> normal;
  int undecided = 0, wrong = 0, drawn = 0;
  for (int vocab : {129, 1000, 49152, 128256}) {
    constexpr int kRows = 160;
    std::vector<float> logits(static_cast<std::size_t>(kRows) * vocab);
    std::vector<RowDraw> draws;
    for (int r = 0; r < kRows; ++r) {
      const float spread = r % 4 == 0 ? 0.5F : r % 4 == 1 ? 2.0F : r % 4 == 2 ? 5.0F : 12.0F;
      for (int i = 0; i < vocab; ++i) logits[static_cast<std::size_t>(r) * vocab + i] = spread * normal(random);
      float* row = logits.data() + static_cast<std::size_t>(r) * vocab;
      row[r % vocab] = std::numeric_limits<float>::quiet_NaN();
      row[(7 * r + 1) % vocab] = -std::numeric_limits<float>::infinity();
      if (r % 5 == 0) row[100] = row[50] = 40.0F;  // ties
      const float temperatures[] = {0.0F, 0.3F, 0.6F, 1.0F, 1.7F}, tops[] = {1.0F, 0.95F, 0.5F, 1.0F, 0.9F},
                  floors[] = {0.0F, 0.0F, 0.0F, 0.1F, 0.05F};
      draws.push_back({temperatures[r % 5],
                       tops[r / 5 % 5],
                       floors[r / 5 % 5],
                       static_cast<unsigned>(r % 3),
                       random(),
                       random() % 5000,
                       {}});
    }
    auto* on_device = device<float>(logits.size());
    auto* draws_on_device = device<RowDraw>(kRows);
    auto* tokens = device<int>(kRows);
    cudaMemcpy(on_device, logits.data(), logits.size() * 4, cudaMemcpyHostToDevice);
    cudaMemcpy(draws_on_device, draws.data(), draws.size() * sizeof(RowDraw), cudaMemcpyHostToDevice);
    draw_tokens(on_device, draws_on_device, kRows, vocab, tokens, nullptr);
    const auto got = host(tokens, kRows);
    expect(cudaGetLastError() == cudaSuccess, "sampling of %d: %s", vocab, cudaGetErrorString(cudaPeekAtLastError()));
    for (int r = 0; r < kRows; ++r) {
      const std::vector<float> row(logits.begin() + static_cast<std::ptrdiff_t>(r) * vocab,
                                   logits.begin() + static_cast<std::ptrdiff_t>(r + 1) * vocab);
      if (got[r] == kUndecided) {
        ++undecided;
        continue;
      }
      const int wanted = drawn_on_host(row, draws[r]);
      ++drawn;
      if (got[r] == wanted) continue;
      if (++wrong <= 5)
        std::printf("sampling: vocab %d row %d temperature %g top_p %g min_p %g: %d, the host draws %d\n", vocab, r,
                    draws[r].temperature, draws[r].top_p, draws[r].min_p, got[r], wanted);
    }
    for (void* p : {static_cast<void*>(on_device), static_cast<void*>(draws_on_device), static_cast<void*>(tokens)})
      cudaFree(p);
  }
  std::printf("sampling: %d rows drawn as on the host, %d left to it\n", drawn - wrong, undecided);
  expect(wrong == 0, "sampling: %d of %d rows drawn otherwise than on the host", wrong, drawn);
  expect(undecided * 4 < drawn, "sampling: %d of %d rows left to the host", undecided, drawn + undecided);
}

#include "arch/cpu/rounding_pass.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "model/tensor_names.h"

namespace hp {
namespace {

constexpr std::size_t kChunk = 512;               // rows of inputs that are in panels at once
constexpr std::size_t kBlock = 1024;              // columns whose moments are looked at together
constexpr std::size_t kGrid = kFp8Block;          // rows of one grid
constexpr std::size_t kStripeFloats = 4U << 20U;  // of a stripe's weights, or of its outputs
constexpr double kDamping = 0.01;
constexpr double kUsualRows = 64.0;  // rows that what is usual counts as, beside an expert's own
constexpr int kSweeps = 2;           // over the blocks of a matrix that has more than one

std::size_t blocks_of(std::size_t k) {
  return (k + kBlock - 1) / kBlock;
}
/// First column of block b: even blocks, whose bounds no scale crosses.
std::size_t block_begin(std::size_t k, std::size_t b) {
  const std::size_t even = (k + blocks_of(k) - 1) / blocks_of(k);
  return std::min(k, (even + kGrid - 1) / kGrid * kGrid * b);
}

template <typename F>
void for_chunks(std::size_t rows, const F& f) {
  for (std::size_t first = 0; first < rows; first += kChunk) f(first, std::min(kChunk, rows - first));
}

}  // namespace

/// Some rows of the matrix that is gone through.
struct RoundingPass::Stripe {
  std::size_t first = 0, count = 0, k = 0, tokens = 0;
  std::vector<float> weights, rounded;  // [count, k]
  std::vector<float> importance;        // [k]
  std::vector<float> apart;       // by chunks of tokens [count, chunk]: the original's output less the rounded one's
  std::vector<WeightGrid> grids;  // per kGrid rows
  [[nodiscard]] float* apart_of(std::size_t token) { return apart.data() + count * token; }
  [[nodiscard]] const float* apart_of(std::size_t token) const { return apart.data() + count * token; }
};

RoundingPass::RoundingPass(const Checkpoint& checkpoint, const QuantizePlan& plan, const RoundedStore& store,
                           const FloatProducts& products)
    : checkpoint_(checkpoint), plan_(plan), store_(store), products_(products) {
  for (const PlannedTensor& t : plan.tensors) {
    const auto name = canonical_tensor_name(t.source->name);
    if (name && t.storage != WeightStorage::copy) planned_[*name] = &t;
  }
}

Result<RowPair> RoundingPass::make_rows(std::size_t rows, std::size_t width) const {
  RowPair out;
  HP_TRY(out.original, SpilledRows::make(store_.folder(), rows, width));
  if (rounds) {
    HP_TRY(out.rounded, SpilledRows::make(store_.folder(), rows, width));
  }
  return out;
}

bool RoundingPass::to_round(const std::string& name) const {
  const auto found = planned_.find(name);
  return found != planned_.end() && !store_.has(found->second->source->name);
}

std::size_t RoundingPass::stripe_rows(std::size_t rows, std::size_t k) const {
  return std::max(kGrid, kStripeFloats / std::max({rows, k, std::size_t{1}}) / kGrid * kGrid);
}

void RoundingPass::load(const NamedTensor& t, std::size_t first, std::size_t count, std::vector<float>& out) const {
  const auto k = static_cast<std::size_t>(t.view.shape.inner());
  out.resize(count * k);
  products_.run(8 * count * k, [&](int member) {
    const Range own = split_range(count, member, products_.team().size());
    for (std::size_t r = own.begin; r < own.end; ++r)
      kernels::dequantize(t.view.dtype, t.view.data + storage_bytes(t.view.dtype, (first + r) * k), k, &out[r * k]);
  });
}

Status RoundingPass::differences(const CalibratedProduct& p, const RowPair& in, Stripe& s) const {
  s.apart.assign(s.count * s.tokens, 0.0F);
  Status status;
  for_chunks(s.tokens, [&](std::size_t t, std::size_t n) {
    if (!status) return;
    status = products_.pack({.data = in.original.row(t), .row = s.k}, {.data = in.rounded.row(t), .row = s.k}, n, s.k,
                            panels_);
    if (!status) return;
    products_.multiply(s.weights.data(), s.count, panels_, s.apart_of(t), n, false);
    for (std::size_t i = 0; p.add && i < n; ++i) {
      const float *a = p.out->original.row(t + i) + s.first, *b = p.out->rounded.row(t + i) + s.first;
      for (std::size_t r = 0; r < s.count; ++r) s.apart_of(t)[r * n + i] += a[r] - b[r];
    }
    in.original.release();
    in.rounded.release();
  });
  return status;
}

// moved [count, columns]: by how much the weights from column `first` on became less.
Status RoundingPass::add_to_differences(const RowPair& in, std::size_t first, std::size_t columns,
                                        const std::vector<float>& moved, Stripe& s) const {
  Status status;
  for_chunks(s.tokens, [&](std::size_t t, std::size_t n) {
    if (status) status = products_.pack({.data = in.rounded.row(t) + first, .row = s.k}, {}, n, columns, panels_);
    if (status) products_.multiply(moved.data(), s.count, panels_, s.apart_of(t), n, true);
    in.rounded.release();
  });
  return status;
}

Status RoundingPass::originals(const CalibratedProduct& p, const RowPair& in, const Stripe& s) const {
  std::vector<float> outputs;
  Status status;
  for_chunks(s.tokens, [&](std::size_t t, std::size_t n) {
    if (status) status = products_.pack({.data = in.original.row(t), .row = s.k}, {}, n, s.k, panels_);
    if (!status) return;
    outputs.resize(s.count * n);
    products_.multiply(s.weights.data(), s.count, panels_, outputs.data(), n, false);
    for (std::size_t i = 0; i < n; ++i) {
      float* const to = p.out->original.row(t + i) + s.first;
      for (std::size_t r = 0; r < s.count; ++r) {
        const float v = outputs[r * n + i] + (p.bias != nullptr && !p.bias->empty() ? (*p.bias)[s.first + r] : 0.0F);
        to[r] = p.add ? to[r] + v : v;
      }
    }
    in.original.release();
    p.out->original.release();
  });
  return status;
}

void RoundingPass::rounded_outputs(const CalibratedProduct& p, const Stripe& s) const {
  for_chunks(s.tokens, [&](std::size_t t, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      const float* const original = p.out->original.row(t + i) + s.first;
      float* const to = p.out->rounded.row(t + i) + s.first;
      for (std::size_t r = 0; r < s.count; ++r) to[r] = original[r] - s.apart_of(t)[r * n + i];
    }
    p.out->original.release();
    p.out->rounded.release();
  });
}

Result<Moments> RoundingPass::moments(const SpilledRows& rows) const {
  const std::size_t k = rows.width();
  Moments out;
  std::vector<float> columns;
  for (std::size_t b = 0; block_begin(k, b) < k; ++b) {
    const std::size_t first = block_begin(k, b), width = block_begin(k, b + 1) - first;
    std::vector<float>& sum = out.emplace_back(width * width, 0.0F);
    Status status;
    for_chunks(rows.rows(), [&](std::size_t t, std::size_t n) {
      if (status) status = products_.pack({.data = rows.row(t) + first, .row = 1, .column = k}, {}, width, n, panels_);
      if (!status) return;
      columns.resize(width * n);
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t c = 0; c < width; ++c) columns[c * n + i] = rows.row(t + i)[first + c];
      }
      products_.multiply(columns.data(), width, panels_, sum.data(), width, true);
      rows.release();
    });
    if (!status) return fail(std::move(status).error());
  }
  return out;
}

Result<std::vector<ErrorFeedback>> RoundingPass::feedback_of(const ProductInputs& inputs) const {
  HP_TRY(Moments sums, moments(inputs.rows.rounded));
  std::vector<ErrorFeedback> out;
  for (std::size_t b = 0; b < sums.size(); ++b) {
    std::vector<float>& sum = sums[b];
    if (inputs.usual != nullptr && inputs.usual_rows > 0) {
      const auto share = static_cast<float>(kUsualRows / static_cast<double>(inputs.usual_rows));
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += share * (*inputs.usual)[b][i];
    }
    const std::size_t k = block_begin(inputs.rows.rounded.width(), b + 1) - block_begin(inputs.rows.rounded.width(), b);
    HP_TRY(ErrorFeedback feedback, ErrorFeedback::make(sum, k, kDamping, products_));
    out.push_back(std::move(feedback));
    sum = {};
  }
  return out;
}

// Towards the weights that make the outputs equal, as far as the damping lets them move.
Status RoundingPass::round_block(const ProductInputs& inputs, const ErrorFeedback& feedback, std::size_t first,
                                 Stripe& s) const {
  const std::size_t k = feedback.size();
  std::vector<float> residual(s.count * k), target(s.count * k), moved(s.count * k);
  for (std::size_t r = 0; r < s.count; ++r) {
    for (std::size_t c = 0; c < k; ++c) {
      const std::size_t at = r * s.k + first + c;
      residual[r * k + c] = feedback.damped() * (s.weights[at] - s.rounded[at]);
    }
  }
  Status status;
  for_chunks(s.tokens, [&](std::size_t t, std::size_t n) {
    if (status)
      status = products_.pack({.data = inputs.rows.rounded.row(t) + first, .row = 1, .column = s.k}, {}, k, n, panels_);
    if (status) products_.multiply(s.apart_of(t), s.count, panels_, residual.data(), k, true);
    inputs.rows.rounded.release();
  });
  HP_TRY_VOID(status);
  feedback.solve(residual.data(), s.count, target.data());
  products_.run(s.count * k * (k + 64), [&](int member) {
    const Range own = split_range(s.grids.size(), member, products_.team().size());
    for (std::size_t g = own.begin; g < own.end; ++g) {
      const std::size_t row = g * kGrid, rows = std::min(kGrid, s.count - row);
      std::vector<float> wide(rows * s.k);
      for (std::size_t r = row; r < row + rows; ++r) {
        for (std::size_t c = 0; c < k; ++c) {
          const float was = s.rounded[r * s.k + first + c];
          moved[r * k + c] = was;
          target[r * k + c] += was;
          wide[(r - row) * s.k + first + c] = target[r * k + c];
        }
      }
      if (!s.grids[g].whole_rows()) s.grids[g].fit(wide, s.importance, first, first + k);
      feedback.round(std::span(target).subspan(row * k, rows * k), s.grids[g], first, &s.rounded[row * s.k], s.k);
      for (std::size_t r = row; r < row + rows; ++r) {
        for (std::size_t c = 0; c < k; ++c) moved[r * k + c] -= s.rounded[r * s.k + first + c];
      }
    }
  });
  return add_to_differences(inputs.rows, first, k, moved, s);
}

Status RoundingPass::round(const PlannedTensor& t, ProductInputs& inputs, Stripe& s, RoundedWriter& out) const {
  s.rounded = s.weights;
  s.grids.clear();
  for (std::size_t row = 0; row < s.count; row += kGrid) {
    s.grids.emplace_back(t.storage, static_cast<std::int64_t>(s.k), plan_.group);
    s.grids.back().fit(std::span(s.weights).subspan(row * s.k, std::min(kGrid, s.count - row) * s.k), s.importance);
  }
  const int sweeps = inputs.feedback.size() > 1 ? kSweeps : 1;
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    for (std::size_t b = 0; b < inputs.feedback.size(); ++b)
      HP_TRY_VOID(round_block(inputs, inputs.feedback[b], block_begin(s.k, b), s));
  }
  std::vector<std::byte> values, scales;
  for (std::size_t g = 0; g < s.grids.size(); ++g) {
    const std::size_t row = g * kGrid, rows = std::min(kGrid, s.count - row);
    QuantError error;
    for (std::size_t i = row * s.k; i < (row + rows) * s.k; ++i) error.add(s.weights[i], s.rounded[i]);
    values.resize(s.grids[g].value_bytes(rows));
    scales.resize(s.grids[g].scale_bytes(rows));
    s.grids[g].store(std::span(s.rounded).subspan(row * s.k, rows * s.k), values, scales);
    HP_TRY_VOID(out.write(values, scales, error));
  }
  return {};
}

/// What an earlier run has rounded.
Status RoundingPass::take_rounded(const RoundedMatrix& m, const PlannedTensor& t, const RowPair& in, Stripe& s) const {
  WeightGrid grid(t.storage, static_cast<std::int64_t>(s.k), plan_.group);
  s.rounded.resize(s.weights.size());
  grid.load(m.values.subspan(grid.value_bytes(s.first), grid.value_bytes(s.count)),
            m.scales.subspan(grid.scale_bytes(s.first), grid.scale_bytes(s.count)), s.rounded);
  return apply_rounded(in, s);
}

Status RoundingPass::apply_rounded(const RowPair& in, Stripe& s) const {
  std::vector<float> moved(s.weights.size());
  for (std::size_t i = 0; i < moved.size(); ++i) moved[i] = s.weights[i] - s.rounded[i];
  return add_to_differences(in, 0, s.k, moved, s);
}

Status RoundingPass::multiply(const CalibratedProduct& p, ProductInputs& inputs) {
  const NamedTensor* const t = checkpoint_.find(p.name);
  HP_CHECK(t != nullptr, "tensor '{}' has not been checked", p.name);
  const auto found = rounds ? planned_.find(p.name) : planned_.end();
  const PlannedTensor* const planned = found == planned_.end() ? nullptr : found->second;
  const std::size_t tokens = inputs.rows.original.rows();
  std::optional<RoundedMatrix> known;
  std::optional<RoundedWriter> writer;
  if (planned != nullptr && store_.has(planned->source->name)) {
    HP_TRY(known, store_.read(planned->source->name));
  } else if (planned != nullptr) {
    if (tokens == 0 && inputs.usual == nullptr) return {};  // no token of the text met it: it is rounded to nearest
    if (inputs.feedback.empty()) {
      HP_TRY(inputs.feedback, feedback_of(inputs));
    }
    HP_TRY(writer, store_.write(planned->source->name));
  }
  Stripe s;
  s.k = p.k;
  s.tokens = tokens;
  for (std::size_t b = 0; b < inputs.feedback.size(); ++b) {
    const auto strong = inputs.feedback[b].strength();
    s.importance.insert(s.importance.end(), strong.begin(), strong.end());
  }
  for (s.first = 0; s.first < p.n; s.first += s.count) {
    s.count = std::min(stripe_rows(tokens, p.k), p.n - s.first);
    load(*t, s.first, s.count, s.weights);
    if (rounds) HP_TRY_VOID(differences(p, inputs.rows, s));
    if (p.out != nullptr) HP_TRY_VOID(originals(p, inputs.rows, s));
    // Sums of several blocks end in other bits than those of a run that takes the matrix as rounded.
    const std::vector<float> before = inputs.feedback.size() > 1 ? s.apart : std::vector<float>();
    if (writer) HP_TRY_VOID(round(*planned, inputs, s, *writer));
    if (writer && !before.empty()) {
      s.apart = before;
      HP_TRY_VOID(apply_rounded(inputs.rows, s));
    }
    if (known) HP_TRY_VOID(take_rounded(*known, *planned, inputs.rows, s));
    if (rounds && p.out != nullptr) rounded_outputs(p, s);
    if (progress) progress(storage_bytes(t->view.dtype, s.count * p.k));
  }
  checkpoint_.release(*t);
  if (writer) return writer->finish();
  return {};
}

Status RoundingPass::rounded_rows(const std::string& name, const std::vector<std::size_t>& which,
                                  SpilledRows& out) const {
  const NamedTensor* const t = checkpoint_.find(name);
  const auto found = planned_.find(name);
  const auto k = static_cast<std::size_t>(t->view.shape.inner()), n = static_cast<std::size_t>(t->view.shape[0]);
  std::optional<RoundedMatrix> known;
  if (found != planned_.end() && store_.has(found->second->source->name)) {
    HP_TRY(known, store_.read(found->second->source->name));
  }
  std::map<std::size_t, std::vector<std::size_t>> wanted;  // by the grid that they lie in
  for (std::size_t i = 0; i < which.size(); ++i) wanted[which[i] / kGrid].push_back(i);
  std::vector<float> rows;
  for (const auto& [g, places] : wanted) {
    const std::size_t first = g * kGrid, count = std::min(kGrid, n - first);
    load(*t, first, count, rows);
    if (found != planned_.end()) {
      WeightGrid grid(found->second->storage, static_cast<std::int64_t>(k), plan_.group);
      if (known) {
        grid.load(known->values.subspan(grid.value_bytes(first), grid.value_bytes(count)),
                  known->scales.subspan(grid.scale_bytes(first), grid.scale_bytes(count)), rows);
      } else {
        grid.fit(rows);
        for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = grid.nearest(i / k, i % k, rows[i]);
      }
    }
    for (const std::size_t i : places) std::copy_n(&rows[(which[i] - first) * k], k, out.row(i));
  }
  out.release();
  return {};
}

}  // namespace hp

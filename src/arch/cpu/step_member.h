// One member of the team during a step: which rows and panels are its own, and the operations on them. Every part of a
// forward pass (gqa_attention, mla_attention, dense_ffn, moe_ffn) is straight-line code over one of these.
//
// Batch invariance: members share out rows, panels and (sequence, tile, head) items, never a sum; every item's bits
// depend on the item alone. Tiles of queries begin at multiples of kQueryTile, so a split of KV never begins inside
// one. All members run the same code and meet at the barriers.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <span>
#include <utility>

#include "arch/cpu/cpu_model.h"
#include "arch/executor.h"

namespace hp {

inline constexpr std::int32_t kQueryTile = 16;
/// Q8Rows::narrow of what goes into feed-forward products, by what each costs in accuracy (docs/performance.md).
/// Attention's products and the head keep all bits.
inline constexpr float kGateNarrow = 1.5F, kDownNarrow = 2.0F;

class StepMember {
 public:
  StepMember(const CpuModel& model, std::span<const SequenceStep> batch, int index);

  const ModelConfig& config;
  const CpuModel& model;
  const RunState& state;
  const kernels::KernelTable& table;
  const std::span<const SequenceStep> batch;
  const int index;
  std::int32_t rows = 0, logit_rows = 0;  // of the whole step

  struct Rows {
    std::int32_t begin, count;
  };
  /// This member's share of `count` rows.
  [[nodiscard]] Rows mine(std::int32_t count) const;
  [[nodiscard]] Rows mine() const { return mine(rows); }
  void barrier() const { model.team.barrier(); }

  static std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }
  static std::size_t cells(std::int32_t row, std::int32_t width) { return at(row) * at(width); }
  static std::int32_t tokens_of(const SequenceStep& s) { return static_cast<std::int32_t>(s.tokens.size()); }
  static const std::int32_t* block_table(const SequenceStep& s);
  static std::int32_t panels(const kernels::PackedMatrix& w) {
    return (w.n + kernels::kPanelColumns - 1) / kernels::kPanelColumns;
  }

  /// A step of few rows: every member prepares all rows for itself rather than wait for the others.
  [[nodiscard]] bool alone() const { return alone_; }
  /// Rows that this member norms and prepares before a product: all of them when alone(), else its share.
  [[nodiscard]] Rows to_prepare() const { return alone_ ? Rows{0, rows} : mine(); }
  /// Where they are prepared: this member's own room when alone(), else the room of all.
  [[nodiscard]] PreparedRows prepared() const;
  /// Room for the wide activations of a feed-forward block, beside what prepared() gives any member.
  [[nodiscard]] PreparedRows prepared_wide() const;
  [[nodiscard]] float* normed() const;  ///< this member's own when alone()
  /// Lets the others finish what alone() makes unnecessary to wait for.
  void barrier_unless_alone() const {
    if (!alone_) barrier();
  }

  void norm(const float* x, const FloatRow& weight, std::int32_t count, float* out) const;  ///< rows of [*, hidden]
  /// Prepares these rows of x [*, k] into `out` for every kind of operand that the weights want; narrow: see Q8Rows.
  void prepare(const PreparedRows& out, const float* x, Rows range, std::int32_t k,
               std::initializer_list<const kernels::PackedMatrix*> weights, float narrow = 0.0F) const;
  /// This member's panels of every product, each product cut alike in pairs of panels; gives its columns.
  Range multiply_alike(const PreparedRows& prepared, const float* x, std::int32_t count,
                       std::initializer_list<Product> products) const;
  [[nodiscard]] kernels::Operand operand(const PreparedRows& prepared, const float* x, std::int32_t count,
                                         const kernels::PackedMatrix& weight) const;
  /// This member's panels of all products of one operand x [count, k].
  void multiply(const PreparedRows& prepared, const float* x, std::int32_t count,
                std::initializer_list<Product> products) const;
  /// Where products add what they give to x [T, hidden]: x itself, or this rank's part of the sum over all ranks.
  [[nodiscard]] float* outcome() const { return model.ranks == nullptr ? state.x : state.joined; }
  /// After a barrier behind those products: adds the sum over all ranks to x. Nothing without other ranks.
  void join_ranks() const;
  /// data[count] becomes the sum over all ranks; all members call it, after a barrier.
  void sum_over_ranks(float* data, std::size_t count) const;
  /// Keeps the first error: every later exchange gives one too, and the step ends with it.
  void note(Status status) const {
    if (!status && model.state.link) model.state.link = std::move(status);
  }
  [[nodiscard]] kernels::KvView layer_kv(std::int32_t layer) const;  ///< one layer's share of the cache

  /// Calls f(sequence, first row of the piece in the step, first token of the piece, tokens) for this member's rows.
  template <typename F>
  void for_my_rows(const F& f) const {
    const Rows own = mine();
    std::int32_t row = 0;
    for (const SequenceStep& q : batch) {
      const std::int32_t begin = std::max(own.begin, row);
      const std::int32_t end = std::min(own.begin + own.count, row + tokens_of(q));
      if (begin < end) f(q, begin, begin - row, end - begin);
      row += tokens_of(q);
    }
  }

  /// Items (sequence, tile of queries, part) go round the team: f(sequence, first row in the step, first token of the
  /// tile, tokens, part).
  template <typename F>
  void for_my_tiles(std::int32_t parts, const F& f) const {
    int turn = 0;
    std::int32_t row = 0;
    for (const SequenceStep& q : batch) {
      for (std::int32_t first = 0; first < tokens_of(q);) {
        const std::int32_t to_boundary = kQueryTile - (q.position + first) % kQueryTile;
        const std::int32_t count = std::min(to_boundary, tokens_of(q) - first);
        for (std::int32_t part = 0; part < parts; ++part) {
          if (turn == index) f(q, row + first, first, count, part);
          turn = turn + 1 == model.team.active() ? 0 : turn + 1;
        }
        first += count;
      }
      row += tokens_of(q);
    }
  }

 private:
  void run_panels(const PreparedRows& prepared, const float* x, std::int32_t count, const Product& p,
                  std::int32_t begin, std::int32_t end) const;
  /// Values of one row of the narrow operands (normed, attended) in prepared rooms.
  [[nodiscard]] std::size_t narrow_values() const;
  [[nodiscard]] std::size_t wide_values() const;  ///< of all rows of the feed-forward's

  bool alone_ = false;
};

}  // namespace hp

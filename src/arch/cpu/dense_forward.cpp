#include "arch/cpu/dense_forward.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace hp {
namespace {

using kernels::OperandKind;
using kernels::PackedMatrix;

static_assert(sizeof(BlockId) == sizeof(std::int32_t) && std::is_standard_layout_v<BlockId>);

const std::int32_t* block_table(const SequenceStep& s) {
  return reinterpret_cast<const std::int32_t*>(s.blocks.data());
}

std::int32_t tokens_of(const SequenceStep& s) {
  return static_cast<std::int32_t>(s.tokens.size());
}

// A product of the step: weights that share one operand are cut over the team as one long row of panels.
struct Product {
  const PackedMatrix& weight;
  const FloatRow* bias;
  float* out;
  bool accumulate = false;
};

const float* or_null(const FloatRow& row) {
  return row.empty() ? nullptr : row.data();
}

// What one member does in a step. All members run the same code and meet at the barriers.
class Member {
 public:
  Member(const DenseModel& model, std::span<const SequenceStep> batch, int index)
      : c_(model.config), m_(model), s_(model.state), t_(model.table), batch_(batch), index_(index) {
    for (const SequenceStep& q : batch) {
      rows_ += tokens_of(q);
      logit_rows_ += q.logit_rows;
    }
  }

  void run() {
    embed();
    for (std::int32_t l = 0; l < c_.layers; ++l) layer(m_.weights.layers[at(l)], l);
    logits();
  }

 private:
  static std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }
  static std::size_t cells(std::int32_t row, std::int32_t width) { return at(row) * at(width); }
  void barrier() { m_.team.barrier(); }

  struct Rows {
    std::int32_t begin, count;
  };
  [[nodiscard]] Rows my_rows(std::int32_t rows) const {
    const Range r = split_range(at(rows), index_, m_.team.size());
    return {static_cast<std::int32_t>(r.begin), static_cast<std::int32_t>(r.end - r.begin)};
  }

  // Calls f(sequence, first row of the piece in the step, first token of the piece, tokens) for this member's rows.
  template <typename F>
  void for_my_rows(const F& f) const {
    const Rows mine = my_rows(rows_);
    std::int32_t row = 0;
    for (const SequenceStep& q : batch_) {
      const std::int32_t begin = std::max(mine.begin, row);
      const std::int32_t end = std::min(mine.begin + mine.count, row + tokens_of(q));
      if (begin < end) f(q, begin, begin - row, end - begin);
      row += tokens_of(q);
    }
  }

  void embed() {
    for_my_rows([&](const SequenceStep& q, std::int32_t row, std::int32_t first, std::int32_t count) {
      for (std::int32_t i = 0; i < count; ++i) {
        t_.unpack_row(m_.weights.embedding, q.tokens[at(first + i)], s_.x + cells(row + i, c_.hidden));
      }
    });
  }

  void norm(const float* x, const FloatRow& weight, std::int32_t rows, float* out) const {
    if (rows == 0) return;
    t_.rms_norm(x, at(c_.hidden), weight.data(), c_.rms_eps, rows, c_.hidden, out, at(c_.hidden));
  }

  // Prepares these rows of x [*, k] for every kind of operand that the weights want.
  void prepare(const float* x, Rows rows, std::int32_t k, std::initializer_list<const PackedMatrix*> weights) const {
    if (rows.count == 0) return;
    bool bf16 = false, q8 = false;
    for (const PackedMatrix* w : weights) {
      bf16 |= t_.operand_kind(w->source) == OperandKind::bf16;
      q8 |= t_.operand_kind(w->source) == OperandKind::q8;
    }
    const std::size_t first = cells(rows.begin, k), groups = cells(rows.begin, k / kernels::kQuantGroup);
    if (bf16) t_.to_bf16(x + first, rows.count, k, s_.bf16 + first);
    if (q8) t_.to_q8(x + first, rows.count, k, s_.q8 + first, s_.q8_scale + groups, s_.q8_sum + groups);
  }

  // This member's panels of all products of one operand x [rows, k].
  void multiply(const float* x, std::int32_t rows, std::initializer_list<Product> products) const {
    std::int32_t total = 0;
    for (const Product& p : products) total += panels(p.weight);
    const Range mine = split_range(at(total), index_, m_.team.size());
    std::int32_t base = 0;
    for (const Product& p : products) {
      const std::int32_t begin = std::max(static_cast<std::int32_t>(mine.begin) - base, 0);
      const std::int32_t end = std::min(static_cast<std::int32_t>(mine.end) - base, panels(p.weight));
      base += panels(p.weight);
      if (begin >= end || rows == 0) continue;
      t_.matmul({.operand = operand(x, rows, p.weight),
                 .m = rows,
                 .weight = p.weight,
                 .bias = p.bias == nullptr ? nullptr : or_null(*p.bias),
                 .out = p.out,
                 .out_stride = at(p.weight.n),
                 .accumulate = p.accumulate,
                 .panel_begin = begin,
                 .panel_end = end});
    }
  }

  static std::int32_t panels(const PackedMatrix& w) {
    return (w.n + kernels::kPanelColumns - 1) / kernels::kPanelColumns;
  }

  [[nodiscard]] kernels::Operand operand(const float* x, std::int32_t rows, const PackedMatrix& weight) const {
    return {.kind = t_.operand_kind(weight.source),
            .rows = rows,
            .k = weight.k,
            .f32 = x,
            .bf16 = s_.bf16,
            .q8 = s_.q8,
            .q8_scale = s_.q8_scale,
            .q8_sum = s_.q8_sum};
  }

  void layer(const DenseLayer& w, std::int32_t index) {
    const Rows mine = my_rows(rows_);
    const std::size_t first = cells(mine.begin, c_.hidden);
    norm(s_.x + first, w.attn_norm, mine.count, s_.normed + first);
    prepare(s_.normed, mine, c_.hidden, {&w.q, &w.k, &w.v});
    barrier();
    multiply(s_.normed, rows_, {{w.q, &w.q_bias, s_.q}, {w.k, &w.k_bias, s_.k}, {w.v, &w.v_bias, s_.v}});
    barrier();
    kernels::KvView kv = m_.kv;
    kv.base += at(index) * s_.layer_kv_bytes;
    rotate_and_store(w, kv);
    barrier();
    attend(kv);
    barrier();
    prepare(s_.attended, mine, c_.heads * c_.v_head_dim, {&w.o});
    barrier();
    multiply(s_.attended, rows_, {{w.o, nullptr, s_.x, true}});
    barrier();
    norm(s_.x + first, w.ffn_norm, mine.count, s_.normed + first);
    prepare(s_.normed, mine, c_.hidden, {&w.gate, &w.up});
    barrier();
    multiply(s_.normed, rows_, {{w.gate, nullptr, s_.gate}, {w.up, nullptr, s_.up}});
    barrier();
    const std::size_t wide = cells(mine.begin, c_.ffn);
    if (mine.count > 0) t_.swiglu(s_.gate + wide, s_.up + wide, cells(mine.count, c_.ffn), s_.act + wide);
    prepare(s_.act, mine, c_.ffn, {&w.down});
    barrier();
    multiply(s_.act, rows_, {{w.down, nullptr, s_.x, true}});
    barrier();
  }

  void rotate(float* heads_row, const FloatRow& norm_weight, std::int32_t heads, std::int32_t position) const {
    if (!norm_weight.empty()) {
      t_.rms_norm(heads_row, at(c_.head_dim), norm_weight.data(), c_.rms_eps, heads, c_.head_dim, heads_row,
                  at(c_.head_dim));
    }
    t_.rope(heads_row, heads, c_.head_dim, 0, c_.rope.dims, c_.rope.layout == RopeLayout::interleaved,
            m_.rope.cos_at(position), m_.rope.sin_at(position));
  }

  void rotate_and_store(const DenseLayer& w, const kernels::KvView& kv) const {
    const std::int32_t q_width = c_.heads * c_.head_dim, k_width = c_.kv_heads * c_.head_dim,
                       v_width = c_.kv_heads * c_.v_head_dim;
    for_my_rows([&](const SequenceStep& q, std::int32_t row, std::int32_t first, std::int32_t count) {
      for (std::int32_t i = 0; i < count; ++i) {
        rotate(s_.q + cells(row + i, q_width), w.q_norm, c_.heads, q.position + first + i);
        rotate(s_.k + cells(row + i, k_width), w.k_norm, c_.kv_heads, q.position + first + i);
      }
      t_.kv_write({.kv = kv,
                   .blocks = block_table(q),
                   .position = q.position + first,
                   .tokens = count,
                   .k = s_.k + cells(row, k_width),
                   .v = s_.v + cells(row, v_width),
                   .k_stride = at(k_width),
                   .v_stride = at(v_width)});
    });
  }

  // Items (sequence, tile, kv head) go round the team.
  void attend(const kernels::KvView& kv) const {
    int turn = 0;
    std::int32_t row = 0;
    for (const SequenceStep& q : batch_) {
      for (std::int32_t first = 0; first < tokens_of(q);) {
        const std::int32_t to_boundary = kQueryTile - (q.position + first) % kQueryTile;
        const std::int32_t count = std::min(to_boundary, tokens_of(q) - first);
        for (std::int32_t head = 0; head < c_.kv_heads; ++head) {
          if (turn == index_) attend_tile(kv, q, row, first, count, head);
          turn = turn + 1 == m_.team.size() ? 0 : turn + 1;
        }
        first += count;
      }
      row += tokens_of(q);
    }
  }

  void attend_tile(const kernels::KvView& kv, const SequenceStep& q, std::int32_t row, std::int32_t first,
                   std::int32_t count, std::int32_t head) const {
    kernels::AttentionArgs args = widest_attention(c_, kv, q.position + first + count);
    args.blocks = block_table(q);
    args.position = q.position + first;
    args.tokens = count;
    args.kv_head = head;
    args.q = s_.q + cells(row + first, c_.heads * c_.head_dim);
    args.out = s_.attended + cells(row + first, c_.heads * c_.v_head_dim);
    args.scratch = s_.scratch + at(index_) * s_.scratch_stride;
    t_.attention(args);
  }

  void logits() {
    std::int32_t row = 0, out = 0;
    const Rows mine = my_rows(logit_rows_);
    for (const SequenceStep& q : batch_) {
      row += tokens_of(q);
      for (std::int32_t i = q.logit_rows; i > 0; --i, ++out) {
        if (out < mine.begin || out >= mine.begin + mine.count) continue;
        norm(s_.x + cells(row - i, c_.hidden), m_.weights.output_norm, 1, s_.normed + cells(out, c_.hidden));
      }
    }
    prepare(s_.normed, mine, c_.hidden, {&m_.weights.head});
    barrier();
    multiply(s_.normed, logit_rows_, {{m_.weights.head, nullptr, s_.logits}});
  }

  const ModelConfig& c_;
  const DenseModel& m_;
  const RunState& s_;
  const kernels::KernelTable& t_;
  std::span<const SequenceStep> batch_;
  int index_;
  std::int32_t rows_ = 0, logit_rows_ = 0;
};

}  // namespace

kernels::AttentionArgs widest_attention(const ModelConfig& config, const kernels::KvView& kv, std::int32_t context) {
  kernels::AttentionArgs args;
  args.kv = kv;
  args.position = std::max(context - kQueryTile, 0);
  args.tokens = std::min(kQueryTile, context);
  args.heads = config.heads;
  args.scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim));
  args.q_stride = static_cast<std::size_t>(config.heads) * static_cast<std::size_t>(config.head_dim);
  args.out_stride = static_cast<std::size_t>(config.heads) * static_cast<std::size_t>(config.v_head_dim);
  args.split_end = (context + kernels::kKvSplitTokens - 1) / kernels::kKvSplitTokens;
  return args;
}

void dense_forward(const DenseModel& model, std::span<const SequenceStep> batch) {
  model.team.run([&](int member) { Member(model, batch, member).run(); });
}

}  // namespace hp

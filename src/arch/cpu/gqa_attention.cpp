#include "arch/cpu/gqa_attention.h"

namespace hp {
namespace {

void rotate(const StepMember& m, float* heads_row, const FloatRow& norm_weight, std::int32_t heads,
            std::int32_t position) {
  const ModelConfig& c = m.config;
  if (!norm_weight.empty()) {
    const auto stride = StepMember::at(c.head_dim);
    m.table.rms_norm(heads_row, stride, norm_weight.data(), c.rms_eps, heads, c.head_dim, heads_row, stride);
  }
  m.table.rope(heads_row, heads, c.head_dim, 0, c.rope.dims, c.rope.layout == RopeLayout::interleaved,
               m.model.rope.cos_at(position), m.model.rope.sin_at(position));
}

void rotate_and_store(const StepMember& m, const GqaWeights& w, const kernels::KvView& kv) {
  const ModelConfig& c = m.config;
  const RunState& s = m.state;
  const std::int32_t q_width = c.heads * c.head_dim, k_width = c.kv_heads * c.head_dim,
                     v_width = c.kv_heads * c.v_head_dim;
  m.for_my_rows([&](const SequenceStep& q, std::int32_t row, std::int32_t first, std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i) {
      rotate(m, s.q + m.cells(row + i, q_width), w.q_norm, c.heads, q.position + first + i);
      rotate(m, s.k + m.cells(row + i, k_width), w.k_norm, c.kv_heads, q.position + first + i);
    }
    m.table.kv_write({.kv = kv,
                      .blocks = StepMember::block_table(q),
                      .position = q.position + first,
                      .tokens = count,
                      .k = s.k + m.cells(row, k_width),
                      .v = s.v + m.cells(row, v_width),
                      .k_stride = m.at(k_width),
                      .v_stride = m.at(v_width)});
  });
}

/// Attention of `count` queries of one sequence and one kv head, from row `row` of the step on.
void attend_tile(const StepMember& m, const kernels::KvView& kv, const SequenceStep& q, std::int32_t row,
                 std::int32_t first, std::int32_t count, std::int32_t head) {
  const ModelConfig& c = m.config;
  kernels::AttentionArgs args = widest_gqa_attention(c, kv, q.position + first + count);
  args.blocks = StepMember::block_table(q);
  args.position = q.position + first;
  args.tokens = count;
  args.kv_head = head;
  args.q = m.state.q + m.cells(row, c.heads * c.head_dim);
  args.out = m.state.attended + m.cells(row, c.heads * c.v_head_dim);
  args.scratch = m.state.scratch + static_cast<std::size_t>(m.index) * m.state.scratch_stride;
  m.table.attention(args);
}

/// One token's share of one kv head, all of it: rotation, KV write, attention. Touches no other head's rows.
void attend_single(const StepMember& m, const GqaWeights& w, const kernels::KvView& kv, const SequenceStep& q,
                   std::int32_t row, std::int32_t head) {
  const ModelConfig& c = m.config;
  const RunState& s = m.state;
  const std::int32_t k_width = c.kv_heads * c.head_dim, v_width = c.kv_heads * c.v_head_dim;
  const std::int32_t group = c.heads / c.kv_heads;
  float* k = s.k + m.cells(row, k_width);
  rotate(m, s.q + m.cells(row, c.heads * c.head_dim) + m.cells(head * group, c.head_dim), w.q_norm, group, q.position);
  rotate(m, k + m.cells(head, c.head_dim), w.k_norm, 1, q.position);
  m.table.kv_write({.kv = kv,
                    .blocks = StepMember::block_table(q),
                    .position = q.position,
                    .tokens = 1,
                    .k = k,
                    .v = s.v + m.cells(row, v_width),
                    .k_stride = m.at(k_width),
                    .v_stride = m.at(v_width),
                    .head_begin = head,
                    .head_end = head + 1});
  attend_tile(m, kv, q, row, 0, 1, head);
}

void attend(const StepMember& m, const GqaWeights& w, const kernels::KvView& kv) {
  const std::int32_t heads = m.config.kv_heads;
  if (m.rows == static_cast<std::int32_t>(m.batch.size())) {  // one token each: nobody waits for another's KV
    m.for_my_tiles(heads, [&](const SequenceStep& q, std::int32_t row, std::int32_t, std::int32_t, std::int32_t head) {
      attend_single(m, w, kv, q, row, head);
    });
    return;
  }
  rotate_and_store(m, w, kv);
  m.barrier();
  m.for_my_tiles(heads, [&](const SequenceStep& q, std::int32_t row, std::int32_t first, std::int32_t count,
                            std::int32_t head) { attend_tile(m, kv, q, row, first, count, head); });
}

}  // namespace

void gqa_attention(const StepMember& m, const FloatRow& norm, const GqaWeights& w, std::int32_t layer) {
  const ModelConfig& c = m.config;
  const RunState& s = m.state;
  const StepMember::Rows rows = m.to_prepare();
  const std::size_t first = m.cells(rows.begin, c.hidden);
  m.norm(s.x + first, norm, rows.count, m.normed() + first);
  m.prepare(m.prepared(), m.normed(), rows, c.hidden, {&w.q, &w.k, &w.v});
  m.barrier_unless_alone();
  m.multiply(m.prepared(), m.normed(), m.rows, {{w.q, &w.q_bias, s.q}, {w.k, &w.k_bias, s.k}, {w.v, &w.v_bias, s.v}});
  m.barrier();
  attend(m, w, m.layer_kv(layer));
  m.barrier();
  m.prepare(m.prepared(), s.attended, rows, c.heads * c.v_head_dim, {&w.o});
  m.barrier_unless_alone();
  m.multiply(m.prepared(), s.attended, m.rows, {{w.o, nullptr, m.outcome(), true}});
  m.barrier();
  m.join_ranks();
}

kernels::AttentionArgs widest_gqa_attention(const ModelConfig& config, const kernels::KvView& kv,
                                            std::int32_t context) {
  kernels::AttentionArgs args;
  args.kv = kv;
  args.position = std::max(context - kQueryTile, 0);
  args.tokens = std::min(kQueryTile, context);
  args.heads = config.heads;
  args.scale = static_cast<float>(attention_scale(config));
  args.q_stride = StepMember::cells(config.heads, config.head_dim);
  args.out_stride = StepMember::cells(config.heads, config.v_head_dim);
  args.split_end = (context + kernels::kKvSplitTokens - 1) / kernels::kKvSplitTokens;
  return args;
}

}  // namespace hp

#include "arch/cpu/forward.h"

#include "arch/cpu/dense_ffn.h"
#include "arch/cpu/gqa_attention.h"

namespace hp {
namespace {

void embed(const StepMember& m) {
  m.for_my_rows([&](const SequenceStep& q, std::int32_t row, std::int32_t first, std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i) {
      m.table.unpack_row(m.model.weights.embedding, q.tokens[m.at(first + i)],
                         m.state.x + m.cells(row + i, m.config.hidden));
    }
  });
}

void logits(const StepMember& m) {
  const RunState& s = m.state;
  const ModelWeights& w = m.model.weights;
  const std::int32_t hidden = m.config.hidden;
  std::int32_t row = 0, out = 0;
  const StepMember::Rows mine = m.mine(m.logit_rows);
  for (const SequenceStep& q : m.batch) {
    row += StepMember::tokens_of(q);
    for (std::int32_t i = q.logit_rows; i > 0; --i, ++out) {
      if (out < mine.begin || out >= mine.begin + mine.count) continue;
      m.norm(s.x + m.cells(row - i, hidden), w.output_norm, 1, s.normed + m.cells(out, hidden));
    }
  }
  m.prepare(s.prepared, s.normed, mine, hidden, {&w.head});
  m.barrier();
  m.multiply(s.prepared, s.normed, m.logit_rows, {{w.head, nullptr, s.logits}});
}

void run(const StepMember& m) {
  embed(m);
  for (std::int32_t l = 0; l < m.config.layers; ++l) {
    const LayerWeights& w = m.model.weights.layers[m.at(l)];
    gqa_attention(m, w.attn_norm, w.gqa, l);
    dense_ffn(m, w.ffn_norm, w.ffn);
  }
  logits(m);
}

}  // namespace

void forward(const CpuModel& model, std::span<const SequenceStep> batch) {
  model.team.run([&](int member) { run(StepMember(model, batch, member)); });
}

kernels::AttentionArgs widest_attention(const ModelConfig& config, const kernels::KvView& kv, std::int32_t context) {
  return widest_gqa_attention(config, kv, context);
}

}  // namespace hp

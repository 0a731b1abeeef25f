#include "arch/cpu/dense_ffn.h"

namespace hp {

void dense_ffn(const StepMember& m, const FloatRow& norm, const FfnWeights& w) {
  const ModelConfig& c = m.config;
  const RunState& s = m.state;
  const StepMember::Rows rows = m.to_prepare();
  const std::size_t first = m.cells(rows.begin, c.hidden);
  m.norm(s.x + first, norm, rows.count, m.normed() + first);
  m.prepare(m.prepared(), m.normed(), rows, c.hidden, {&w.gate, &w.up}, kGateNarrow);
  m.barrier_unless_alone();
  // The same columns of gate and up: a member goes on to its activations without waiting for the others.
  const Range columns =
      m.multiply_alike(m.prepared(), m.normed(), m.rows, {{w.gate, nullptr, s.gate}, {w.up, nullptr, s.up}});
  for (std::int32_t r = 0; r < m.rows; ++r) {
    const std::size_t at = m.cells(r, c.ffn) + columns.begin;
    m.table.swiglu(s.gate + at, s.up + at, columns.end - columns.begin, s.act + at);
  }
  m.barrier();
  // Rounding looks at whole rows, so the columns of the others must be there.
  m.prepare(m.prepared_wide(), s.act, rows, c.ffn, {&w.down}, kDownNarrow);
  m.barrier_unless_alone();
  m.multiply(m.prepared_wide(), s.act, m.rows, {{w.down, nullptr, m.outcome(), true}});
  m.barrier();
  m.join_ranks();
}

}  // namespace hp

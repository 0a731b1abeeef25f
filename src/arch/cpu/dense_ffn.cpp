#include "arch/cpu/dense_ffn.h"

namespace hp {

void dense_ffn(const StepMember& m, const FloatRow& norm, const FfnWeights& w) {
  const ModelConfig& c = m.config;
  const RunState& s = m.state;
  const StepMember::Rows mine = m.mine();
  const std::size_t first = m.cells(mine.begin, c.hidden);
  m.norm(s.x + first, norm, mine.count, s.normed + first);
  m.prepare(s.prepared, s.normed, mine, c.hidden, {&w.gate, &w.up});
  m.barrier();
  m.multiply(s.prepared, s.normed, m.rows, {{w.gate, nullptr, s.gate}, {w.up, nullptr, s.up}});
  m.barrier();
  const std::size_t wide = m.cells(mine.begin, c.ffn);
  if (mine.count > 0) m.table.swiglu(s.gate + wide, s.up + wide, m.cells(mine.count, c.ffn), s.act + wide);
  m.prepare(s.prepared, s.act, mine, c.ffn, {&w.down});
  m.barrier();
  m.multiply(s.prepared, s.act, m.rows, {{w.down, nullptr, s.x, true}});
  m.barrier();
}

}  // namespace hp

#include "arch/cpu/moe_ffn.h"

#include "arch/cpu/moe_router.h"

namespace hp {
namespace {

using kernels::PackedMatrix;

/// Rows that cost as much as reading a panel once does.
constexpr std::size_t kReadCost = 4;

std::size_t slots_of(const StepMember& m) {
  return m.cells(m.rows, m.config.moe->experts_per_token);
}

void score_and_choose(const StepMember& m, const MoeWeights& w) {
  const MoeConfig& c = *m.config.moe;
  const RunState& s = m.state;
  const auto experts = m.at(c.experts), used = m.at(c.experts_per_token);
  const StepMember::Rows mine = m.mine();
  for (std::int32_t t = mine.begin; t < mine.begin + mine.count; ++t) {
    float* const scores = s.scores + m.at(t) * 2 * experts;
    route_token(c, w.score_bias, {scores, experts}, {scores + experts, experts},
                {s.route.expert + m.at(t) * used, used}, {s.slot_weight + m.at(t) * used, used});
  }
}

// One member does this: a counting sort of the (token, expert) pairs.
void group_by_expert(const StepMember& m) {
  const MoeConfig& c = *m.config.moe;
  const ExpertRoute& r = m.state.route;
  const std::size_t slots = slots_of(m);
  std::fill_n(r.first_slot, m.at(c.experts) + 1, 0);
  for (std::size_t i = 0; i < slots; ++i) ++r.first_slot[m.at(r.expert[i]) + 1];
  for (std::int32_t e = 0; e < c.experts; ++e) r.first_slot[e + 1] += r.first_slot[e];
  // The starts move up while slots are given out and end as the next expert's; then they are put back.
  for (std::size_t i = 0; i < slots; ++i) {
    r.slot[i] = r.first_slot[r.expert[i]]++;
    r.row[r.slot[i]] = static_cast<std::int32_t>(i / m.at(c.experts_per_token));
  }
  for (std::int32_t e = c.experts; e > 0; --e) r.first_slot[e] = r.first_slot[e - 1];
  r.first_slot[0] = 0;
}

// Calls f(expert, first slot, rows, panel_begin, panel_end) for this member's share of all experts that have rows. The
// cut only decides who computes a panel.
template <typename F>
void for_my_expert_panels(const StepMember& m, std::int32_t panels, const F& f) {
  const ExpertRoute& r = m.state.route;
  const std::int32_t experts = m.config.moe->experts;
  const auto cost = [&](std::int32_t e) {
    const std::int32_t rows = r.first_slot[e + 1] - r.first_slot[e];
    return rows == 0 ? 0 : kReadCost + m.at(rows);
  };
  std::size_t total = 0;
  for (std::int32_t e = 0; e < experts; ++e) total += cost(e) * m.at(panels);
  const Range own = split_range(total, m.index, m.model.team.active());
  std::size_t base = 0;
  for (std::int32_t e = 0; e < experts && base < own.end; ++e) {
    const std::size_t each = cost(e);
    if (each == 0) continue;
    // A panel belongs to the member in whose range it starts.
    const auto first_from = [&](std::size_t at) {
      return std::min(at <= base ? 0 : (at - base + each - 1) / each, m.at(panels));
    };
    const auto begin = static_cast<std::int32_t>(first_from(own.begin)),
               end = static_cast<std::int32_t>(first_from(own.end));
    if (begin < end) f(e, r.first_slot[e], r.first_slot[e + 1] - r.first_slot[e], begin, end);
    base += each * m.at(panels);
  }
}

void experts_gate_up(const StepMember& m, const MoeWeights& w) {
  const RunState& s = m.state;
  const std::int32_t ffn = m.config.moe->expert_ffn;
  for_my_expert_panels(m, StepMember::panels(w.experts.front().gate),
                       [&](std::int32_t e, std::int32_t slot, std::int32_t rows, std::int32_t begin, std::int32_t end) {
                         const FfnWeights& expert = w.experts[m.at(e)];
                         const auto multiply = [&](const PackedMatrix& weight, float* out) {
                           kernels::Operand operand = m.operand(s.prepared, s.normed, m.rows, weight);
                           operand.row_ids = s.route.row + slot;
                           m.table.matmul({.operand = operand,
                                           .m = rows,
                                           .weight = weight,
                                           .out = out + m.cells(slot, ffn),
                                           .out_stride = m.at(ffn),
                                           .panel_begin = begin,
                                           .panel_end = end});
                         };
                         multiply(expert.gate, s.gate);
                         multiply(expert.up, s.up);
                       });
}

void experts_down(const StepMember& m, const MoeWeights& w, const kernels::Operand& acts) {
  const RunState& s = m.state;
  const std::int32_t hidden = m.config.hidden;
  for_my_expert_panels(m, StepMember::panels(w.experts.front().down),
                       [&](std::int32_t e, std::int32_t slot, std::int32_t rows, std::int32_t begin, std::int32_t end) {
                         // The operand's rows are the slots themselves: start at this expert's first.
                         kernels::Operand operand = acts;
                         const std::size_t values = m.cells(slot, acts.k),
                                           groups = m.cells(slot, acts.k / kernels::kQuantGroup);
                         operand.rows = rows;
                         operand.f32 += values;
                         operand.bf16 += values;
                         operand.q8 += groups * static_cast<std::size_t>(kernels::kQuantGroupBytes);
                         operand.q8_scale += groups;
                         operand.q8_sum += groups;
                         operand.q8_isum += groups;
                         m.table.matmul({.operand = operand,
                                         .m = rows,
                                         .weight = w.experts[m.at(e)].down,
                                         .out = s.expert_out + m.cells(slot, hidden),
                                         .out_stride = m.at(hidden),
                                         .panel_begin = begin,
                                         .panel_end = end});
                       });
}

// silu(gate) · up of this member's slots and shared rows, prepared for the down products.
void activate(const StepMember& m, const MoeWeights& w, float* shared_gate, float* shared_up, float* shared_act) {
  const MoeConfig& c = *m.config.moe;
  const RunState& s = m.state;
  const StepMember::Rows mine = m.mine(), slots = m.mine(static_cast<std::int32_t>(slots_of(m)));
  const std::size_t first = m.cells(slots.begin, c.expert_ffn);
  if (slots.count > 0) m.table.swiglu(s.gate + first, s.up + first, m.cells(slots.count, c.expert_ffn), s.act + first);
  m.prepare(s.prepared, s.act, slots, c.expert_ffn, {&w.experts.front().down});
  if (!w.shared.has_value() || mine.count == 0) return;
  const std::int32_t ffn = w.shared->down.k;
  const std::size_t at = m.cells(mine.begin, ffn);
  m.table.swiglu(shared_gate + at, shared_up + at, m.cells(mine.count, ffn), shared_act + at);
  m.prepare(s.prepared_shared, shared_act, mine, ffn, {&w.shared->down});
}

// x, or this rank's part of what is added to it, += Σ weight · output over the token's experts, in ascending order.
void combine(const StepMember& m) {
  const RunState& s = m.state;
  const auto hidden = m.at(m.config.hidden), used = m.at(m.config.moe->experts_per_token);
  const StepMember::Rows mine = m.mine();
  for (std::size_t t = m.at(mine.begin); t < m.at(mine.begin + mine.count); ++t) {
    float* const x = m.outcome() + t * hidden;
    for (std::size_t i = t * used; i < (t + 1) * used; ++i) {
      const float* const out = s.expert_out + m.at(s.route.slot[i]) * hidden;
      const float weight = s.slot_weight[i];
      for (std::size_t d = 0; d < hidden; ++d) x[d] += weight * out[d];
    }
  }
}

}  // namespace

void moe_ffn(const StepMember& m, const FloatRow& norm, const MoeWeights& w) {
  const ModelConfig& c = m.config;
  const RunState& s = m.state;
  const StepMember::Rows mine = m.mine();
  const FfnWeights& expert = w.experts.front();
  const std::size_t first = m.cells(mine.begin, c.hidden), behind = slots_of(m) * m.at(c.moe->expert_ffn);
  float *const shared_gate = s.gate + behind, *const shared_up = s.up + behind, *const shared_act = s.act + behind;
  m.norm(s.x + first, norm, mine.count, s.normed + first);
  const FfnWeights& shared = w.shared.has_value() ? *w.shared : expert;
  m.prepare(s.prepared, s.normed, mine, c.hidden, {&w.router, &expert.gate, &expert.up, &shared.gate, &shared.up},
            kGateNarrow);
  m.barrier();
  const Range panels = split_range(m.at(StepMember::panels(w.router)), m.index, m.model.team.active());
  if (panels.begin < panels.end && m.rows > 0)
    m.table.matmul({.operand = m.operand(s.prepared, s.normed, m.rows, w.router),
                    .m = m.rows,
                    .weight = w.router,
                    .out = s.scores,
                    .out_stride = m.at(c.moe->experts) * 2,
                    .panel_begin = static_cast<std::int32_t>(panels.begin),
                    .panel_end = static_cast<std::int32_t>(panels.end)});
  m.barrier();
  score_and_choose(m, w);
  m.barrier();
  if (m.index == 0) group_by_expert(m);
  m.barrier();
  experts_gate_up(m, w);
  if (w.shared.has_value())
    m.multiply(s.prepared, s.normed, m.rows, {{shared.gate, nullptr, shared_gate}, {shared.up, nullptr, shared_up}});
  m.barrier();
  activate(m, w, shared_gate, shared_up, shared_act);
  m.barrier();
  experts_down(m, w, m.operand(s.prepared, s.act, static_cast<std::int32_t>(slots_of(m)), expert.down));
  if (w.shared.has_value())
    m.multiply(s.prepared_shared, shared_act, m.rows, {{shared.down, nullptr, m.outcome(), true}});
  m.barrier();
  combine(m);
  m.barrier();
  m.join_ranks();
}

}  // namespace hp

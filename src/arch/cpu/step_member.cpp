#include "arch/cpu/step_member.h"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace hp {

using kernels::OperandKind;
using kernels::PackedMatrix;

namespace {

// Rows that a member prepares faster than it meets the others: a norm and a preparation cost about a microsecond.
constexpr std::int32_t kAloneRows = 4;

constexpr std::size_t kGroup = static_cast<std::size_t>(kernels::kQuantGroup);

std::size_t whole_groups(std::size_t values) {
  return (values + kGroup - 1) / kGroup * kGroup;
}

/// The same arrays `values` further on, a multiple of 32.
PreparedRows shifted(PreparedRows p, std::size_t values) {
  const std::size_t groups = values / kGroup;
  if (p.bf16 != nullptr) p.bf16 += values;
  if (p.q8.q == nullptr) return p;
  p.q8.q += groups * static_cast<std::size_t>(kernels::kQuantGroupBytes);
  p.q8.scale += groups;
  p.q8.sum += groups;
  p.q8.isum += groups;
  return p;
}

}  // namespace

static_assert(sizeof(BlockId) == sizeof(std::int32_t) && std::is_standard_layout_v<BlockId>);

StepMember::StepMember(const CpuModel& m, std::span<const SequenceStep> steps, int member)
    : config(m.config), model(m), state(m.state), table(m.table), batch(steps), index(member) {
  for (const SequenceStep& q : batch) {
    rows += tokens_of(q);
    logit_rows += q.logit_rows;
  }
  const std::size_t own = at(rows) * narrow_values() * at(m.team.active());
  const std::size_t room = std::min(state.prepared_values, state.prepared_groups * kGroup);
  alone_ = rows <= kAloneRows && rows * m.team.active() <= state.rows_room &&
           own + wide_values() * at(m.team.active()) <= room;
}

std::size_t StepMember::narrow_values() const {
  return whole_groups(at(std::max(config.hidden, config.heads * config.v_head_dim)));
}

std::size_t StepMember::wide_values() const {
  return whole_groups(cells(rows, config.ffn));
}

PreparedRows StepMember::prepared() const {
  return alone_ ? shifted(state.prepared, at(index) * at(rows) * narrow_values()) : state.prepared;
}

PreparedRows StepMember::prepared_wide() const {
  const std::size_t members = alone_ ? at(model.team.active()) : 1;
  const std::size_t before = alone_ ? at(index) * wide_values() : 0;
  return shifted(state.prepared, members * at(rows) * narrow_values() + before);
}

float* StepMember::normed() const {
  return state.normed + (alone_ ? at(index) * cells(rows, config.hidden) : 0);
}

const std::int32_t* StepMember::block_table(const SequenceStep& s) {
  return reinterpret_cast<const std::int32_t*>(s.blocks.data());
}

StepMember::Rows StepMember::mine(std::int32_t count) const {
  const Range r = split_range(at(count), index, model.team.active());
  return {static_cast<std::int32_t>(r.begin), static_cast<std::int32_t>(r.end - r.begin)};
}

void StepMember::norm(const float* x, const FloatRow& weight, std::int32_t count, float* out) const {
  if (count == 0) return;
  table.rms_norm(x, at(config.hidden), weight.data(), config.rms_eps, count, config.hidden, out, at(config.hidden));
}

void StepMember::prepare(const PreparedRows& out, const float* x, Rows range, std::int32_t k,
                         std::initializer_list<const PackedMatrix*> weights, float narrow) const {
  if (range.count == 0) return;
  bool bf16 = false, q8 = false;
  for (const PackedMatrix* w : weights) {
    bf16 |= table.operand_kind(w->source) == OperandKind::bf16;
    q8 |= table.operand_kind(w->source) == OperandKind::q8;
  }
  const std::size_t first = cells(range.begin, k), groups = cells(range.begin, k / kernels::kQuantGroup);
  if (bf16) table.to_bf16(x + first, range.count, k, out.bf16 + first);
  if (q8) {
    table.to_q8(x + first, range.count, k,
                {.q = out.q8.q + groups * at(kernels::kQuantGroupBytes),
                 .scale = out.q8.scale + groups,
                 .sum = out.q8.sum + groups,
                 .isum = out.q8.isum + groups,
                 .narrow = narrow});
  }
}

kernels::Operand StepMember::operand(const PreparedRows& prepared, const float* x, std::int32_t count,
                                     const PackedMatrix& weight) const {
  return {.kind = table.operand_kind(weight.source),
          .rows = count,
          .k = weight.k,
          .f32 = x,
          .bf16 = prepared.bf16,
          .q8 = prepared.q8.q,
          .q8_scale = prepared.q8.scale,
          .q8_sum = prepared.q8.sum,
          .q8_isum = prepared.q8.isum};
}

void StepMember::run_panels(const PreparedRows& prepared, const float* x, std::int32_t count, const Product& p,
                            std::int32_t begin, std::int32_t end) const {
  if (begin >= end || count == 0) return;
  table.matmul({.operand = operand(prepared, x, count, p.weight),
                .m = count,
                .weight = p.weight,
                .bias = p.bias == nullptr || p.bias->empty() ? nullptr : p.bias->data(),
                .out = p.out,
                .out_stride = at(p.weight.n),
                .accumulate = p.accumulate,
                .panel_begin = begin,
                .panel_end = end});
}

void StepMember::multiply(const PreparedRows& prepared, const float* x, std::int32_t count,
                          std::initializer_list<Product> products) const {
  std::int32_t total = 0;
  for (const Product& p : products) total += panels(p.weight);
  const Range own = split_range(at(total), index, model.team.active());
  std::int32_t base = 0;
  for (const Product& p : products) {
    const std::int32_t begin = std::max(static_cast<std::int32_t>(own.begin) - base, 0);
    const std::int32_t end = std::min(static_cast<std::int32_t>(own.end) - base, panels(p.weight));
    base += panels(p.weight);
    run_panels(prepared, x, count, p, begin, end);
  }
}

Range StepMember::multiply_alike(const PreparedRows& prepared, const float* x, std::int32_t count,
                                 std::initializer_list<Product> products) const {
  const PackedMatrix& first = products.begin()->weight;
  const Range own = split_range(at(panels(first)), index, model.team.active(), 2);
  for (const Product& p : products) {
    run_panels(prepared, x, count, p, static_cast<std::int32_t>(own.begin), static_cast<std::int32_t>(own.end));
  }
  const std::size_t columns = at(kernels::kPanelColumns), n = at(first.n);
  return {std::min(own.begin * columns, n), std::min(own.end * columns, n)};
}

void StepMember::sum_over_ranks(float* data, std::size_t count) const {
  if (index == 0) note(model.ranks->all_reduce_sum(data, count, WireType::f32));
  barrier();
}

void StepMember::join_ranks() const {
  if (model.ranks == nullptr) return;
  sum_over_ranks(state.joined, cells(rows, config.hidden));
  const Rows own = mine();
  const std::size_t first = cells(own.begin, config.hidden), end = first + cells(own.count, config.hidden);
  for (std::size_t i = first; i < end; ++i) state.x[i] += std::exchange(state.joined[i], 0.0F);
  barrier();
}

kernels::KvView StepMember::layer_kv(std::int32_t layer) const {
  kernels::KvView kv = model.kv;
  kv.base += at(layer) * state.layer_kv_bytes;
  return kv;
}

}  // namespace hp

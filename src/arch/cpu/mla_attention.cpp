#include "arch/cpu/mla_attention.h"

#include <cstring>

namespace hp {
namespace {

/// DeepseekV2RMSNorm's own default: the norms of the low ranks do not follow rms_norm_eps.
constexpr float kLatentEps = 1e-6F;
/// Query heads of one attention item: enough rows to pay for reading a latent, few enough to share work out.
constexpr std::int32_t kHeadsPerItem = 8;

struct Widths {
  std::int32_t heads, nope, rope, rank, v, q_head, latent;
  explicit Widths(const ModelConfig& c)
      : heads(c.heads),
        nope(c.mla->qk_nope_dim),
        rope(c.mla->qk_rope_dim),
        rank(c.mla->kv_lora_rank),
        v(c.mla->v_dim),
        q_head(nope + rope),
        latent(rank + rope) {}
};

void project(const StepMember& m, const FloatRow& norm, const MlaWeights& w) {
  const ModelConfig& c = m.config;
  const RunState& s = m.state;
  const StepMember::Rows mine = m.mine();
  const std::size_t first = m.cells(mine.begin, c.hidden);
  const bool low = w.q_a.n > 0;
  m.norm(s.x + first, norm, mine.count, s.normed + first);
  m.prepare(s.prepared, s.normed, mine, c.hidden, {&w.kv_a, low ? &w.q_a : &w.q});
  m.barrier();
  if (!low) {
    m.multiply(s.prepared, s.normed, m.rows, {{w.kv_a, nullptr, s.k}, {w.q, nullptr, s.q}});
    m.barrier();
    return;
  }
  m.multiply(s.prepared, s.normed, m.rows, {{w.kv_a, nullptr, s.k}, {w.q_a, nullptr, s.q_low}});
  m.barrier();
  const std::int32_t rank = w.q_a.n;
  float* const own = s.q_low + m.cells(mine.begin, rank);
  if (mine.count > 0)
    m.table.rms_norm(own, m.at(rank), w.q_a_norm.data(), kLatentEps, mine.count, rank, own, m.at(rank));
  m.prepare(s.prepared, s.q_low, mine, rank, {&w.q});
  m.barrier();
  m.multiply(s.prepared, s.q_low, m.rows, {{w.q, nullptr, s.q}});
  m.barrier();
}

// Normalizes and rotates the latent, rotates the queries' tails, and parts the queries into what k_b absorbs and what
// meets the rotated part of the latent.
void rotate_and_part(const StepMember& m, const Widths& d, const MlaWeights& w, std::int32_t row,
                     std::int32_t position) {
  const RunState& s = m.state;
  const bool interleaved = m.config.rope.layout == RopeLayout::interleaved;
  const float* cos = m.model.rope.cos_at(position);
  const float* sin = m.model.rope.sin_at(position);
  float* const k = s.k + m.cells(row, d.latent);
  m.table.rms_norm(k, m.at(d.latent), w.kv_a_norm.data(), kLatentEps, 1, d.rank, k, m.at(d.latent));
  m.table.rope(k, 1, d.latent, d.rank, d.rope, interleaved, cos, sin);
  float* const q = s.q + m.cells(row, d.heads * d.q_head);
  m.table.rope(q, d.heads, d.q_head, d.nope, d.rope, interleaved, cos, sin);
  float* const nope = s.q_nope + m.cells(row, d.heads * d.nope);
  float* const latent = s.q_latent + m.cells(row, d.heads * d.latent);
  for (std::int32_t h = 0; h < d.heads; ++h) {
    const float* const from = q + m.cells(h, d.q_head);
    std::memcpy(nope + m.cells(h, d.nope), from, m.at(d.nope) * sizeof(float));
    std::memcpy(latent + m.cells(h, d.latent) + d.rank, from + d.nope, m.at(d.rope) * sizeof(float));
  }
}

void rotate_and_store(const StepMember& m, const Widths& d, const MlaWeights& w, const kernels::KvView& kv) {
  m.for_my_rows([&](const SequenceStep& q, std::int32_t row, std::int32_t first, std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i) rotate_and_part(m, d, w, row + i, q.position + first + i);
    m.table.kv_write({.kv = kv,
                      .blocks = StepMember::block_table(q),
                      .position = q.position + first,
                      .tokens = count,
                      .k = m.state.k + m.cells(row, d.latent),
                      .k_stride = m.at(d.latent)});
  });
}

// One product per head: x [T, heads, k] · weight[head] -> out [T, heads, out_width], its first n columns. All heads'
// panels lie one after the other and are cut over the team.
void multiply_heads(const StepMember& m, const std::vector<kernels::PackedMatrix>& heads, const float* x, float* out,
                    std::int32_t out_width) {
  const auto count = static_cast<std::int32_t>(heads.size());
  const std::int32_t per_head = StepMember::panels(heads.front());
  const Range own = split_range(m.cells(count, per_head), m.index, m.model.team.active());
  for (std::int32_t h = 0; h < count; ++h) {
    const std::size_t base = m.cells(h, per_head), end = base + m.at(per_head);
    const std::size_t begin = std::max(own.begin, base), stop = std::min(own.end, end);
    if (begin >= stop) continue;
    const kernels::PackedMatrix& w = heads[m.at(h)];
    kernels::Operand operand = m.operand(m.state.prepared, x, m.rows * count, w);
    operand.row_ids = m.state.head_rows + m.cells(h, m.state.head_rows_stride);
    m.table.matmul({.operand = operand,
                    .m = m.rows,
                    .weight = w,
                    .out = out + m.cells(h, out_width),
                    .out_stride = m.cells(count, out_width),
                    .panel_begin = static_cast<std::int32_t>(begin - base),
                    .panel_end = static_cast<std::int32_t>(stop - base)});
  }
}

void attend(const StepMember& m, const Widths& d, const kernels::KvView& kv) {
  const std::int32_t parts = (d.heads + kHeadsPerItem - 1) / kHeadsPerItem;
  m.for_my_tiles(
      parts, [&](const SequenceStep& q, std::int32_t row, std::int32_t first, std::int32_t count, std::int32_t part) {
        const std::int32_t head = part * kHeadsPerItem;
        kernels::AttentionArgs args = widest_mla_attention(m.config, kv, q.position + first + count);
        args.blocks = StepMember::block_table(q);
        args.position = q.position + first;
        args.tokens = count;
        args.heads = std::min(kHeadsPerItem, d.heads - head);
        args.q = m.state.q_latent + m.cells(row * d.heads + head, d.latent);
        args.out = m.state.latent + m.cells(row * d.heads + head, d.rank);
        args.scratch = m.state.scratch + static_cast<std::size_t>(m.index) * m.state.scratch_stride;
        m.table.attention(args);
      });
}

// Prepares this member's rows of x [T, heads, k], every head a row of its own.
void prepare_heads(const StepMember& m, const float* x, std::int32_t heads, std::int32_t k,
                   const kernels::PackedMatrix& weight) {
  const StepMember::Rows mine = m.mine();
  m.prepare(m.state.prepared, x, {mine.begin * heads, mine.count * heads}, k, {&weight});
}

}  // namespace

void mla_attention(const StepMember& m, const FloatRow& norm, const MlaWeights& w, std::int32_t layer) {
  const Widths d(m.config);
  const RunState& s = m.state;
  const kernels::KvView kv = m.layer_kv(layer);
  project(m, norm, w);
  rotate_and_store(m, d, w, kv);
  prepare_heads(m, s.q_nope, d.heads, d.nope, w.k_b.front());
  m.barrier();
  multiply_heads(m, w.k_b, s.q_nope, s.q_latent, d.latent);
  m.barrier();
  attend(m, d, kv);
  m.barrier();
  prepare_heads(m, s.latent, d.heads, d.rank, w.v_b.front());
  m.barrier();
  multiply_heads(m, w.v_b, s.latent, s.attended, d.v);
  m.barrier();
  m.prepare(s.prepared, s.attended, m.mine(), d.heads * d.v, {&w.o});
  m.barrier();
  m.multiply(s.prepared, s.attended, m.rows, {{w.o, nullptr, m.outcome(), true}});
  m.barrier();
  m.join_ranks();
}

kernels::KvView mla_kv_view(const ModelConfig& config, DType dtype, std::int32_t block_tokens) {
  const Widths d(config);
  return {.dtype = dtype,
          .block_tokens = block_tokens,
          .kv_heads = 1,
          .head_dim = d.latent,
          .v_dim = d.rank,
          .v_in_k = true,
          .k_bf16 = dtype == DType::f8_e4m3 ? d.latent - d.rank : 0};
}

kernels::AttentionArgs widest_mla_attention(const ModelConfig& config, const kernels::KvView& kv,
                                            std::int32_t context) {
  const Widths d(config);
  kernels::AttentionArgs args;
  args.kv = kv;
  args.position = std::max(context - kQueryTile, 0);
  args.tokens = std::min(kQueryTile, context);
  args.heads = std::min(d.heads, kHeadsPerItem);
  args.scale = static_cast<float>(attention_scale(config));
  args.q_stride = StepMember::cells(d.heads, d.latent);
  args.out_stride = StepMember::cells(d.heads, d.rank);
  args.split_end = (context + kernels::kKvSplitTokens - 1) / kernels::kKvSplitTokens;
  return args;
}

}  // namespace hp

#include "arch/cpu/forward.h"

#include <algorithm>

#include "arch/cpu/dense_ffn.h"
#include "arch/cpu/gqa_attention.h"
#include "arch/cpu/mla_attention.h"
#include "arch/cpu/moe_ffn.h"

namespace hp {
namespace {

// Embeddings of the step's tokens; of ids that lie on other ranks, zeros that the sum over all ranks fills.
void embed(const StepMember& m, float* out) {
  const kernels::PackedMatrix& table = m.model.weights.embedding;
  m.for_my_rows([&](const SequenceStep& q, std::int32_t row, std::int32_t first, std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int32_t id = q.tokens[m.at(first + i)] - m.model.first_id;
      float* const to = out + m.cells(row + i, m.config.hidden);
      if (id >= 0 && id < table.n) {
        m.table.unpack_row(table, id, to);
      } else {
        std::fill_n(to, m.config.hidden, 0.0F);
      }
    }
  });
  if (m.model.ranks == nullptr) return;
  m.barrier();
  m.sum_over_ranks(out, m.cells(m.rows, m.config.hidden));
}

// Every rank's logits [logit rows, its ids] put side by side.
void gather_logits(const StepMember& m, const float* own) {
  const RunState& s = m.state;
  const std::int32_t world = m.model.ranks->world(), each = (m.config.vocab + world - 1) / world;
  const std::size_t part = m.cells(m.logit_rows, each);
  float* const all = s.gathered + part;
  if (m.index == 0) m.note(m.model.ranks->all_gather(own, all, part * sizeof(float)));
  m.barrier();
  const StepMember::Rows mine = m.mine(m.logit_rows);
  for (std::int32_t r = mine.begin; r < mine.begin + mine.count; ++r) {
    for (std::int32_t rank = 0; rank < world; ++rank) {
      const std::int32_t ids = std::min(each, m.config.vocab - rank * each);
      std::copy_n(all + m.at(rank) * part + m.cells(r, ids), ids, s.logits + m.cells(r, m.config.vocab) + rank * each);
    }
  }
}

void logits(const StepMember& m, const FloatRow& norm) {
  const RunState& s = m.state;
  const ModelWeights& w = m.model.weights;
  const std::int32_t hidden = m.config.hidden;
  std::int32_t row = 0, out = 0;
  const StepMember::Rows mine = m.mine(m.logit_rows);
  for (const SequenceStep& q : m.batch) {
    row += StepMember::tokens_of(q);
    for (std::int32_t i = q.logit_rows; i > 0; --i, ++out) {
      if (out < mine.begin || out >= mine.begin + mine.count) continue;
      m.norm(s.x + m.cells(row - i, hidden), norm, 1, s.normed + m.cells(out, hidden));
    }
  }
  m.prepare(s.prepared, s.normed, mine, hidden, {&w.head});
  m.barrier();
  if (m.model.ranks == nullptr) {
    m.multiply(s.prepared, s.normed, m.logit_rows, {{w.head, nullptr, s.logits}});
    return;
  }
  m.multiply(s.prepared, s.normed, m.logit_rows, {{w.head, nullptr, s.gathered}});
  m.barrier();
  gather_logits(m, s.gathered);
}

void run(const StepMember& m) {
  embed(m, m.state.x);
  if (m.alone()) m.barrier();  // every member norms every row
  for (std::int32_t l = 0; l < m.config.layers; ++l) {
    const LayerWeights& w = m.model.weights.layers[m.at(l)];
    run_layer(m, w, l);
  }
  logits(m, m.model.weights.output_norm);
}

// What the prediction layer begins with: the embedding of the token that follows and the hidden state that foretold it,
// each normalized. The hidden state is the model's output after its last norm, as in vLLM and SGLang.
void pair_up(const StepMember& m, const PredictionWeights& w, std::span<const std::int32_t> first_rows) {
  const RunState& s = m.state;
  const std::int32_t hidden = m.config.hidden;
  embed(m, s.normed);
  m.for_my_rows([&](const SequenceStep& q, std::int32_t row, std::int32_t first, std::int32_t count) {
    const std::int32_t source = first_rows[static_cast<std::size_t>(&q - m.batch.data())] + first;
    for (std::int32_t i = 0; i < count; ++i) {
      float* const embedding = s.pairs + m.cells(row + i, 2 * hidden);
      float* const state = embedding + hidden;
      m.norm(s.normed + m.cells(row + i, hidden), w.embedding_norm, 1, embedding);
      m.norm(s.x + m.cells(source + i, hidden), m.model.weights.output_norm, 1, state);
      m.norm(state, w.hidden_norm, 1, state);
    }
  });
  m.prepare(s.prepared, s.pairs, m.mine(), 2 * hidden, {&w.join});
}

void run_prediction(const StepMember& m, const PredictionWeights& w, std::span<const std::int32_t> first_rows) {
  pair_up(m, w, first_rows);
  m.barrier();
  m.multiply(m.state.prepared, m.state.pairs, m.rows, {{w.join, nullptr, m.state.x}});
  m.barrier();
  run_layer(m, w.layer, m.config.layers);
  logits(m, w.output_norm);
}

}  // namespace

void run_layer(const StepMember& m, const LayerWeights& w, std::int32_t index) {
  if (const auto* latent = std::get_if<MlaWeights>(&w.attention)) {
    mla_attention(m, w.attn_norm, *latent, index);
  } else {
    gqa_attention(m, w.attn_norm, std::get<GqaWeights>(w.attention), index);
  }
  if (const auto* experts = std::get_if<MoeWeights>(&w.ffn)) {
    moe_ffn(m, w.ffn_norm, *experts);
  } else {
    dense_ffn(m, w.ffn_norm, std::get<FfnWeights>(w.ffn));
  }
}

void predict(const CpuModel& model, std::span<const SequenceStep> batch, std::span<const std::int32_t> first_rows) {
  model.team.run_fitting(
      [&](int member) { run_prediction(StepMember(model, batch, member), *model.weights.prediction, first_rows); });
}

void forward(const CpuModel& model, std::span<const SequenceStep> batch) {
  model.team.run_fitting([&](int member) { run(StepMember(model, batch, member)); });
}

kernels::KvView kv_view(const ModelConfig& config, DType dtype, std::int32_t block_tokens) {
  if (config.mla.has_value()) return mla_kv_view(config, dtype, block_tokens);
  return {.dtype = dtype,
          .block_tokens = block_tokens,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .v_dim = config.v_head_dim};
}

kernels::AttentionArgs widest_attention(const ModelConfig& config, const kernels::KvView& kv, std::int32_t context) {
  return config.mla.has_value() ? widest_mla_attention(config, kv, context) : widest_gqa_attention(config, kv, context);
}

}  // namespace hp

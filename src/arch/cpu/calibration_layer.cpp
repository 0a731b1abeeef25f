#include "arch/cpu/calibration_layer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "arch/cpu/moe_router.h"
#include "model/tensor_table.h"

namespace hp {
namespace {

constexpr float kLatentEps = 1e-6F;          // mla_attention.cpp says why
constexpr std::size_t kRowWork = 1U << 13U;  // multiplications, about, of norms and rotations of a row
constexpr std::size_t kChunk = 512;          // rows between two times that memory is let go

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

/// f(rows of one pass, the same pass of the other pair), for the passes that there are.
template <typename F>
void each_pass(bool both, const RowPair& in, RowPair& out, const F& f) {
  f(in.original, out.original);
  if (both) f(in.rounded, out.rounded);
}

}  // namespace

LayerCalibration::LayerCalibration(const Checkpoint& checkpoint, RoundingPass& pass, const FloatProducts& products,
                                   std::vector<std::size_t> lengths)
    : checkpoint_(checkpoint),
      config_(checkpoint.config()),
      pass_(pass),
      products_(products),
      table_(products.table()),
      team_(products.team()),
      lengths_(std::move(lengths)) {
  rope_ =
      build_rope_table(config_.rope, static_cast<std::int32_t>(*std::max_element(lengths_.begin(), lengths_.end())));
}

std::size_t LayerCalibration::rows() const {
  return std::accumulate(lengths_.begin(), lengths_.end(), std::size_t{0});
}

template <typename F>
void LayerCalibration::for_rows(std::initializer_list<const SpilledRows*> touched, const F& f) const {
  std::size_t first = 0;
  for (const std::size_t length : lengths_) {
    products_.run(length * kRowWork, [&](int member) {
      const Range own = split_range(length, member, team_.size());
      for (std::size_t i = own.begin; i < own.end; ++i) f(first + i, static_cast<std::int32_t>(i));
    });
    for (const SpilledRows* rows : touched) rows->release();
    first += length;
  }
}

Status LayerCalibration::run(std::int32_t index, RowPair& x) {
  const std::string p = "blk." + std::to_string(index) + ".";
  HP_TRY_VOID(config_.mla.has_value() ? latent_attention(p, x) : grouped_attention(p, x));
  if (config_.is_moe_layer(index) || (config_.moe.has_value() && index >= config_.layers)) return experts(p, x);
  HP_TRY(const RowPair in, normed(x, p + "ffn_norm.weight", 0, z(config_.hidden), config_.rms_eps));
  ProductInputs inputs{.rows = in};
  return feed_forward(p, "", z(config_.ffn), inputs, x);
}

Result<RowPair> LayerCalibration::normed(const RowPair& x, const std::string& weight, std::size_t first,
                                         std::size_t width, float eps) {
  FloatRow row;
  HP_TRY_VOID(WeightPacking(checkpoint_).row(weight, static_cast<std::int32_t>(width), row));
  HP_TRY(RowPair out, pass_.make_rows(x.original.rows(), width));
  each_pass(pass_.rounds, x, out, [&](const SpilledRows& from, SpilledRows& to) {
    for_rows({&from, &to}, [&](std::size_t r, std::int32_t) {
      table_.rms_norm(from.row(r) + first, from.width(), row.data(), eps, 1, static_cast<std::int32_t>(width),
                      to.row(r), width);
    });
  });
  return out;
}

Result<RowPair> LayerCalibration::product(const std::string& name, std::size_t n, ProductInputs& in,
                                          const std::string& bias) {
  FloatRow row;
  if (!bias.empty()) HP_TRY_VOID(WeightPacking(checkpoint_).row(bias, static_cast<std::int32_t>(n), row));
  HP_TRY(RowPair out, pass_.make_rows(in.rows.original.rows(), n));
  HP_TRY_VOID(pass_.multiply({.name = name, .n = n, .k = in.rows.original.width(), .out = &out, .bias = &row}, in));
  return out;
}

Status LayerCalibration::add_product(const std::string& name, ProductInputs& in, RowPair& x) {
  return pass_.multiply(
      {.name = name, .n = x.original.width(), .k = in.rows.original.width(), .out = &x, .add = true, .bias = nullptr},
      in);
}

// Heads normed where `norm` is a weight's name, then their dimensions from `rope_at` on rotated.
Status LayerCalibration::rotate(RowPair& rows, const std::string& norm, std::size_t heads, std::size_t head_dim,
                                std::size_t rope_at) {
  FloatRow weight;
  if (!norm.empty()) HP_TRY_VOID(WeightPacking(checkpoint_).row(norm, static_cast<std::int32_t>(head_dim), weight));
  const auto count = static_cast<std::int32_t>(heads), dim = static_cast<std::int32_t>(head_dim);
  const bool interleaved = config_.rope.layout == RopeLayout::interleaved;
  each_pass(pass_.rounds, rows, rows, [&](const SpilledRows&, SpilledRows& x) {
    for_rows({&x}, [&](std::size_t r, std::int32_t position) {
      if (!weight.empty())
        table_.rms_norm(x.row(r), head_dim, weight.data(), config_.rms_eps, count, dim, x.row(r), head_dim);
      table_.rope(x.row(r), count, dim, static_cast<std::int32_t>(rope_at), config_.rope.dims, interleaved,
                  rope_.cos_at(position), rope_.sin_at(position));
    });
  });
  return {};
}

Result<RowPair> LayerCalibration::attend(const AttentionShape& shape, const RowPair& q, const RowPair& k,
                                         const RowPair& v) {
  HP_TRY(RowPair out, pass_.make_rows(q.original.rows(), z(shape.heads) * z(shape.v_dim)));
  HP_TRY_VOID(attend_windows(shape, lengths_, q.original, k.original, v.original, out.original, table_, team_));
  if (pass_.rounds)
    HP_TRY_VOID(attend_windows(shape, lengths_, q.rounded, k.rounded, v.rounded, out.rounded, table_, team_));
  return out;
}

Status LayerCalibration::grouped_attention(const std::string& p, RowPair& x) {
  const ModelConfig& c = config_;
  const AttentionShape shape{.heads = c.heads,
                             .kv_heads = c.kv_heads,
                             .head_dim = c.head_dim,
                             .v_dim = c.v_head_dim,
                             .scale = static_cast<float>(attention_scale(c))};
  HP_TRY(const RowPair in, normed(x, p + "attn_norm.weight", 0, z(c.hidden), c.rms_eps));
  ProductInputs inputs{.rows = in};
  const auto projected = [&](const char* name, std::int32_t heads, std::int32_t dim) {
    return product(p + name + ".weight", z(heads) * z(dim), inputs, c.qkv_bias ? p + name + ".bias" : "");
  };
  HP_TRY(RowPair q, projected("attn_q", c.heads, c.head_dim));
  HP_TRY(RowPair k, projected("attn_k", c.kv_heads, c.head_dim));
  HP_TRY(const RowPair v, projected("attn_v", c.kv_heads, c.v_head_dim));
  HP_TRY_VOID(rotate(q, c.qk_norm ? p + "attn_q_norm.weight" : "", z(c.heads), z(c.head_dim), 0));
  HP_TRY_VOID(rotate(k, c.qk_norm ? p + "attn_k_norm.weight" : "", z(c.kv_heads), z(c.head_dim), 0));
  HP_TRY(const RowPair attended, attend(shape, q, k, v));
  ProductInputs outputs{.rows = attended};
  return add_product(p + "attn_output.weight", outputs, x);
}

Status LayerCalibration::latent_attention(const std::string& p, RowPair& x) {
  const ModelConfig& c = config_;
  const std::size_t heads = z(c.heads), nope = z(c.mla->qk_nope_dim), rope = z(c.mla->qk_rope_dim),
                    rank = z(c.mla->kv_lora_rank), v_dim = z(c.mla->v_dim), low = z(c.mla->q_lora_rank);
  const AttentionShape shape{.heads = c.heads,
                             .kv_heads = c.heads,
                             .head_dim = c.mla->qk_nope_dim + c.mla->qk_rope_dim,
                             .v_dim = c.mla->v_dim,
                             .scale = static_cast<float>(attention_scale(c))};
  HP_TRY(const RowPair in, normed(x, p + "attn_norm.weight", 0, z(c.hidden), c.rms_eps));
  ProductInputs inputs{.rows = in};
  HP_TRY(RowPair kv_a, product(p + "attn_kv_a_mqa.weight", rank + rope, inputs));
  HP_TRY(RowPair q, low > 0 ? product(p + "attn_q_a.weight", low, inputs)
                            : product(p + "attn_q.weight", heads * (nope + rope), inputs));
  if (low > 0) {
    HP_TRY(const RowPair q_low, normed(q, p + "attn_q_a_norm.weight", 0, low, kLatentEps));
    ProductInputs low_inputs{.rows = q_low};
    HP_TRY(q, product(p + "attn_q_b.weight", heads * (nope + rope), low_inputs));
  }
  HP_TRY(const RowPair latent, normed(kv_a, p + "attn_kv_a_norm.weight", 0, rank, kLatentEps));
  ProductInputs latent_inputs{.rows = latent};
  HP_TRY(const RowPair kv_b, product(p + "attn_kv_b.weight", heads * (nope + v_dim), latent_inputs));
  HP_TRY_VOID(rotate(q, "", heads, nope + rope, nope));
  HP_TRY_VOID(rotate(kv_a, "", 1, rank + rope, rank));
  HP_TRY(RowPair k, pass_.make_rows(rows(), heads * (nope + rope)));
  HP_TRY(RowPair v, pass_.make_rows(rows(), heads * v_dim));
  const auto part = [&](const SpilledRows& both, const SpilledRows& rotated, SpilledRows& keys, SpilledRows& values) {
    for_rows({&both, &keys, &values}, [&](std::size_t r, std::int32_t) {
      for (std::size_t h = 0; h < heads; ++h) {
        const float* const from = both.row(r) + h * (nope + v_dim);
        float* const key = keys.row(r) + h * (nope + rope);
        std::copy_n(from, nope, key);
        std::copy_n(rotated.row(r) + rank, rope, key + nope);
        std::copy_n(from + nope, v_dim, values.row(r) + h * v_dim);
      }
    });
  };
  part(kv_b.original, kv_a.original, k.original, v.original);
  if (pass_.rounds) part(kv_b.rounded, kv_a.rounded, k.rounded, v.rounded);
  HP_TRY(const RowPair attended, attend(shape, q, k, v));
  ProductInputs outputs{.rows = attended};
  return add_product(p + "attn_output.weight", outputs, x);
}

/// silu(gate) · up
Result<RowPair> LayerCalibration::activated(const std::string& gate_name, const std::string& up_name, std::size_t ffn,
                                            ProductInputs& in) {
  HP_TRY(RowPair gate, product(gate_name, ffn, in));
  HP_TRY(const RowPair up, product(up_name, ffn, in));
  each_pass(pass_.rounds, up, gate, [&](const SpilledRows& other, SpilledRows& both) {
    for (std::size_t first = 0; first < both.rows(); first += kChunk) {
      const std::size_t count = std::min(kChunk, both.rows() - first);
      products_.run(count * ffn * 16, [&](int member) {
        const Range own = split_range(count, member, team_.size());
        for (std::size_t r = first + own.begin; r < first + own.end; ++r)
          table_.swiglu(both.row(r), other.row(r), ffn, both.row(r));
      });
      other.release();
      both.release();
    }
  });
  return gate;
}

Status LayerCalibration::feed_forward(const std::string& p, const std::string& suffix, std::size_t ffn,
                                      ProductInputs& in, RowPair& x) {
  HP_TRY(const RowPair act, activated(p + "ffn_gate" + suffix + ".weight", p + "ffn_up" + suffix + ".weight", ffn, in));
  ProductInputs inputs{.rows = act};
  return add_product(p + "ffn_down" + suffix + ".weight", inputs, x);
}

Result<std::vector<LayerCalibration::Routed>> LayerCalibration::route(const std::string& p, ProductInputs& in) {
  const MoeConfig& c = *config_.moe;
  FloatRow bias;
  if (c.has_score_bias) HP_TRY_VOID(WeightPacking(checkpoint_).row(p + "exp_probs_b.bias", c.experts, bias));
  HP_TRY(RowPair scores, product(p + "ffn_gate_inp.weight", z(c.experts), in));
  std::vector<Routed> out(z(c.experts));
  std::vector<float> choice(z(c.experts)), shares(z(c.experts_per_token));
  std::vector<std::int32_t> chosen(z(c.experts_per_token));
  for (std::size_t t = 0; t < scores.original.rows(); ++t) {
    route_token(c, bias, {scores.original.row(t), choice.size()}, choice, chosen, shares);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      out[z(chosen[i])].tokens.push_back(t);
      out[z(chosen[i])].shares.push_back(shares[i]);
    }
  }
  return out;
}

// The shared experts come last: they see what the others have left apart, and make good for it.
Status LayerCalibration::experts(const std::string& p, RowPair& x) {
  const MoeConfig& c = *config_.moe;
  HP_TRY(const RowPair in, normed(x, p + "ffn_norm.weight", 0, z(config_.hidden), config_.rms_eps));
  ProductInputs inputs{.rows = in};
  HP_TRY(const std::vector<Routed> routed, route(p, inputs));
  Moments usual;
  if (pass_.rounds) {
    HP_TRY(usual, pass_.moments(in.rounded));
  }
  for (std::int32_t e = 0; e < c.experts; ++e) HP_TRY_VOID(expert(p, e, routed[z(e)], in, usual, x));
  if (c.shared_experts == 0) return {};
  return feed_forward(p, "_shexp", z(c.shared_experts) * z(c.expert_ffn), inputs, x);
}

Status LayerCalibration::expert(const std::string& p, std::int32_t index, const Routed& routed, const RowPair& in,
                                const Moments& usual, RowPair& x) {
  const std::size_t count = routed.tokens.size(), ffn = z(config_.moe->expert_ffn);
  if (count == 0) return {};  // no token of the text came here: rounded to nearest
  HP_TRY(RowPair own, pass_.make_rows(count, in.original.width()));
  each_pass(pass_.rounds, in, own, [&](const SpilledRows& from, SpilledRows& to) {
    for (std::size_t i = 0; i < count; ++i) std::copy_n(from.row(routed.tokens[i]), from.width(), to.row(i));
    from.release();
  });
  const auto name = [&](const char* part) { return expert_tensor_name(p + part + "_exps.weight", index); };
  ProductInputs inputs{.rows = own, .usual = &usual, .usual_rows = in.original.rows()};
  HP_TRY(const RowPair act, activated(name("ffn_gate"), name("ffn_up"), ffn, inputs));
  ProductInputs down{.rows = act};
  HP_TRY(const RowPair out, product(name("ffn_down"), x.original.width(), down));
  each_pass(pass_.rounds, out, x, [&](const SpilledRows& from, SpilledRows& to) {
    for (std::size_t i = 0; i < count; ++i) {
      float* const row = to.row(routed.tokens[i]);
      for (std::size_t d = 0; d < to.width(); ++d) row[d] += routed.shares[i] * from.row(i)[d];
    }
    to.release();
  });
  return {};
}

}  // namespace hp

// The pass through the model: embedding, layers, logits. Every function puts kernels on the stream and returns.
#include <algorithm>

#include "arch/cuda/device_model.h"

namespace hp::cuda {
namespace {

inline constexpr int kRotatingDecodes = 32;  // up to so many decodes a kernel less is worth more than its repeated work

/// The tile of experts' products: as many columns as tokens that an expert gets on average.
int expert_tile(int slots, int experts) {
  const int tokens = slots / experts;
  return tokens <= 8 ? 0 : tokens <= 16 ? 1 : tokens <= 32 ? 2 : tokens <= 96 ? 3 : 4;
}

RouterShape router_shape(const ExpertDims& e) {
  return {e.experts, e.chosen, e.groups, e.chosen_groups, e.sigmoid, e.best_two, e.normalize, e.weight_scale};
}

const Bf16* bf16(const Activations& activations) {
  return static_cast<const Bf16*>(activations.data);
}

}  // namespace

/// What the products after a layer's attention read first. Attention's own product has its weights in shared memory by
/// then, but for latent attention, which takes three kernels.
Ahead DeviceModel::weights_ahead(const Layer& layer) const {
  Ahead ahead;
  std::size_t left = ahead_bytes_;
  const Matrix* order[Ahead::kRanges] = {latent() ? &layer.o : nullptr, layer.has_experts ? &layer.router : nullptr,
                                         &layer.gate_up, latent() ? &layer.down : nullptr};
  for (const Matrix* matrix : order) {
    if (matrix == nullptr || matrix->data == nullptr || left == 0) continue;
    const std::size_t bytes = std::min(matrix->bytes(), left) / 16 * 16;
    ahead.data[ahead.count] = matrix->data;
    ahead.bytes[ahead.count++] = static_cast<unsigned>(bytes);
    left -= bytes;
  }
  return ahead;
}

void DeviceModel::attend(const Layer& layer, const StepLayout& l, AttentionBatch batch) {
  const RopeArgs rope{rope_cos_,  rope_sin_,        layer.q_norm,           layer.k_norm,
                      shape_.eps, shape_.rope_dims, shape_.rope_interleaved};
  const bool rotates = l.tiles == 0 && l.decodes <= kRotatingDecodes && attention_rotates(attention_, rope);
  if (!rotates) {
    rope_and_store(projected_, attention_, rope, step_memory_ + l.at_position, step_memory_ + l.at_slot, l.tokens,
                   layer.kv, stream_);
  }
  if (fuses(fuse_ahead) && l.tiles == 0 && l.decodes <= kAheadDecodes) batch.ahead = weights_ahead(layer);
  attention(projected_, attention_, layer.kv, batch, shape_.attention_scale, rotates ? &rope : nullptr, scratch_,
            static_cast<Bf16*>(attended_.data), stream_);
}

MatmulOut DeviceModel::into(Epilogue epilogue, void* data, int stride, const float* bias) const {
  return {epilogue, data, stride, bias, {fuses(fuse_spread) ? multiprocessor_count() : 0, options_.invariant}};
}

bool DeviceModel::norms_experts(bool fp8, int t) const {
  return fuses(fuse_norm) && makes_rows(fp8, shape_.hidden, t, true);
}
bool DeviceModel::norms_here(const Matrix& weight, int t) const {
  return weight.ints.bits == 0 && norms_experts(weight.fp8, t) &&
         (fuses(fuse_everywhere) || norm_pays(weight.fp8, shape_.experts.experts > 0, shape_.hidden, t));
}

/// weight · norm(x): few rows are normalized inside the product.
void DeviceModel::normed_product(const Matrix& weight, const float* norm, int t, const MatmulOut& out) {
  if (norms_here(weight, t)) return matmul(weight, RowSource{x_, norm, shape_.eps, t}, out, stream_);
  rms_norm(x_, nullptr, norm, shape_.eps, t, normed_, stream_);
  matmul(weight, normed_, t, out, stream_);
}

/// weight · in, quantized on the way when the weights are; `in8` holds the quantized rows when they are many.
void DeviceModel::quantized_product(const Matrix& weight, const Activations& in, const Activations& in8, int t,
                                    const MatmulOut& out) {
  if (!weight.fp8) return matmul(weight, in, t, out, stream_);
  if (fuses(fuse_quantize) && makes_rows(true, weight.k, t, false) &&
      (fuses(fuse_everywhere) || quantize_pays(weight.k, t)))
    return matmul(weight, RowSource{in.data, nullptr, 0, t}, out, stream_);
  quantize_rows(bf16(in), t, in8, stream_);
  matmul(weight, in8, t, out, stream_);
}

LatentRows DeviceModel::latent_rows(const Layer& layer, int t) {
  const int stride = projection_rows();
  const Bf16* latent = projected_ + first_projection();
  if (shape_.latent.q_rank == 0) return {projected_, latent, stride, stride};
  rms_norm_bf16(projected_, stride, layer.q_a_norm, shape_.eps, t, q_a_, stream_);
  matmul(layer.q_b, q_a_, t, into(Epilogue::bf16, raw_queries_, query_rows()), stream_);
  return {raw_queries_, latent, query_rows(), stride};
}

void DeviceModel::attend_latent(const Layer& layer, const StepLayout& l, const AttentionBatch& batch) {
  const LatentPrepare prepare{layer.kv_norm,           shape_.eps, rope_cos_, rope_sin_, step_memory_ + l.at_position,
                              step_memory_ + l.at_slot};
  const int heads = shape_.heads, v_dim = shape_.latent.v_dim;
  const LatentRows rows = latent_rows(layer, l.tokens);
  auto* attended = static_cast<Bf16*>(attended_.data);
  const bool few = fuses(fuse_latent) && l.tiles == 0 && l.decodes <= kLatentFew && latent_queries_fit(latent_);
  if (few) {
    const bool ahead = fuses(fuse_ahead) && l.decodes <= kAheadDecodes;
    latent_queries(rows, latent_, prepare, layer.k_b, l.tokens, ahead ? weights_ahead(layer) : Ahead{}, layer.kv,
                   queries_, stream_);
    latent_attention(queries_, latent_, layer.kv, batch, shape_.attention_scale, scratch_, nullptr, stream_);
    return latent_values(latent_, batch, scratch_, layer.v_b, attended, stream_);
  }
  latent_prepare(rows, latent_, prepare, l.tokens, layer.kv, queries_, stream_);
  head_product({rows.queries, rows.query_stride, latent_.query(), layer.k_b, kLatentDims, latent_.nope, heads, queries_,
                heads * kLatentKey, kLatentKey},
               l.tokens, stream_);
  latent_attention(queries_, latent_, layer.kv, batch, shape_.attention_scale, scratch_, attended_latent_, stream_);
  head_product({attended_latent_, heads * kLatentDims, kLatentDims, layer.v_b, v_dim, kLatentDims, heads, attended,
                heads * v_dim, v_dim},
               l.tokens, stream_);
}

/// The dense layer or the shared experts; `norms`: from x, else their rows are in normed_ already.
void DeviceModel::feed_dense(const Layer& layer, int t, bool norms, const Activations& act, const Activations& act8) {
  const MatmulOut gated = into(Epilogue::swiglu, act.data, act.k);
  if (norms) {
    matmul(layer.gate_up, RowSource{x_, layer.ffn_norm, shape_.eps, t}, gated, stream_);
  } else {
    matmul(layer.gate_up, normed_, t, gated, stream_);
  }
  quantized_product(layer.down, act, act8, t, into(Epilogue::add_f32, x_, shape_.hidden));
}

/// One or two tokens: no grouping, every chosen expert of a token is a product of one row.
void DeviceModel::feed_few_experts(const Layer& layer, int t) {
  const ExpertDims& e = shape_.experts;
  const int slots = t * e.chosen;
  RowSource rows{x_, layer.ffn_norm, shape_.eps, t, nullptr, true};
  matmul(layer.router, rows, into(Epilogue::f32, router_logits_, e.experts), stream_);
  if (fuses(fuse_route)) {
    rows.router_logits = router_logits_, rows.router_bias = layer.router_bias, rows.router = router_shape(e);
    rows.grouping = grouping_;
  } else {
    route(router_logits_, layer.router_bias, router_shape(e), t, 0, grouping_, stream_);
  }
  const MatmulGroups gate_up{2 * e.ffn, grouping_.tiles, grouping_.tile_count, slots};
  const MatmulGroups down{shape_.hidden, grouping_.tiles, grouping_.tile_count, slots};
  grouped_matmul(layer.expert_gate_up, rows, gate_up, into(Epilogue::swiglu, expert_act_.data, e.ffn), stream_);
  const MatmulOut out = into(Epilogue::bf16, expert_out_, shape_.hidden);
  if (!fp8()) {
    grouped_matmul(layer.expert_down, expert_act_, down, out, stream_, 0);
  } else if (fuses(fuse_quantize) && makes_rows(true, e.ffn, slots, false)) {
    grouped_matmul(layer.expert_down, RowSource{expert_act_.data, nullptr, 0, slots}, down, out, stream_);
  } else {
    quantize_rows(bf16(expert_act_), slots, expert_act8_, stream_);
    grouped_matmul(layer.expert_down, expert_act8_, down, out, stream_, 0);
  }
  if (e.shared_ffn > 0) feed_dense(layer, t, true, shared_act_, shared_act8_);
  combine(expert_out_, grouping_, e.chosen, t, shape_.hidden, x_, stream_);
}

/// The same with weights of whole numbers, which take rows that are there.
void DeviceModel::feed_few_int_experts(const Layer& layer, int t) {
  const ExpertDims& e = shape_.experts;
  const int slots = t * e.chosen;
  rms_norm(x_, nullptr, layer.ffn_norm, shape_.eps, t, normed_, stream_);
  matmul(layer.router, normed_, t, into(Epilogue::f32, router_logits_, e.experts), stream_);
  route(router_logits_, layer.router_bias, router_shape(e), t, 0, grouping_, stream_);
  MatmulGroups groups{2 * e.ffn, grouping_.tiles, grouping_.tile_count, slots, true};
  grouped_matmul(layer.expert_gate_up, normed_, groups, into(Epilogue::swiglu, expert_act_.data, e.ffn), stream_, 0);
  groups.rows = shape_.hidden, groups.by_token = false;
  grouped_matmul(layer.expert_down, expert_act_, groups, into(Epilogue::bf16, expert_out_, shape_.hidden), stream_, 0);
  if (e.shared_ffn > 0) feed_dense(layer, t, false, shared_act_, shared_act8_);
  combine(expert_out_, grouping_, e.chosen, t, shape_.hidden, x_, stream_);
}

void DeviceModel::feed_experts(const Layer& layer, int t) {
  const ExpertDims& e = shape_.experts;
  if (ints() && fuses(fuse_experts) && t <= kNormedHere) return feed_few_int_experts(layer, t);
  if (!ints() && fuses(fuse_experts) && norms_experts(false, t) && norms_experts(fp8(), t))
    return feed_few_experts(layer, t);
  const int slots = t * e.chosen, tile = expert_tile(slots, e.experts), columns = tile_columns(tile);
  rms_norm(x_, nullptr, layer.ffn_norm, shape_.eps, t, normed_, stream_);
  if (fp8()) rms_norm(x_, nullptr, layer.ffn_norm, shape_.eps, t, normed16_, stream_);
  matmul(layer.router, fp8() ? normed16_ : normed_, t, into(Epilogue::f32, router_logits_, e.experts), stream_);
  route(router_logits_, layer.router_bias, router_shape(e), t, columns, grouping_, stream_);
  gather_rows(normed_, grouping_.token, slots, expert_in_, stream_);
  if (e.shared_ffn > 0) feed_dense(layer, t, false, shared_act_, shared_act8_);
  const int most = std::min(e.experts, slots) + slots / columns;
  grouped_matmul(layer.expert_gate_up, expert_in_, {2 * e.ffn, grouping_.tiles, grouping_.tile_count, most},
                 into(Epilogue::swiglu, expert_act_.data, e.ffn), stream_, tile);
  if (fp8()) quantize_rows(bf16(expert_act_), slots, expert_act8_, stream_);
  grouped_matmul(layer.expert_down, fp8() ? expert_act8_ : expert_act_,
                 {shape_.hidden, grouping_.tiles, grouping_.tile_count, most},
                 into(Epilogue::bf16, expert_out_, shape_.hidden), stream_, tile);
  combine(expert_out_, grouping_, e.chosen, t, shape_.hidden, x_, stream_);
}

void DeviceModel::forward(const StepLayout& l) {
  const int* m = step_memory_;
  const int t = l.tokens;
  AttentionBatch batch;
  batch.tables = m + l.at_table, batch.table_stride = l.table_stride;
  batch.decodes = l.decodes, batch.works = l.works;
  batch.decode_row = m + l.at_decode_row, batch.decode_sequence = m + l.at_decode_sequence;
  batch.decode_length = m + l.at_decode_length, batch.decode_first = m + l.at_decode_first;
  batch.work = reinterpret_cast<const int2*>(m + l.at_work);
  batch.whole = fuses(fuse_whole);
  batch.tiles = l.tiles, batch.tile = reinterpret_cast<const int4*>(m + l.at_tile);
  embed(embedding_, m + l.at_token, t, shape_.hidden, x_, stream_);
  for (const Layer& layer : layers_) {
    normed_product(layer.projections, layer.attn_norm, t,
                   into(Epilogue::bf16, projected_, projection_rows(), layer.qkv_bias));
    if (latent()) {
      attend_latent(layer, l, batch);
    } else {
      attend(layer, l, batch);
    }
    quantized_product(layer.o, attended_, attended8_, t, into(Epilogue::add_f32, x_, shape_.hidden));
    if (layer.has_experts) {
      feed_experts(layer, t);
    } else {
      const bool norms = norms_here(layer.gate_up, t);
      if (!norms) rms_norm(x_, nullptr, layer.ffn_norm, shape_.eps, t, normed_, stream_);
      feed_dense(layer, t, norms, act_, act8_);
    }
  }
  if (l.rows == 0) return;
  const MatmulOut logits = into(Epilogue::f32, logits_, shape_.vocab);
  if (norms_here(head_, l.rows)) {
    matmul(head_, RowSource{x_, output_norm_, shape_.eps, l.rows, m + l.at_logit_row}, logits, stream_);
  } else {
    rms_norm(x_, m + l.at_logit_row, output_norm_, shape_.eps, l.rows, head_in_, stream_);
    matmul(head_, head_in_, l.rows, logits, stream_);
  }
  draw_tokens(logits_, reinterpret_cast<const RowDraw*>(m + l.at_draw), l.rows, shape_.vocab, drawn_, stream_);
}

}  // namespace hp::cuda

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

const Bf16* bf16(const Activations& activations) {
  return static_cast<const Bf16*>(activations.data);
}

}  // namespace

void DeviceModel::attend(const Layer& layer, const StepLayout& l, const AttentionBatch& batch) {
  const RopeArgs rope{rope_cos_,  rope_sin_,        layer.q_norm,           layer.k_norm,
                      shape_.eps, shape_.rope_dims, shape_.rope_interleaved};
  const bool rotates = l.tiles == 0 && l.decodes <= kRotatingDecodes && attention_rotates(attention_, rope);
  if (!rotates) {
    rope_and_store(projected_, attention_, rope, step_memory_ + l.at_position, step_memory_ + l.at_slot, l.tokens,
                   layer.kv, stream_);
  }
  attention(projected_, attention_, layer.kv, batch, shape_.attention_scale, rotates ? &rope : nullptr, scratch_,
            static_cast<Bf16*>(attended_.data), stream_);
}

void DeviceModel::attend_latent(const Layer& layer, const StepLayout& l, const AttentionBatch& batch) {
  const LatentPrepare prepare{layer.kv_norm,           shape_.eps, rope_cos_, rope_sin_, step_memory_ + l.at_position,
                              step_memory_ + l.at_slot};
  const int heads = shape_.heads, v_dim = shape_.latent.v_dim;
  latent_prepare(projected_, latent_, prepare, l.tokens, layer.kv.k, queries_, stream_);
  head_product({projected_, latent_.row(), latent_.query(), layer.k_b, kLatentDims, latent_.nope, heads, queries_,
                heads * kLatentKey, kLatentKey},
               l.tokens, stream_);
  latent_attention(queries_, latent_, layer.kv.k, batch, shape_.attention_scale, scratch_, attended_latent_, stream_);
  head_product({attended_latent_, heads * kLatentDims, kLatentDims, layer.v_b, v_dim, kLatentDims, heads,
                static_cast<Bf16*>(attended_.data), heads * v_dim, v_dim},
               l.tokens, stream_);
}

void DeviceModel::feed_dense(const Layer& layer, int t, const Activations& act, const Activations& act8) {
  matmul(layer.gate_up, normed_, t, {Epilogue::swiglu, act.data, act.k, nullptr}, stream_);
  if (fp8()) quantize_rows(bf16(act), t, act8, stream_);
  matmul(layer.down, fp8() ? act8 : act, t, {Epilogue::add_f32, x_, shape_.hidden, nullptr}, stream_);
}

void DeviceModel::feed_experts(const Layer& layer, int t) {
  const ExpertDims& e = shape_.experts;
  const int slots = t * e.chosen, tile = expert_tile(slots, e.experts), columns = tile_columns(tile);
  if (fp8()) rms_norm(x_, nullptr, layer.ffn_norm, shape_.eps, t, normed16_, stream_);
  matmul(layer.router, fp8() ? normed16_ : normed_, t, {Epilogue::f32, router_logits_, e.experts, nullptr}, stream_);
  const RouterShape router{e.experts, e.chosen,   e.groups,    e.chosen_groups,
                           e.sigmoid, e.best_two, e.normalize, e.weight_scale};
  route(router_logits_, layer.router_bias, router, t, columns, grouping_, stream_);
  if (e.shared_ffn > 0) feed_dense(layer, t, shared_act_, shared_act8_);
  gather_rows(normed_, grouping_.token, slots, expert_in_, stream_);
  const int most = std::min(e.experts, slots) + slots / columns;
  grouped_matmul(layer.expert_gate_up, expert_in_, {2 * e.ffn, grouping_.tiles, grouping_.tile_count, most},
                 {Epilogue::swiglu, expert_act_.data, e.ffn, nullptr}, stream_, tile);
  if (fp8()) quantize_rows(bf16(expert_act_), slots, expert_act8_, stream_);
  grouped_matmul(layer.expert_down, fp8() ? expert_act8_ : expert_act_,
                 {shape_.hidden, grouping_.tiles, grouping_.tile_count, most},
                 {Epilogue::bf16, expert_out_, shape_.hidden, nullptr}, stream_, tile);
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
  batch.tiles = l.tiles, batch.tile = reinterpret_cast<const int4*>(m + l.at_tile);
  embed(embedding_, m + l.at_token, t, shape_.hidden, x_, stream_);
  for (const Layer& layer : layers_) {
    rms_norm(x_, nullptr, layer.attn_norm, shape_.eps, t, normed_, stream_);
    matmul(layer.projections, normed_, t, {Epilogue::bf16, projected_, projection_rows(), layer.qkv_bias}, stream_);
    if (latent()) {
      attend_latent(layer, l, batch);
    } else {
      attend(layer, l, batch);
    }
    if (fp8()) quantize_rows(bf16(attended_), t, attended8_, stream_);
    matmul(layer.o, fp8() ? attended8_ : attended_, t, {Epilogue::add_f32, x_, shape_.hidden, nullptr}, stream_);
    rms_norm(x_, nullptr, layer.ffn_norm, shape_.eps, t, normed_, stream_);
    if (layer.has_experts) {
      feed_experts(layer, t);
    } else {
      feed_dense(layer, t, act_, act8_);
    }
  }
  if (l.rows == 0) return;
  rms_norm(x_, m + l.at_logit_row, output_norm_, shape_.eps, l.rows, head_in_, stream_);
  matmul(head_, head_in_, l.rows, {Epilogue::f32, logits_, shape_.vocab, nullptr}, stream_);
  argmax_rows(logits_, l.rows, shape_.vocab, greedy_, stream_);
}

}  // namespace hp::cuda

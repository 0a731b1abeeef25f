// The model's weights in device memory: where each role's rows go, loading through pinned memory, random ones.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "arch/cuda/device_model.h"

namespace hp::cuda {

bool DeviceModel::allocate_weights() {
  const ModelShape& s = shape_;
  const auto floats = [&](float*& out, int count) {
    return allocate(reinterpret_cast<void**>(&out), static_cast<std::size_t>(count) * 4U, "norms");
  };
  if (!allocate_matrix(head_, s.vocab, s.hidden, WeightType::bf16) || !floats(output_norm_, s.hidden)) return false;
  if (!allocate(reinterpret_cast<void**>(&embedding_), head_.bytes(), "embedding")) return false;
  weight_bytes_ += head_.bytes();
  layers_.resize(static_cast<std::size_t>(s.layers));
  for (int i = 0; i < s.layers; ++i) {
    Layer& layer = layers_[static_cast<std::size_t>(i)];
    layer.has_experts = s.experts.experts > 0 && i >= s.experts.first_dense;
    if (!allocate_layer(layer)) return false;
  }
  return true;
}

bool DeviceModel::allocate_layer(Layer& layer) {
  const ModelShape& s = shape_;
  const ExpertDims& e = s.experts;
  const auto floats = [&](float*& out, int count) {
    return allocate(reinterpret_cast<void**>(&out), static_cast<std::size_t>(count) * 4U, "norms");
  };
  const auto plain = [&](Bf16*& out, int n, int k) {
    const std::size_t bytes = static_cast<std::size_t>(n) * static_cast<std::size_t>(k) * 2U;
    weight_bytes_ += bytes;
    return allocate(reinterpret_cast<void**>(&out), bytes, "weights");
  };
  const int ffn = dense_ffn(layer);
  const WeightType form = options_.weights;
  if (!allocate_matrix(layer.projections, projection_rows(), s.hidden, form) ||
      !allocate_matrix(layer.o, s.hidden, attended_columns(), form) || !floats(layer.attn_norm, s.hidden) ||
      !floats(layer.ffn_norm, s.hidden)) {
    return false;
  }
  if (ffn > 0 &&
      (!allocate_matrix(layer.gate_up, 2 * ffn, s.hidden, form) || !allocate_matrix(layer.down, s.hidden, ffn, form)))
    return false;
  if (s.latent.q_rank > 0 &&
      (!allocate_matrix(layer.q_b, query_rows(), s.latent.q_rank, form) || !floats(layer.q_a_norm, s.latent.q_rank)))
    return false;
  if (s.qkv_bias && !floats(layer.qkv_bias, attention_.row())) return false;
  if (s.qk_norm && (!floats(layer.q_norm, s.head_dim) || !floats(layer.k_norm, s.head_dim))) return false;
  if (latent() && (!floats(layer.kv_norm, kLatentDims) || !plain(layer.k_b, s.heads * kLatentDims, s.latent.nope) ||
                   !plain(layer.v_b, s.heads * s.latent.v_dim, kLatentDims))) {
    return false;
  }
  if (!layer.has_experts) return true;
  if (e.has_bias && !floats(layer.router_bias, e.experts)) return false;
  return allocate_matrix(layer.router, e.experts, s.hidden, WeightType::bf16) &&
         allocate_matrix(layer.expert_gate_up, e.experts * 2 * e.ffn, s.hidden, form) &&
         allocate_matrix(layer.expert_down, e.experts * s.hidden, e.ffn, form);
}

Matrix* DeviceModel::role_matrix(const WeightRows& rows, int& first, RowPlace& place) {
  const ModelShape& s = shape_;
  place = RowPlace::plain;
  first = rows.first;
  if (rows.role == WeightRole::head) return &head_;
  Layer& layer = layers_[static_cast<std::size_t>(rows.layer)];
  const int expert = rows.expert;
  switch (rows.role) {
    case WeightRole::q:
      return s.latent.q_rank > 0 ? &layer.q_b : &layer.projections;
    case WeightRole::q_a:
      return s.latent.q_rank > 0 ? &layer.projections : nullptr;
    case WeightRole::k:
      first += s.heads * s.head_dim;
      return &layer.projections;
    case WeightRole::v:
      first += (s.heads + s.kv_heads) * s.head_dim;
      return &layer.projections;
    case WeightRole::kv_a:
      first += first_projection();
      return &layer.projections;
    case WeightRole::o:
      return &layer.o;
    case WeightRole::gate:
    case WeightRole::shared_gate:
      place = RowPlace::gate;
      return &layer.gate_up;
    case WeightRole::up:
    case WeightRole::shared_up:
      place = RowPlace::up;
      return &layer.gate_up;
    case WeightRole::down:
    case WeightRole::shared_down:
      return &layer.down;
    case WeightRole::router:
      return &layer.router;
    case WeightRole::expert_gate:
    case WeightRole::expert_up:
      place = rows.role == WeightRole::expert_up ? RowPlace::up : RowPlace::gate;
      first += expert * s.experts.ffn;
      return &layer.expert_gate_up;
    case WeightRole::expert_down:
      first += expert * s.hidden;
      return &layer.expert_down;
    default:
      return nullptr;
  }
}

Matrix* DeviceModel::matrix_of(const WeightRows& rows, int& first, RowPlace& place) {
  Matrix* matrix = role_matrix(rows, first, place);
  if (matrix != nullptr && matrix->k == rows.columns) return matrix;
  fail("a weight of role " + std::to_string(static_cast<int>(rows.role)) + " has " + std::to_string(rows.columns) +
       " columns, the model expects another number");
  return nullptr;
}

float* DeviceModel::floats_of(const WeightRows& rows) {
  const ModelShape& s = shape_;
  if (rows.role == WeightRole::output_norm) return output_norm_;
  Layer& layer = layers_[static_cast<std::size_t>(rows.layer)];
  switch (rows.role) {
    case WeightRole::attn_norm:
      return layer.attn_norm;
    case WeightRole::ffn_norm:
      return layer.ffn_norm;
    case WeightRole::kv_a_norm:
      return layer.kv_norm;
    case WeightRole::q_a_norm:
      return layer.q_a_norm;
    case WeightRole::router_bias:
      return layer.router_bias;
    case WeightRole::q_norm:
      return layer.q_norm;
    case WeightRole::k_norm:
      return layer.k_norm;
    case WeightRole::q_bias:
      return layer.qkv_bias;
    case WeightRole::k_bias:
      return layer.qkv_bias == nullptr ? nullptr : layer.qkv_bias + s.heads * s.head_dim;
    case WeightRole::v_bias:
      return layer.qkv_bias == nullptr ? nullptr : layer.qkv_bias + (s.heads + s.kv_heads) * s.head_dim;
    default:
      return nullptr;
  }
}

bool DeviceModel::load(const WeightRows& rows) {
  cudaSetDevice(device_);
  if (rows.layer < 0 || rows.layer >= shape_.layers)
    return fail("layer " + std::to_string(rows.layer) + " of " + std::to_string(shape_.layers));
  if (rows.columns == 0) {
    float* out = floats_of(rows);
    if (out == nullptr)
      return fail("role " + std::to_string(static_cast<int>(rows.role)) + " is not in this model's shape");
    cudaMemcpy(out + rows.first, rows.data, static_cast<std::size_t>(rows.rows) * sizeof(float),
               cudaMemcpyHostToDevice);
    return check("loading a norm");
  }
  if (rows.scales != nullptr && ints()) return load_ints(rows);
  const bool ready8 = rows.scales != nullptr;
  if (ready8 && !fp8()) return fail("rows with scales for a model with bf16 weights");
  const std::size_t row_bytes = static_cast<std::size_t>(rows.columns) * (ready8 ? 1U : 2U);
  const int scale_columns = (rows.columns + kQuantBlock - 1) / kQuantBlock;
  int step = static_cast<int>(kStagingBytes / row_bytes);
  step = step / kQuantBlock * kQuantBlock;
  for (int at = 0; at < rows.rows; at += step) {
    const int count = std::min(step, rows.rows - at);
    const auto* in = static_cast<const std::byte*>(rows.data) + static_cast<std::size_t>(at) * row_bytes;
    const std::size_t bytes = static_cast<std::size_t>(count) * row_bytes;
    if (rows.role == WeightRole::k_b || rows.role == WeightRole::v_b) {
      const Layer& layer = layers_[static_cast<std::size_t>(rows.layer)];
      Bf16* out = rows.role == WeightRole::k_b ? layer.k_b : layer.v_b;
      if (out == nullptr) return fail("this model's shape has no latent attention");
      cudaMemcpy(out + static_cast<std::size_t>(rows.first + at) * static_cast<std::size_t>(rows.columns), in, bytes,
                 cudaMemcpyHostToDevice);
      continue;
    }
    if (rows.role == WeightRole::embedding) {
      if (rows.columns != shape_.hidden || rows.first + at + count > shape_.vocab)
        return fail("the embedding's shape is not the model's");
      cudaMemcpy(embedding_ + static_cast<std::size_t>(rows.first + at) * static_cast<std::size_t>(rows.columns), in,
                 bytes, cudaMemcpyHostToDevice);
      continue;
    }
    int first = 0;
    RowPlace place = RowPlace::plain;
    Matrix* matrix = matrix_of(rows, first, place);
    if (matrix == nullptr) return false;
    cudaStreamSynchronize(stream_);
    std::memcpy(staging_, in, bytes);
    cudaMemcpyAsync(device_staging_, staging_, bytes, cudaMemcpyHostToDevice, stream_);
    if (!ready8) {
      place_weight(static_cast<const Bf16*>(device_staging_), count, *matrix, first + at, place, stream_);
      continue;
    }
    const std::size_t scale_bytes =
        static_cast<std::size_t>((count + kQuantBlock - 1) / kQuantBlock * scale_columns) * 4U;
    cudaMemcpyAsync(device_scales_, rows.scales + static_cast<std::size_t>(at / kQuantBlock * scale_columns),
                    scale_bytes, cudaMemcpyHostToDevice, stream_);
    place_fp8_weight(static_cast<const Fp8*>(device_staging_), static_cast<const float*>(device_scales_), count,
                     *matrix, first + at, place, stream_);
  }
  return check("loading a weight");
}

/// Codes and their scales pass through the staging memory together.
bool DeviceModel::load_ints(const WeightRows& rows) {
  int first = 0;
  RowPlace place = RowPlace::plain;
  Matrix* matrix = matrix_of(rows, first, place);
  if (matrix == nullptr) return false;
  if (matrix->ints.bits == 0)
    return fail("codes for role " + std::to_string(static_cast<int>(rows.role)) + ", which stays bf16");
  const std::size_t row_bytes = int_row_bytes(matrix->ints.bits, rows.columns);
  const auto groups = static_cast<std::size_t>((rows.columns + matrix->ints.group - 1) / matrix->ints.group);
  const int step = static_cast<int>(kStagingBytes / (row_bytes + groups * sizeof(float) + 16));
  for (int at = 0; at < rows.rows; at += step) {
    const auto count = static_cast<std::size_t>(std::min(step, rows.rows - at)), done = static_cast<std::size_t>(at);
    const std::size_t codes = (count * row_bytes + 15) / 16 * 16, scales = count * groups * sizeof(float);
    auto *host = static_cast<std::uint8_t*>(staging_), *device = static_cast<std::uint8_t*>(device_staging_);
    cudaStreamSynchronize(stream_);
    std::memcpy(host, static_cast<const std::uint8_t*>(rows.data) + done * row_bytes, count * row_bytes);
    std::memcpy(host + codes, rows.scales + done * groups, scales);
    cudaMemcpyAsync(device, host, codes + scales, cudaMemcpyHostToDevice, stream_);
    place_int_weight(device, reinterpret_cast<const float*>(device + codes), static_cast<int>(count), *matrix,
                     first + at, place, stream_);
  }
  return check("loading a weight");
}

bool DeviceModel::load_random(std::uint64_t seed) {
  cudaSetDevice(device_);
  const ModelShape& s = shape_;
  const auto deviation = [](int k) { return 1.0F / std::sqrt(static_cast<float>(k)); };
  random_bf16(embedding_, static_cast<std::size_t>(s.vocab) * static_cast<std::size_t>(s.hidden), 1.0F, seed, stream_);
  random_weight(head_, 4.0F * deviation(s.hidden), seed + 1, stream_);
  fill_f32(output_norm_, static_cast<std::size_t>(s.hidden), 1.0F, stream_);
  std::uint64_t next = seed + 2;
  for (Layer& layer : layers_) {
    for (Matrix* matrix : {&layer.projections, &layer.q_b, &layer.o, &layer.gate_up, &layer.down, &layer.router,
                           &layer.expert_gate_up, &layer.expert_down}) {
      if (matrix->n > 0) random_weight(*matrix, deviation(matrix->k), next++, stream_);
    }
    if (latent()) {
      random_bf16(layer.k_b, static_cast<std::size_t>(s.heads * kLatentDims) * static_cast<std::size_t>(s.latent.nope),
                  deviation(s.latent.nope), next++, stream_);
      random_bf16(layer.v_b, static_cast<std::size_t>(s.heads * s.latent.v_dim) * kLatentDims, deviation(kLatentDims),
                  next++, stream_);
      fill_f32(layer.kv_norm, kLatentDims, 1.0F, stream_);
    }
    if (layer.q_a_norm != nullptr) fill_f32(layer.q_a_norm, static_cast<std::size_t>(s.latent.q_rank), 1.0F, stream_);
    if (layer.router_bias != nullptr)
      fill_f32(layer.router_bias, static_cast<std::size_t>(s.experts.experts), 0.0F, stream_);
    fill_f32(layer.attn_norm, static_cast<std::size_t>(s.hidden), 1.0F, stream_);
    fill_f32(layer.ffn_norm, static_cast<std::size_t>(s.hidden), 1.0F, stream_);
    if (layer.qkv_bias != nullptr) fill_f32(layer.qkv_bias, static_cast<std::size_t>(attention_.row()), 0.01F, stream_);
    if (layer.q_norm != nullptr) {
      fill_f32(layer.q_norm, static_cast<std::size_t>(s.head_dim), 1.0F, stream_);
      fill_f32(layer.k_norm, static_cast<std::size_t>(s.head_dim), 1.0F, stream_);
    }
  }
  return check("making random weights");
}

}  // namespace hp::cuda

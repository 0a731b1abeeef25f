// A decoder on one GPU: owns weights, KV, activations and step graphs in device memory. Grouped-query or latent
// attention, dense layers or experts. device_model.cu has memory and steps, device_weights.cu
// the weights, device_forward.cu the pass straight down.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "arch/cuda/matrix_form.h"
#include "arch/cuda/plugin_api.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sampling.h"

namespace hp::cuda {

/// Where a step's integers lie, in ints from the start of the step memory. Arrays begin at multiples of 4.
struct StepLayout {
  int tokens = 0, rows = 0, decodes = 0, works = 0, tiles = 0, sequences = 0, table_stride = 0;
  int at_token = 0, at_position = 0, at_slot = 0, at_logit_row = 0, at_decode_row = 0, at_decode_sequence = 0,
      at_decode_length = 0, at_decode_first = 0, at_draw = 0, at_work = 0, at_tile = 0, at_table = 0, size = 0;
  void place();  ///< the offsets, from the counts
};

class DeviceModel {
 public:
  DeviceModel(int device, const ModelShape& shape, const ModelOptions& options);
  ~DeviceModel();
  DeviceModel(const DeviceModel&) = delete;
  DeviceModel& operator=(const DeviceModel&) = delete;

  bool create(const float* rope_cos, const float* rope_sin);
  bool load(const WeightRows& rows);
  bool load_random(std::uint64_t seed);
  bool finish();
  bool step(const PluginSequence* batch, int sequences, bool want_logits, bool want_drawn);
  bool bring_logits();  ///< of the last step
  void use_fusions(unsigned fusions, std::size_t ahead_bytes = kAheadBytes, bool invariant = true);  ///< from now on

  [[nodiscard]] const float* logits() const { return host_logits_; }
  [[nodiscard]] const std::int32_t* drawn() const { return host_drawn_; }
  [[nodiscard]] const std::string& error() const { return error_; }
  void describe(DeviceInfo& info) const;

 private:
  static constexpr std::size_t kStagingBytes = std::size_t{64} << 20;  ///< host memory that weights pass through

  struct Layer {
    Matrix projections;  ///< q, k, v; or queries (q_a of low-rank ones), latent and rotary key
    Matrix q_b;          ///< of low-rank queries
    float* q_a_norm = nullptr;
    Matrix o, gate_up, down;  ///< the dense layer's or the shared experts'
    float *attn_norm = nullptr, *ffn_norm = nullptr, *qkv_bias = nullptr, *q_norm = nullptr, *k_norm = nullptr;
    float* kv_norm = nullptr;
    Bf16 *k_b = nullptr, *v_b = nullptr;
    bool has_experts = false;
    Matrix router, expert_gate_up, expert_down;
    float* router_bias = nullptr;
    KvLayer kv;  ///< k holds the latents of latent attention
  };

  [[nodiscard]] bool latent() const { return shape_.latent.nope > 0; }
  [[nodiscard]] bool fp8() const { return options_.weights == WeightType::fp8; }
  [[nodiscard]] bool ints() const { return is_int(options_.weights); }
  [[nodiscard]] int query_rows() const { return shape_.heads * latent_.query(); }
  /// The queries' part of the projections.
  [[nodiscard]] int first_projection() const { return shape_.latent.q_rank > 0 ? shape_.latent.q_rank : query_rows(); }
  [[nodiscard]] int projection_rows() const { return latent() ? first_projection() + kLatentKey : attention_.row(); }
  [[nodiscard]] bool fuses(Fusion what) const { return (options_.fusions & what) != 0; }
  /// Whether dense products over `hidden` of this form normalize their rows themselves; and those of experts.
  [[nodiscard]] bool norms_here(const Matrix& weight, int t) const;
  [[nodiscard]] bool norms_experts(bool fp8, int t) const;
  [[nodiscard]] int attended_columns() const {
    return shape_.heads * (latent() ? shape_.latent.v_dim : shape_.head_dim);
  }
  [[nodiscard]] int dense_ffn(const Layer& layer) const {
    return layer.has_experts ? shape_.experts.shared_ffn : shape_.ffn;
  }
  bool check_shape();
  bool allocate(void** out, std::size_t bytes, const char* what);
  bool allocate_matrix(Matrix& matrix, int n, int k, WeightType form);
  bool allocate_activations(Activations& out, int rows, int k, bool fp8);
  bool allocate_weights();
  bool allocate_layer(Layer& layer);
  bool allocate_experts_step(int t);
  bool allocate_step();
  bool check(const char* what);
  bool fail(std::string sentence);
  bool load_ints(const WeightRows& rows);
  Matrix* role_matrix(const WeightRows& rows, int& first, RowPlace& place);
  Matrix* matrix_of(const WeightRows& rows, int& first, RowPlace& place);  ///< of as many columns, else an error
  float* floats_of(const WeightRows& rows);
  bool plan(const PluginSequence* batch, int sequences, StepLayout& layout, bool& graph);
  void forward(const StepLayout& layout);
  [[nodiscard]] MatmulOut into(Epilogue epilogue, void* data, int stride, const float* bias = nullptr) const;
  [[nodiscard]] Ahead weights_ahead(const Layer& layer) const;
  void attend(const Layer& layer, const StepLayout& layout, AttentionBatch batch);
  void attend_latent(const Layer& layer, const StepLayout& layout, const AttentionBatch& batch);
  void normed_product(const Matrix& weight, const float* norm, int t, const MatmulOut& out);
  void quantized_product(const Matrix& weight, const Activations& in, const Activations& in8, int t,
                         const MatmulOut& out);
  LatentRows latent_rows(const Layer& layer, int t);
  void feed_dense(const Layer& layer, int t, bool norms, const Activations& act, const Activations& act8);
  void feed_experts(const Layer& layer, int t);
  void feed_few_experts(const Layer& layer, int t);
  void feed_few_int_experts(const Layer& layer, int t);
  bool launch_graph(const StepLayout& layout);

  int device_;
  ModelShape shape_;
  ModelOptions options_;
  AttentionShape attention_;
  LatentShape latent_;
  std::string error_;
  cudaStream_t stream_ = nullptr;
  std::vector<void*> allocations_;
  std::size_t weight_bytes_ = 0;

  Bf16* embedding_ = nullptr;
  Matrix head_;
  float *output_norm_ = nullptr, *rope_cos_ = nullptr, *rope_sin_ = nullptr;
  std::vector<Layer> layers_;
  int blocks_ = 0, work_capacity_ = 0;
  std::size_t block_bytes_ = 0;

  float *x_ = nullptr, *scratch_ = nullptr, *logits_ = nullptr;
  Bf16 *projected_ = nullptr, *raw_queries_ = nullptr, *queries_ = nullptr, *attended_latent_ = nullptr;
  Activations normed_, q_a_, attended_, attended8_, act_, act8_, head_in_;
  Activations normed16_, shared_act_, shared_act8_, expert_in_, expert_act_, expert_act8_;
  Bf16* expert_out_ = nullptr;
  float* router_logits_ = nullptr;
  Grouping grouping_;
  int *step_memory_ = nullptr, *host_step_ = nullptr, *drawn_ = nullptr;
  float* host_logits_ = nullptr;
  std::int32_t* host_drawn_ = nullptr;
  int last_rows_ = 0;
  std::size_t step_ints_ = 0, ahead_bytes_ = kAheadBytes;
  void* staging_ = nullptr;  ///< host, pinned
  void *device_staging_ = nullptr, *device_scales_ = nullptr;
  std::map<std::pair<int, int>, cudaGraphExec_t> graphs_;  ///< by decodes and works
};

}  // namespace hp::cuda

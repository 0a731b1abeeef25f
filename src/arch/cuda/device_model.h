// The dense decoder on one GPU: owns weights, KV, activations and step graphs in device memory. Straight down like the
// CPU's forward pass: embed, layers, logits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "arch/cuda/plugin_api.h"
#include "kernels/cuda/launch.h"

namespace hp::cuda {

/// Where a step's integers lie, in ints from the start of the step memory. Arrays begin at multiples of 4.
struct StepLayout {
  int tokens = 0, rows = 0, decodes = 0, works = 0, tiles = 0, sequences = 0, table_stride = 0;
  int at_token = 0, at_position = 0, at_slot = 0, at_logit_row = 0, at_decode_row = 0, at_decode_sequence = 0,
      at_decode_length = 0, at_decode_first = 0, at_work = 0, at_tile = 0, at_table = 0, size = 0;
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
  bool step(const PluginSequence* batch, int sequences, bool want_logits, bool want_greedy);

  [[nodiscard]] const float* logits() const { return host_logits_; }
  [[nodiscard]] const std::int32_t* greedy() const { return host_greedy_; }
  [[nodiscard]] const std::string& error() const { return error_; }
  void describe(DeviceInfo& info) const;

 private:
  struct Layer {
    Matrix qkv, o, gate_up, down;
    float *attn_norm = nullptr, *ffn_norm = nullptr, *qkv_bias = nullptr, *q_norm = nullptr, *k_norm = nullptr;
    KvLayer kv;
  };

  bool allocate(void** out, std::size_t bytes, const char* what);
  bool allocate_matrix(Matrix& matrix, int n, int k, bool fp8);
  bool allocate_activations(Activations& out, int rows, int k, bool fp8);
  bool allocate_weights();
  bool allocate_step();
  bool check(const char* what);
  bool fail(std::string sentence);
  Matrix* matrix_of(const WeightRows& rows, int& first, RowPlace& place);
  float* floats_of(const WeightRows& rows);
  bool plan(const PluginSequence* batch, int sequences, StepLayout& layout, bool& graph);
  void forward(const StepLayout& layout);
  void layer_forward(const Layer& layer, const StepLayout& layout, const AttentionBatch& batch);
  bool launch_graph(const StepLayout& layout);

  int device_;
  ModelShape shape_;
  ModelOptions options_;
  AttentionShape attention_;
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
  Bf16* qkv_ = nullptr;
  Activations normed_, attended_, attended8_, act_, act8_, head_in_;
  int *step_memory_ = nullptr, *host_step_ = nullptr, *greedy_ = nullptr;
  float* host_logits_ = nullptr;
  std::int32_t* host_greedy_ = nullptr;
  std::size_t step_ints_ = 0;
  void* staging_ = nullptr;  ///< host, pinned
  void* device_staging_ = nullptr;
  std::map<std::pair<int, int>, cudaGraphExec_t> graphs_;  ///< by decodes and works
};

}  // namespace hp::cuda

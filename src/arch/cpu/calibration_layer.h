// One decoder layer through both passes (rounding_pass.h), matrix by matrix and expert by expert: attention of either
// kind, dense feed-forward or experts. A token's experts are the original's in both passes.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <vector>

#include "arch/cpu/calibration_attention.h"
#include "arch/cpu/rounding_pass.h"
#include "arch/rope_table.h"

namespace hp {

class LayerCalibration {
 public:
  /// `lengths`: rows of each window.
  LayerCalibration(const Checkpoint& checkpoint, RoundingPass& pass, const FloatProducts& products,
                   std::vector<std::size_t> lengths);

  /// x [rows, hidden] before the layer -> behind it.
  Status run(std::int32_t index, RowPair& x);

  /// Rows of `width` columns from `first` on, normed by a weight of the checkpoint.
  Result<RowPair> normed(const RowPair& x, const std::string& weight, std::size_t first, std::size_t width, float eps);

 private:
  [[nodiscard]] std::size_t rows() const;
  Result<RowPair> product(const std::string& name, std::size_t n, ProductInputs& in, const std::string& bias = {});
  Status add_product(const std::string& name, ProductInputs& in, RowPair& x);
  Status grouped_attention(const std::string& p, RowPair& x);
  Status latent_attention(const std::string& p, RowPair& x);
  Status rotate(RowPair& rows, const std::string& norm, std::size_t heads, std::size_t head_dim, std::size_t rope_at);
  Result<RowPair> attend(const AttentionShape& shape, const RowPair& q, const RowPair& k, const RowPair& v);
  Result<RowPair> activated(const std::string& gate, const std::string& up, std::size_t ffn, ProductInputs& in);
  Status feed_forward(const std::string& p, const std::string& suffix, std::size_t ffn, ProductInputs& in, RowPair& x);
  Status experts(const std::string& p, RowPair& x);
  struct Routed {
    std::vector<std::size_t> tokens;
    std::vector<float> shares;
  };
  Result<std::vector<Routed>> route(const std::string& p, ProductInputs& in);
  Status expert(const std::string& p, std::int32_t index, const Routed& routed, const RowPair& in, const Moments& usual,
                RowPair& x);
  /// f(row, position in its window) by the team; after each window, what was touched is let go.
  template <typename F>
  void for_rows(std::initializer_list<const SpilledRows*> touched, const F& f) const;

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  RoundingPass& pass_;
  const FloatProducts& products_;
  const kernels::KernelTable& table_;
  ParallelTeam& team_;
  const std::vector<std::size_t> lengths_;
  RopeTable rope_;
};

}  // namespace hp

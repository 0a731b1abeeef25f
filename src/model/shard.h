// Which rank holds which rows and columns of every tensor when one model is cut over several: heads of attention,
// columns of feed-forward blocks, ids of the vocabulary. Pure: configuration and types in, rows and columns out;
// loading, sizing and checking ask here.
//
//   embedding, head           rows by ids, the same number each but for the last
//   q, k, v (and biases)      rows by heads; with more ranks than key heads, a key head lies on several
//   o                         columns by heads
//   gate, up; down            rows; columns of the feed-forward, as equal as whole blocks allow
//   latent attention          q (q_b), k_b, v_b, kv_b by heads; q_a, kv_a whole, and so is the cache of latents
//   experts, shared ones      like gate, up and down, inside every expert: all ranks work alike whatever is routed
//   norms, router, the rest   whole
//
// Everything that a rank leaves out of a sum over heads or feed-forward is another rank's: outputs of o and down are
// parts that are summed over all ranks. A cut never goes through a block with scales of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/model_config.h"
#include "model/tensor_table.h"

namespace hp {

/// One of `world` ranks.
struct RankOf {
  std::int32_t rank = 0, world = 1;
};

/// What a rank holds of a matrix, or of every matrix of a stack of experts: rows × columns of all_rows × all_columns.
/// A vector is a matrix of one column; heads stacked one behind the other are one matrix.
struct TensorPart {
  std::int64_t first_row = 0, rows = 0, first_column = 0, columns = 0, all_rows = 0, all_columns = 0;
  [[nodiscard]] bool whole() const { return rows == all_rows && columns == all_columns; }
  /// Row of the tensor for row `row` of a stack of parts.
  [[nodiscard]] std::int64_t row_in_file(std::int64_t row) const {
    return row / rows * all_rows + first_row + row % rows;
  }
};

/// Types of a checkpoint's tensors by canonical name.
using TypeOf = std::function<DType(std::string_view tensor)>;

class ShardPlan {
 public:
  /// The error names what cannot be cut for so many ranks, and why.
  static Result<ShardPlan> make(const ModelConfig& config, TensorForms forms, const TypeOf& type_of, RankOf rank);
  static Result<ShardPlan> make(const Checkpoint& checkpoint, RankOf rank);

  [[nodiscard]] RankOf rank() const { return rank_; }
  /// The model as this rank computes it: its heads and its share of the feed-forward; vocab is the model's.
  [[nodiscard]] const ModelConfig& config() const { return own_; }
  [[nodiscard]] const ModelConfig& whole() const { return whole_; }
  /// Ids whose rows of embedding and head lie here: [first_id, first_id + ids).
  [[nodiscard]] std::int32_t first_id() const { return first_id_; }
  [[nodiscard]] std::int32_t ids() const { return ids_; }
  [[nodiscard]] TensorPart part(std::string_view name, const Shape& shape) const;

 private:
  struct Span {
    std::int64_t first = 0, count = 0;
  };
  ShardPlan() = default;
  Status cut_heads();
  Result<Span> cut_ffn(std::string_view what, std::int64_t size, std::int64_t grain) const;
  [[nodiscard]] Status check(const TensorSpec& tensor, DType type) const;

  ModelConfig whole_, own_;
  RankOf rank_;
  Span heads_, kv_heads_, ffn_, expert_ffn_;
  std::int32_t first_id_ = 0, ids_ = 0;
};

}  // namespace hp

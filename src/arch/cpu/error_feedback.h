// Rounding that makes good for itself: the error of a column is carried into the columns that are still to be rounded,
// as far as the inputs of both go together on a text (OBQ, GPTQ; the factored form is LDLQ's). One object is made for a
// block of a matrix's columns; how a value is rounded is the grid's.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "arch/cpu/float_products.h"
#include "model/quantize_formats.h"

namespace hp {

class ErrorFeedback {
 public:
  /// From gram [k, k], the sums of products of the inputs; `damping` times the mean of its diagonal is added to that.
  static Result<ErrorFeedback> make(std::span<const float> gram, std::size_t k, double damping,
                                    const FloatProducts& products);

  [[nodiscard]] std::size_t size() const { return order_.size(); }
  [[nodiscard]] std::span<const float> strength() const { return strength_; }  ///< the gram's diagonal, damped
  [[nodiscard]] float damped() const { return damped_; }                       ///< what was added
  /// residual [n, k] · (gram + damping)⁻¹ into out [n, k]: by how much weights would have to move to undo it.
  void solve(const float* residual, std::size_t n, float* out) const;

  /// Rounds columns [first, first + k) of w [rows, stride] to the grid, towards target [rows, k]. By one member.
  void round(std::span<const float> target, const WeightGrid& grid, std::size_t first, float* w,
             std::size_t stride) const;

 private:
  explicit ErrorFeedback(const FloatProducts& products) : products_(&products) {}
  Status factor(std::span<const float> gram);
  Status keep_inverse(const std::vector<double>& inverse);
  Status keep_feedback(const std::vector<double>& l);

  const FloatProducts* products_;
  float damped_ = 0.0F;
  std::vector<float> strength_;
  std::vector<std::size_t> order_;  ///< columns, the strongest inputs first
  PanelRoom inverse_;               ///< [k, k] in the columns' own order
  std::vector<float> within_;       ///< [k, kStep]: what a column's error adds to those behind it in its step
  std::vector<PanelRoom> beyond_;   ///< per step [columns behind it, kStep]
};

}  // namespace hp

// One matrix after the other through two forward passes at once, the original's and the rounded model's: every product
// is made with both, and a matrix that is to be rounded is rounded so that the rounded model's output comes as near to
// the original's as the format lets it, errors of earlier matrices included. Memory holds a stripe of one matrix and
// blocks of the inputs' second moments; rows spill (spilled_rows.h).
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "arch/cpu/error_feedback.h"
#include "arch/cpu/float_products.h"
#include "arch/cpu/spilled_rows.h"
#include "arch/cpu/weight_packing.h"
#include "model/checkpoint.h"
#include "model/quantize_plan.h"
#include "model/rounded_store.h"

namespace hp {

/// The same rows in both passes; `rounded` is empty in a pass that rounds nothing.
struct RowPair {
  SpilledRows original, rounded;
};

/// Second moments of some inputs, in blocks of columns along the diagonal.
using Moments = std::vector<std::vector<float>>;

/// What meets some matrices, and what rounding those needs to know of it; that is worked out once, when first needed.
struct ProductInputs {
  const RowPair& rows;
  const Moments* usual = nullptr;  ///< of all tokens, where `rows` are few
  std::size_t usual_rows = 0;
  std::vector<ErrorFeedback> feedback = {};
};

struct CalibratedProduct {
  std::string name;  ///< canonical, [n, k]
  std::size_t n = 0, k = 0;
  RowPair* out = nullptr;  ///< [rows, n]; null: only rounded
  bool add = false;        ///< out +=: then the rounding makes good for how far out's passes are apart already
  const FloatRow* bias = nullptr;
};

class RoundingPass {
 public:
  /// `rounds` false: the original's pass alone.
  RoundingPass(const Checkpoint& checkpoint, const QuantizePlan& plan, const RoundedStore& store,
               const FloatProducts& products);

  bool rounds = true;
  std::function<void(std::size_t bytes)> progress;  ///< source bytes of a stripe that was gone through; may be empty

  Result<RowPair> make_rows(std::size_t rows, std::size_t width) const;
  Status multiply(const CalibratedProduct& product, ProductInputs& inputs);
  Result<Moments> moments(const SpilledRows& rows) const;
  /// Rows of a matrix [n, width] as the rounded model has them.
  Status rounded_rows(const std::string& name, const std::vector<std::size_t>& which, SpilledRows& out) const;
  [[nodiscard]] bool to_round(const std::string& name) const;  ///< and not rounded yet

 private:
  struct Stripe;
  Result<std::vector<ErrorFeedback>> feedback_of(const ProductInputs& inputs) const;
  [[nodiscard]] std::size_t stripe_rows(std::size_t rows, std::size_t k) const;
  void load(const NamedTensor& t, std::size_t first, std::size_t count, std::vector<float>& out) const;
  Status differences(const CalibratedProduct& p, const RowPair& in, Stripe& s) const;
  Status add_to_differences(const RowPair& in, std::size_t first, std::size_t count, const std::vector<float>& moved,
                            Stripe& s) const;
  Status originals(const CalibratedProduct& p, const RowPair& in, const Stripe& s) const;
  void rounded_outputs(const CalibratedProduct& p, const Stripe& s) const;
  Status round(const PlannedTensor& t, ProductInputs& inputs, Stripe& s, RoundedWriter& out) const;
  Status round_block(const ProductInputs& inputs, const ErrorFeedback& feedback, std::size_t first, Stripe& s) const;
  Status apply_rounded(const RowPair& in, Stripe& s) const;
  Status take_rounded(const RoundedMatrix& m, const PlannedTensor& t, const RowPair& in, Stripe& s) const;

  const Checkpoint& checkpoint_;
  const QuantizePlan& plan_;
  const RoundedStore& store_;
  const FloatProducts& products_;
  std::map<std::string, const PlannedTensor*, std::less<>> planned_;
  mutable PanelRoom panels_;
};

}  // namespace hp

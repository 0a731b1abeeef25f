#include "arch/cpu/error_feedback.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace hp {
namespace {

constexpr std::size_t kStep = 32;   // columns whose feedback goes one by one; behind them it is a product
constexpr std::size_t kPanel = 48;  // columns of the factor that are finished together

double dot(const double* a, const double* b, std::size_t n) {
  double s[4] = {};
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (std::size_t j = 0; j < 4; ++j) s[j] += a[i + j] * b[i + j];
  }
  for (; i < n; ++i) s[0] += a[i] * b[i];
  return s[0] + s[1] + (s[2] + s[3]);
}

/// a [k, k] = L · Lᵀ in place, the lower half.
void cholesky(std::vector<double>& a, std::size_t k, const FloatProducts& products) {
  for (std::size_t p = 0; p < k; p += kPanel) {
    const std::size_t end = std::min(k, p + kPanel);
    for (std::size_t i = p; i < end; ++i) {
      for (std::size_t j = p; j <= i; ++j) {
        const double v = a[i * k + j] - dot(&a[i * k], &a[j * k], j);
        a[i * k + j] = i == j ? std::sqrt(std::max(v, 1e-30)) : v / a[j * k + j];
      }
    }
    products.run((k - end) * kPanel * end, [&](int member) {
      const Range own = split_range(k - end, member, products.team().size());
      for (std::size_t i = end + own.begin; i < end + own.end; ++i) {
        for (std::size_t j = p; j < end; ++j)
          a[i * k + j] = (a[i * k + j] - dot(&a[i * k], &a[j * k], j)) / a[j * k + j];
      }
    });
  }
}

/// The inverse of a lower triangle.
std::vector<double> inverse_of(const std::vector<double>& l, std::size_t k, const FloatProducts& products) {
  std::vector<double> out(k * k, 0.0);
  products.run(k * k * k / 6, [&](int member) {
    const Range own = split_range(k, member, products.team().size());
    for (std::size_t i = own.begin; i < k; ++i) {
      double* const row = &out[i * k];
      for (std::size_t m = own.begin; m < i; ++m) {
        const double f = l[i * k + m];
        const double* const above = &out[m * k];
        for (std::size_t c = own.begin; c < std::min(own.end, m + 1); ++c) row[c] -= f * above[c];
      }
      for (std::size_t c = own.begin; c < std::min(own.end, i); ++c) row[c] /= l[i * k + i];
      if (i < own.end) row[i] = 1.0 / l[i * k + i];
    }
  });
  return out;
}

}  // namespace

Result<ErrorFeedback> ErrorFeedback::make(std::span<const float> gram, std::size_t k, double damping,
                                          const FloatProducts& products) {
  HP_CHECK(gram.size() == k * k, "a gram of {} for {} columns", gram.size(), k);
  ErrorFeedback out(products);
  double trace = 0.0;
  for (std::size_t i = 0; i < k; ++i) trace += gram[i * k + i];
  out.damped_ = static_cast<float>(std::max(damping * trace / static_cast<double>(k), 1e-12));
  for (std::size_t i = 0; i < k; ++i) out.strength_.push_back(gram[i * k + i] + out.damped_);
  out.order_.resize(k);
  std::iota(out.order_.begin(), out.order_.end(), std::size_t{0});
  std::stable_sort(out.order_.begin(), out.order_.end(),
                   [&](std::size_t a, std::size_t b) { return gram[a * k + a] > gram[b * k + b]; });
  HP_TRY_VOID(out.factor(gram));
  return out;
}

// With the columns in reverse order, gram + damping = L · Lᵀ; read backwards that is (1 + U) · D · (1 + U)ᵀ with U
// strictly upper, and U is the feedback: the loss of errors e is the sum over columns j of D[j] · (e[j] + Σ e[i < j] ·
// U[i, j])².
Status ErrorFeedback::factor(std::span<const float> gram) {
  const std::size_t k = size();
  std::vector<double> l(k * k, 0.0);
  for (std::size_t a = 0; a < k; ++a) {
    for (std::size_t b = 0; b <= a; ++b) l[a * k + b] = gram[order_[k - 1 - a] * k + order_[k - 1 - b]];
    l[a * k + a] += damped_;
  }
  cholesky(l, k, *products_);
  HP_TRY_VOID(keep_feedback(l));
  return keep_inverse(inverse_of(l, k, *products_));
}

Status ErrorFeedback::keep_feedback(const std::vector<double>& l) {
  const std::size_t k = size();
  const auto upper = [&](std::size_t i, std::size_t j) {  // i < j
    const std::size_t a = k - 1 - i, b = k - 1 - j;
    return static_cast<float>(l[a * k + b] / l[b * k + b]);
  };
  within_.assign(k * kStep, 0.0F);
  std::vector<float> rows;
  for (std::size_t b = 0; b < k; b += kStep) {
    const std::size_t e = std::min(k, b + kStep);
    for (std::size_t i = b; i < e; ++i) {
      for (std::size_t j = i + 1; j < e; ++j) within_[i * kStep + (j - b)] = upper(i, j);
    }
    if (e == k) break;
    rows.resize((k - e) * (e - b));
    for (std::size_t j = e; j < k; ++j) {
      for (std::size_t i = b; i < e; ++i) rows[(j - e) * (e - b) + (i - b)] = upper(i, j);
    }
    HP_TRY_VOID(products_->pack({.data = rows.data(), .row = e - b}, {}, k - e, e - b, beyond_.emplace_back()));
  }
  return {};
}

Status ErrorFeedback::keep_inverse(const std::vector<double>& inverse) {
  const std::size_t k = size();
  std::vector<float> columns(k * k), product(k * k);  // inverse(gram) = L⁻ᵀ · L⁻¹, in the columns' own order
  for (std::size_t a = 0; a < k; ++a) {
    for (std::size_t b = 0; b <= a; ++b) columns[order_[k - 1 - b] * k + a] = static_cast<float>(inverse[a * k + b]);
  }
  HP_TRY_VOID(products_->pack({.data = columns.data(), .row = k}, {}, k, k, inverse_));
  products_->multiply(columns.data(), k, inverse_, product.data(), k, false);
  return products_->pack({.data = product.data(), .row = k}, {}, k, k, inverse_);
}

void ErrorFeedback::solve(const float* residual, std::size_t n, float* out) const {
  products_->multiply(residual, n, inverse_, out, size(), false);
}

void ErrorFeedback::round(std::span<const float> target, const WeightGrid& grid, std::size_t first, float* w,
                          std::size_t stride) const {
  const std::size_t k = size(), rows = target.size() / k;
  std::vector<float> wanted(target.size()), errors(rows * kStep);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t j = 0; j < k; ++j) wanted[r * k + j] = target[r * k + order_[j]];
  }
  for (std::size_t b = 0; b < k; b += kStep) {
    const std::size_t e = std::min(k, b + kStep), width = e - b;
    for (std::size_t r = 0; r < rows; ++r) {
      float* const row = &wanted[r * k];
      for (std::size_t j = b; j < e; ++j) {
        const std::size_t column = order_[j];
        const float rounded = grid.nearest(r, first + column, row[j]);
        const float error = target[r * k + column] - rounded;
        w[r * stride + first + column] = rounded;
        errors[r * width + (j - b)] = error;
        for (std::size_t m = j + 1; m < e; ++m) row[m] += error * within_[j * kStep + (m - b)];
      }
    }
    if (e < k) products_->multiply_alone(errors.data(), rows, beyond_[b / kStep].view, &wanted[e], k, true);
  }
}

}  // namespace hp

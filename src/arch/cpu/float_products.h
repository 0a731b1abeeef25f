// Products of plain floats by a whole team, on the kernels' own panels: what calibration is made of. Every sum has a
// fixed order, so the same input gives the same bits whatever the team's size is.
#pragma once

#include <cstddef>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/kernel_table.h"
#include "tensor/buffer.h"

namespace hp {

/// Element (i, j) at data[i · row + j · column].
struct Strided {
  const float* data = nullptr;
  std::size_t row = 0, column = 1;
};

/// A matrix [n, k] in panels, in room that grows and stays.
struct PanelRoom {
  Buffer memory;
  kernels::PackedMatrix view;
};

class FloatProducts {
 public:
  FloatProducts(const kernels::KernelTable& table, ParallelTeam& team) : table_(table), team_(team) {}

  [[nodiscard]] ParallelTeam& team() const { return team_; }
  [[nodiscard]] const kernels::KernelTable& table() const { return table_; }

  /// body(member) for every member; by the caller alone where `work`, in multiplications, is not worth waking the
  /// others. The body has no barrier.
  template <typename F>
  void run(std::size_t work, const F& body) const {
    constexpr std::size_t kWorthWaking = 1U << 21U;
    if (work >= kWorthWaking) return team_.run(body);
    for (int member = 0; member < team_.size(); ++member) body(member);
  }

  /// source, less `minus` where that has data, [n, k].
  Status pack(const Strided& source, const Strided& minus, std::size_t n, std::size_t k, PanelRoom& out) const;
  /// out[rows, n] = or += x[rows, k] · wᵀ, by the team.
  void multiply(const float* x, std::size_t rows, const PanelRoom& w, float* out, std::size_t out_stride,
                bool add) const;
  /// The same by the calling member alone.
  void multiply_alone(const float* x, std::size_t rows, const kernels::PackedMatrix& w, float* out,
                      std::size_t out_stride, bool add) const;

 private:
  const kernels::KernelTable& table_;
  ParallelTeam& team_;
};

}  // namespace hp

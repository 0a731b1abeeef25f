// A packed quantized layout's facts as constants, for kernels that are templates over the source type.
#pragma once

#include "kernels/packing.h"

namespace hp::kernels {

template <DType T>
struct Packed {
  static constexpr PanelLayout kLayout = panel_layout(T);
  static constexpr std::size_t kGroups = kLayout.chunk_k / 32;  ///< of 32 of K in a chunk
  static constexpr bool kHalves = kLayout.scales == ScaleForm::k_signed || kLayout.scales == ScaleForm::k_nibbles;
  static constexpr bool kHalfMins = kLayout.scales == ScaleForm::k_nibbles;
  static constexpr bool kMin = kLayout.scales == ScaleForm::half_min || kLayout.scales == ScaleForm::k_bytes ||
                               kLayout.scales == ScaleForm::full_zero;
  static constexpr int kZero = kLayout.zero;
  /// Quants of a byte or looked-up values: they fill the range of signed bytes once their zero of 128 is gone.
  static constexpr bool kWide = kLayout.low_bits == 8 || kLayout.lookup;
};

}  // namespace hp::kernels

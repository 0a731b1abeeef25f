// The catalog of machines: what their makers state, where from, and a price that the user replaces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace hp::planner {

struct Accelerator {
  enum class Kind { gpu, npu, cpu };
  std::string id, name, source;
  Kind kind = Kind::gpu;
  bool homeport = false;  ///< Homeport's own kernels run on it
  // units of the catalog file: GB (10^9), GB/s, TFLOP/s, W, CNY
  double memory = 0, bandwidth = 0, bf16 = 0, fp8 = 0, int8 = 0, fp4 = 0, fp32 = 0;
  double link = 0, power = 0, price = 0, per_server = 1;

  /// Bytes that a server may use: 92 % of an accelerator's memory, 85 % of a host's.
  [[nodiscard]] double usable_bytes() const { return memory * 1e9 * (kind == Kind::cpu ? 0.85 : 0.92); }
};

/// Shipped entries; those of `override_toml` (same shape) replace the ones with their id or are added.
Result<std::vector<Accelerator>> load_accelerators(std::string_view override_toml = {},
                                                   std::string_view source_name = "catalog");
/// A price list: id = price. A name that is not there is an error with the nearest.
Status apply_prices(std::vector<Accelerator>& catalog, const JsonValue& prices, std::string_view source_name);
Result<Accelerator> find_accelerator(const std::vector<Accelerator>& catalog, std::string_view id);

}  // namespace hp::planner

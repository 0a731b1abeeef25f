// One /metrics page as figures: totals by name (summed over labels), the histograms we follow, GPUs, tenants.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ops/cluster_view.h"

namespace hp::ops {

struct PageHistogram {
  std::vector<double> bounds, cumulative;  ///< cumulative has one more: +Inf
};

struct Page {
  std::unordered_map<std::string, double> totals;
  std::map<std::string, PageHistogram, std::less<>> histograms;  ///< the names of kFollowed in page.cpp
  std::vector<GpuView> gpus;
  std::map<std::string, TenantView, std::less<>> tenants;
  std::string model, device, weights;
  std::size_t strange_lines = 0;

  [[nodiscard]] std::optional<double> total(std::string_view name) const;
};

/// Knows Homeport's names and dcgm-exporter's.
Page read_page(std::string_view text);

}  // namespace hp::ops

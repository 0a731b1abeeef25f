// Reads Prometheus' text exposition format 0.0.4: views into the page, nothing is copied. Lines that are no sample are
// counted and skipped: one strange exporter must not blind the watch.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace hp::ops {

struct PromSample {
  std::string_view name;
  std::string_view labels;  ///< as written between the braces; see prom_label()
  double value = 0;
};

/// How many lines were neither comment, blank nor sample.
std::size_t parse_prom_text(std::string_view page, const std::function<void(const PromSample&)>& take);

/// A label's value without its escapes.
std::optional<std::string> prom_label(std::string_view labels, std::string_view name);

}  // namespace hp::ops

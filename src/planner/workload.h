// The load out of a web server's access log.
#pragma once

#include <string_view>

#include "planner/autoscale_sim.h"

namespace hp::planner {

struct LoggedLoad {
  std::uint64_t requests = 0, skipped = 0;  ///< skipped: lines without a time
  double mean_rps = 0, peak_minute_rps = 0;
  LoadCurve curve;  ///< requests per second, one value a minute
};

/// Every line with a time is one request: [24/Nov/2026:13:55:36 +0000] of the common log format, 2026-11-24T13:55:36,
/// or seconds since 1970 at the line's start. Lines in any order; more than half without a time is an error.
Result<LoggedLoad> load_of_log(std::string_view text, std::string_view source_name);

}  // namespace hp::planner

// `doctor --bundle`: a diagnostics bundle made from outside, with or without a gateway that answers.
#pragma once

#include <string>

#include "base/config.h"
#include "base/result.h"

namespace hp::cli {

/// `url`: a gateway or node whose pages are wanted as well; empty: none. `machine`: doctor's own findings as JSON.
Result<std::string> doctor_bundle(const Config& config, const std::string& file, const std::string& url,
                                  const std::string& machine);

}  // namespace hp::cli

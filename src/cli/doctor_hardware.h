// `doctor --hardware`: what the watch's own collectors read on this machine now, GPUs through NVML.
#pragma once

#include <string>

#include "base/config.h"

namespace hp::cli {

/// Two readings half a second apart: a share of processor time needs both.
std::string doctor_hardware(const Config& config, bool json);

}  // namespace hp::cli

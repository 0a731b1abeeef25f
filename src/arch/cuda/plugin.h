// Finds and loads libhomeport_cuda.so. The program runs without it; with it and a GPU, executors can be made there.
#pragma once

#include <filesystem>
#include <string>

#include "arch/cuda/plugin_api.h"
#include "base/result.h"

namespace hp::cuda {

/// Loads the plug-in once per process: `path`, or beside the program, or where the system's loader looks. An error says
/// what is missing: the file, a matching version, or a GPU that it can use.
Result<const PluginApi*> load_plugin(const std::filesystem::path& path = {});

/// Sentence about the GPUs here for `homeport doctor`: "1 GPU" or why there is none.
std::string describe_gpus();

}  // namespace hp::cuda

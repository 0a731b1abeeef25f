// Brings a model from a hub into a folder: chooses its files, looks at the disk first, downloads parts of them over
// several connections, goes on after cuts, verifies hashes. Blocking; nothing is left half done under its final name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "hub/catalog.h"
#include "hub/hub_client.h"

namespace hp::hub {

struct PullProgress {
  std::uint64_t bytes = 0, bytes_total = 0;  ///< arrived, earlier runs included
  std::size_t files = 0, files_total = 0;    ///< complete
  bool verifying = false;
};

struct PullOptions {
  std::filesystem::path folder;  ///< of the model itself
  int connections = 8;
  std::function<void(const PullProgress&)> on_progress = {};  ///< a few times a second, on the caller's thread
  std::function<bool()> stop = {};                            ///< asked as often; true ends with `cancelled`
};

struct PullPlan {
  std::vector<HubFile> files;  ///< to fetch or already there
  std::uint64_t bytes_total = 0, bytes_missing = 0;
  std::filesystem::path model;  ///< what to serve afterwards: the folder or a .gguf file in it
};

/// The files of the repository that serving needs: one GGUF (all its splits) or the safetensors with their
/// configuration and tokenizer.
Result<std::vector<HubFile>> choose_files(const std::vector<HubFile>& all, const ModelName& name);

Result<PullPlan> plan_pull(net::HttpClient& client, const Hub& hub, const ModelName& name,
                           const std::filesystem::path& folder);
/// An error before the first byte when the disk has no room for what is missing.
Status run_pull(net::HttpClient& client, const Hub& hub, const ModelName& name, const PullPlan& plan,
                const PullOptions& options);

}  // namespace hp::hub

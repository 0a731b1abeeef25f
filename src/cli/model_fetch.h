// A model by its name: found where earlier runs put it, or fetched after its size was said. `pull`, `serve` and `run`
// share it; the transfer is the hub room's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "hub/pull.h"

namespace hp::cli {

struct FetchRequest {
  std::string model;                 ///< a catalog name, ORG/NAME, or ORG/NAME:PATTERN
  std::string from = "huggingface";  ///< or modelscope
  std::string revision;              ///< empty: the hub's own
  std::filesystem::path folder;      ///< empty: the models folder and the repository's name
  int connections = 8;
  bool dry_run = false;  ///< look only
};

/// Says the size on standard error, then fetches what is missing, with a progress line on a terminal. SIGINT and
/// SIGTERM end it with `cancelled`; what has arrived is kept.
Result<hub::PullPlan> fetch_model(const FetchRequest& request);

/// Whether a word is meant as a model's name: in the catalog, FAMILY:TAG of one of its families, or of the form
/// ORG/NAME.
bool names_a_model(std::string_view word);

/// What `pull` of this name has left whole in the models folder, without asking anybody.
std::optional<std::filesystem::path> find_fetched(std::string_view model);

/// The path of a named model: found in the models folder, or fetched into it.
Result<std::filesystem::path> find_or_fetch(std::string_view model, std::string_view hub);

/// "1.25 GB"
std::string size_text(double bytes);

}  // namespace hp::cli

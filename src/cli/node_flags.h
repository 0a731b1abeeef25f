// Configuration keys to the options of the rooms below.
#pragma once

#include <filesystem>
#include <string>

#include "base/config.h"
#include "base/result.h"
#include "node/node_server.h"

namespace hp::cli {

/// Where fetched models lie: $HOMEPORT_MODELS, or ~/.homeport/models.
std::filesystem::path models_folder();

/// The model that was asked for, fetched first if it is a name that is not here yet; or the one that `make serve`
/// fetches, if it is there.
Result<std::filesystem::path> model_path(const Config& config);
/// The same configuration with the model that stands on the line without a flag; empty: as it is.
Result<Config> with_model(const Config& config, const std::string& model);
/// Needs the sections model and engine.
Result<LoadOptions> load_options(const Config& config);
/// The same without a path.
LoadOptions engine_options(const Config& config);
/// Needs the sections server, model, engine and log.
Result<NodeOptions> node_options(const Config& config);

}  // namespace hp::cli

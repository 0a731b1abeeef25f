// The actions of a gateway and its nodes.
#pragma once

#include <vector>

#include "cli/operations.h"
#include "net/http_client.h"

namespace hp::cli {

/// `client` must outlive the actions.
std::vector<ops::Action> cluster_actions(const Config& config, gateway::Gateway& gateway, net::HttpClient& client,
                                         const FleetControls& fleet);

}  // namespace hp::cli

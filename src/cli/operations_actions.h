// The actions of a gateway and its nodes.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "cli/operations.h"
#include "net/http_client.h"

namespace hp::cli {

/// What a step of a playbook may name: every action that this program has, `notice` and `verify`.
std::span<const std::string_view> step_names();
/// `client` must outlive the actions.
std::vector<ops::Action> cluster_actions(const Config& config, gateway::Gateway& gateway, net::HttpClient& client,
                                         const FleetControls& fleet);

}  // namespace hp::cli

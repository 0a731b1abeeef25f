// The page of metrics where nodes have no address of their own that a collector could reach: ours, and theirs with a
// label that names the node.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/core.h"
#include "net/http.h"

namespace hp::gateway {

/// Prometheus' text format in and out; samples of one family stay together, also when both have it.
std::string merge_metrics(std::string_view own, std::span<const std::pair<std::string, std::string>> nodes);

/// On the loop. A node that does not answer within a second is left out.
void answer_metrics(Shard& shard, std::shared_ptr<net::ResponseWriter> writer);

}  // namespace hp::gateway

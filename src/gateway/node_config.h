// What the configuration says of one node.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hp::gateway {

struct NodeConfig {
  std::string name;                ///< unique; shown in metrics and logs
  std::string host = "127.0.0.1";  ///< or "unix:/path"
  std::uint16_t port = 0;
  int priority = 0;      ///< group: nodes of the lowest number that has a usable one serve; the others stand by
  double capacity = 1;   ///< share of the load
  bool homeport = true;  ///< false: an OpenAI-compatible server without a journal; no resume once its stream began
  std::string api_key = {};
  bool tls = false;
  std::int64_t concurrent = 0;    ///< requests at once; further ones wait in line here; 0: no limit
  std::string admin = {};         ///< "host:port" or "unix:/path" of its admin routes; empty: none that we reach
  std::string gpu_exporter = {};  ///< "host:port" of a dcgm-exporter on its machine

  bool operator==(const NodeConfig&) const = default;
};

/// "name=host:port", "host:port", "https://host:port" or "unix:/path", with
/// ";priority=1;capacity=2;concurrent=8;kind=openai;key=…" after it.
Result<NodeConfig> parse_node(std::string_view text);

}  // namespace hp::gateway

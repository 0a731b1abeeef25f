// A node as the program that contains the watch knows it; asked for anew every round.
#pragma once

#include <cstdint>
#include <string>

#include "ops/cluster_view.h"

namespace hp::ops {

struct KnownNode {
  std::string name, host;  ///< host or "unix:/path"
  std::uint16_t port = 0;
  bool tls = false;
  std::string api_key;
  std::string gpu_exporter;  ///< "host:port" of a dcgm-exporter that tells of its GPUs, or empty
  int group = 0;
  NodeCondition condition = NodeCondition::unreachable;
  bool held = false;  ///< gets no requests because somebody said so; `condition` says how it is apart from that
  bool serving = false, controllable = false, homeport = true;
  bool restarting = false;   ///< somebody asked for a new process: until it is ready it is not down
  std::uint64_t deaths = 0;  ///< of its process, when that is our child
};

}  // namespace hp::ops

// What the gateway is told, by configuration or by the program that contains it.
#pragma once

#include <string>
#include <vector>

#include "gateway/admission.h"
#include "gateway/business.h"
#include "gateway/limits.h"
#include "gateway/node_table.h"
#include "gateway/reply_cache.h"
#include "net/http_server.h"

namespace hp::gateway {

struct GatewayOptions {
  net::ServerOptions server;  ///< threads: event loops, each with its own share of the connections
  std::vector<NodeConfig> nodes;
  std::shared_ptr<const net::TlsAuthority> authority = nullptr;  ///< of https:// nodes; null: the system's
  std::vector<TenantConfig> tenants;                             ///< none: open to all who reach it
  std::string policy = "prefix";
  milliseconds queue_timeout{10'000};            ///< a request waits so long for a usable node, then 503
  std::size_t max_waiting = 4096;                ///< requests that wait for their turn
  milliseconds resume_timeout{120'000};          ///< a started stream waits so long for one
  milliseconds first_token_timeout{600'000};     ///< no byte of an answer for so long: another node
  milliseconds hand_back_after{kHandBackAfter};  ///< a better group must be usable so long to get the load back
  milliseconds probe_interval{500};
  milliseconds probe_timeout{2'000};
  milliseconds reattach_ttl{300'000};     ///< a closed stream can be taken up again for so long
  std::size_t reattach_bytes = 64 << 20;  ///< and all closed streams together may take so much memory
  ReplyCacheOptions replies = {};
  std::string redis;  ///< address; empty: none
  std::string redis_password = {};
  milliseconds redis_timeout{50};  ///< a command that is not answered by then has failed
  milliseconds lease{kLease};      ///< this gateway's word that it lives holds for so long
  double retry_ratio = 0.1;
  double hedge_share = 0;           ///< of the streams that may ask a second node for a late first token; 0: off
  std::string cors_origin;          ///< of pages whose EventSource may read streams; empty: none but our own
  std::string admin_address;        ///< loopback or "unix:/path"; empty: no admin routes
  std::uint16_t admin_port = 0;     ///< 0: any free port
  bool merge_node_metrics = false;  ///< /metrics tells the nodes' figures too, each with its name
  std::vector<std::string> refusal_phrases = default_refusal_phrases();
  bool access_log = true;
  std::string access_file;  ///< empty: into the process log
};

}  // namespace hp::gateway

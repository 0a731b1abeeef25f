// The gateway as a whole: its loops and servers, the routes, draining. What happens to one request is Relay's.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "gateway/options.h"
#include "gateway/side_door.h"

namespace hp::gateway {

struct Core;
struct Shard;
class Prober;

/// What scaling looks at. Counts are since the start.
struct GatewayLoad {
  double requests = 0;  ///< taken in
  double waiting = 0;   ///< now, for a place at a node
  std::vector<double> first_token_bounds;
  std::vector<std::uint64_t> first_tokens;  ///< cumulative; one more than bounds
};

class Gateway {
 public:
  static Result<std::unique_ptr<Gateway>> start(GatewayOptions options, MetricsRegistry& metrics);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] std::uint16_t admin_port() const;  ///< 0: there are no admin routes
  [[nodiscard]] std::size_t open_requests() const;
  [[nodiscard]] std::vector<NodeStatus> nodes() const;
  [[nodiscard]] std::size_t usable_nodes() const;
  [[nodiscard]] GatewayLoad load() const;
  /// Rises whenever a node is lost: who reads nodes() now and then looks at once.
  [[nodiscard]] std::uint64_t losses() const;

  /// Nodes and policy, changed without touching streams.
  void set_nodes(const std::vector<NodeConfig>& nodes);
  Status set_policy(std::string_view name);
  void set_tenants(const std::vector<TenantConfig>& tenants);
  /// As NodeTable has them.
  bool hold_node(std::string_view node, bool held);
  void steer(const NodeTable::Steering& steering);
  [[nodiscard]] NodeTable::Steering steering() const;
  /// Reads the certificate's files again, for new connections; nothing to do without TLS.
  Status reload_certificate();
  /// A file that was rotated away is made anew.
  Status reopen_log();

  /// Who else answers here: what is not under /v1/ goes to the door first. May be set while serving; an empty one
  /// closes it, and when that returns nobody stands in it any more.
  void open_side_door(SideDoor door);
  /// Open streams, and closed ones that can still be taken up again.
  [[nodiscard]] std::vector<StreamState> streams(std::size_t limit) const;
  [[nodiscard]] std::optional<StreamState> stream(std::string_view id) const;

  /// /ready says draining; everything else goes on.
  void say_not_ready();
  /// Not ready any more, and no new connections; what is open goes on.
  void begin_drain();

 private:
  explicit Gateway(std::unique_ptr<Core> core);
  Status start_shards(net::ServerOptions server);
  Status start_admin();

  std::unique_ptr<Core> core_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<net::HttpServer> admin_;
  std::shared_ptr<Prober> prober_;
};

}  // namespace hp::gateway

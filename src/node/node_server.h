// One complete inference server: HTTP in front, the engine behind. `homeport node` is this and a signal handler.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "net/tls_files.h"
#include "node/model_loader.h"

namespace hp {

struct NodeOptions {
  LoadOptions model;
  std::vector<std::string> served_names;  ///< names that requests may use; empty: the model's own. The first is shown.
  bool any_model_name = false;            ///< serve requests for other names too

  std::string address = "127.0.0.1";  ///< or "unix:/path/to.sock"
  std::uint16_t port = 8000;          ///< 0: any free port
  int http_threads = 1;
  std::size_t max_connections = 4096;
  std::size_t max_body_bytes = std::size_t{32} << 20;
  std::size_t max_queued_bytes = std::size_t{1} << 20;  ///< of one connection; a client that reads slower is cut
  std::chrono::milliseconds header_timeout{10'000}, body_timeout{60'000}, idle_timeout{120'000}, write_timeout{60'000};
  std::shared_ptr<net::TlsIdentity> tls;  ///< null: plain HTTP
  std::vector<std::string> api_keys;      ///< empty: open to all who reach it

  std::string admin_address;     ///< loopback or "unix:/path"; empty: no admin routes
  std::uint16_t admin_port = 0;  ///< 0: any free port

  std::chrono::milliseconds step_timeout{0};  ///< a step that takes longer is a hung device; 0: 4 s on a GPU, else none
  std::int32_t max_waiting = 1024;            ///< sequences in the queue; more are answered 429
  bool prefix_cache = true;
  std::int32_t draft_tokens = 0;  ///< most tokens guessed ahead per sequence; the answers do not depend on it
  std::chrono::milliseconds request_timeout{0};  ///< a request that takes longer ends; 0: none
  std::chrono::milliseconds drain_time{30'000};  ///< streams in progress may take so long after begin_drain()
  /// begin_drain() makes /ready false at once and still takes new requests for so long: load balancers lag.
  std::chrono::milliseconds drain_grace{0};
  /// A stream whose client is gone goes on so long, and the client may come back with Last-Event-ID; 0: it ends at
  /// once.
  std::chrono::milliseconds detach_grace{0};
  bool journal = false;          ///< honour the Homeport-Journal protocol: only behind a gateway
  bool access_log = true;        ///< one line per request
  std::string access_file = {};  ///< empty: into the process log
};

class NodeServer {
 public:
  virtual ~NodeServer() = default;                       ///< stop()
  [[nodiscard]] virtual std::uint16_t port() const = 0;  ///< 0 on a Unix socket
  [[nodiscard]] virtual std::uint16_t admin_port() const = 0;
  [[nodiscard]] virtual const std::string& model_name() const = 0;
  [[nodiscard]] virtual bool ready() const = 0;
  [[nodiscard]] virtual MetricsRegistry& metrics() = 0;
  /// From any thread, also more than once: no new requests, those in progress finish within drain_time.
  virtual void begin_drain() = 0;
  /// Blocks until a drain has ended, stop() was called, or the device is lost (an error).
  virtual Status wait() = 0;
  /// A file of the access log that was rotated away is made anew.
  virtual Status reopen_log() = 0;
  /// Ends at once: streams in progress are cut.
  virtual void stop() = 0;
};

/// Listens first (a busy port fails before a model is loaded; /health answers, /ready says loading), then loads the
/// model, and returns when ready. `on_listening` gets the port in between.
Result<std::unique_ptr<NodeServer>> start_node(const NodeOptions& options,
                                               const std::function<void(std::uint16_t port)>& on_listening = {});
/// The same with a model that is there already; `options.model` is not looked at except for its step limits.
Result<std::unique_ptr<NodeServer>> start_node(const NodeOptions& options, NodeModel model);

}  // namespace hp

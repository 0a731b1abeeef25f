// An HTTP/1.1 server on its own event-loop thread(s): limits on everything, slow and hostile clients bounded.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/metrics.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http.h"
#include "net/tls_files.h"

namespace hp::net {

struct ServerOptions {
  std::string address = "127.0.0.1";  ///< or "unix:/path/to.sock"
  std::uint16_t port = 8000;          ///< 0: any free port
  int threads = 1;
  EventLoop* loop = nullptr;                   ///< run on this loop instead of own threads; it must outlive the server
  std::shared_ptr<TlsIdentity> tls = nullptr;  ///< null: plain HTTP
  bool reuse_port = false;  ///< several servers, on loops or in processes of their own, share the port
  std::size_t max_connections = 4096;
  std::size_t max_header_bytes = 16 << 10;
  std::size_t max_body_bytes = 32 << 20;
  std::size_t max_queued_bytes = 4 << 20;  ///< per connection; beyond it the reader is too slow and is cut
  std::chrono::milliseconds header_timeout{10'000};
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds idle_timeout{120'000};
  std::chrono::milliseconds write_timeout{60'000};  ///< no byte taken by the client for this long: cut
};

class HttpServer {
 public:
  /// Binds and listens; an error names the address ("127.0.0.1:8000 is in use …").
  static Result<std::unique_ptr<HttpServer>> start(const ServerOptions& options, RequestHandler handler,
                                                   MetricsRegistry& metrics);
  virtual ~HttpServer() = default;  ///< closes everything
  [[nodiscard]] virtual std::uint16_t port() const = 0;
  [[nodiscard]] virtual std::size_t connections() const = 0;
  /// No new connections; idle ones close; answers in progress finish.
  virtual void begin_drain() = 0;
};

}  // namespace hp::net

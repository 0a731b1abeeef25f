// An asynchronous HTTP/1.1 client with streaming answers and kept connections, on one event-loop thread. Used by bench,
// gateway, fleet and ops.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/event_loop.h"
#include "net/http.h"
#include "net/tls_files.h"

namespace hp::net {

struct ClientRequest {
  std::string method = "GET";
  std::string host = "127.0.0.1";  ///< or "unix:/path/to.sock"
  std::uint16_t port = 80;
  bool tls = false;                                         ///< certificate and host name are verified
  std::shared_ptr<const TlsAuthority> authority = nullptr;  ///< null: the system's certificate authorities
  std::string target = "/";
  Headers headers;
  /// Sent before `body`, not copied: a large body that is also kept for another attempt.
  std::shared_ptr<const std::string> shared_body = {};
  std::size_t shared_body_bytes = 0;  ///< so many of its first bytes
  std::string body = {};
  std::chrono::milliseconds connect_timeout{2'000};
  std::chrono::milliseconds read_timeout{60'000};  ///< longest silence; 0: it may last
  std::size_t max_body_bytes = 64 << 20;
  bool keep_alive = true;  ///< false: a connection of its own, closed afterwards
};

/// Callbacks run on the client's loop. on_done comes exactly once, last.
struct ClientCallbacks {
  std::function<void(int status, const Headers& headers)> on_headers = {};
  std::function<void(std::string_view bytes)> on_data = {};
  std::function<void(Status outcome)> on_done = {};
};

class HttpClient {
 public:
  static std::unique_ptr<HttpClient> create();  ///< on a thread of its own
  static std::unique_ptr<HttpClient> create(EventLoop& loop);
  virtual ~HttpClient() = default;
  using Handle = std::uint64_t;
  virtual Handle start(ClientRequest request, ClientCallbacks callbacks) = 0;
  /// Closes the connection; on_done comes with ErrorCode::cancelled.
  virtual void cancel(Handle handle) = 0;
  /// Connections at this moment, in use and kept.
  [[nodiscard]] virtual std::size_t connections() const = 0;
  /// Blocking convenience for tools: the whole answer.
  Result<HttpResponse> fetch(ClientRequest request);
};

}  // namespace hp::net

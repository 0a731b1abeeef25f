// An asynchronous HTTP/1.1 client with streaming answers, on one event-loop thread. Used by bench, gateway, fleet and
// ops.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/http.h"

namespace hp::net {

struct ClientRequest {
  std::string method = "GET";
  std::string host = "127.0.0.1";  ///< or "unix:/path/to.sock"
  std::uint16_t port = 80;
  std::string target = "/";
  Headers headers;
  std::string body;
  std::chrono::milliseconds connect_timeout{2'000};
  std::chrono::milliseconds read_timeout{60'000};  ///< longest silence
  std::size_t max_body_bytes = 64 << 20;
};

/// Callbacks run on the client's loop. on_done comes exactly once, last.
struct ClientCallbacks {
  std::function<void(int status, const Headers& headers)> on_headers = {};
  std::function<void(std::string_view bytes)> on_data = {};
  std::function<void(Status outcome)> on_done = {};
};

class HttpClient {
 public:
  static std::unique_ptr<HttpClient> create();
  virtual ~HttpClient() = default;
  using Handle = std::uint64_t;
  virtual Handle start(ClientRequest request, ClientCallbacks callbacks) = 0;
  /// Closes the connection; on_done comes with ErrorCode::cancelled.
  virtual void cancel(Handle handle) = 0;
  /// Blocking convenience for tools: the whole answer.
  Result<HttpResponse> fetch(ClientRequest request);
};

}  // namespace hp::net

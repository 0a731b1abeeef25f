// HTTP as the rest of the program sees it: plain structs and callbacks, no Boost type in sight.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hp::net {

using Headers = std::vector<std::pair<std::string, std::string>>;

/// CR, LF or NUL: what would end a header's line early.
[[nodiscard]] bool breaks_line(std::string_view text);

struct HttpRequest {
  std::string method;  ///< "GET"
  std::string target;  ///< as sent: "/v1/models?x=1"
  std::string path;    ///< target without the query
  Headers headers;     ///< names in lower case
  std::string body;
  std::string peer;  ///< "127.0.0.1:53422"

  /// First value of a header (lower-case name), or empty.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  Headers headers;
  std::string body;
  std::string content_type = "application/json";
};

/// The answering side of one request. Exactly one of: send(), or begin_stream() then write()… then end().
/// All calls are safe from any thread; they are posted to the connection's loop. After the client has gone, calls do
/// nothing.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  virtual void send(HttpResponse response) = 0;
  /// Chunked answer; content type "text/event-stream" for SSE. Keep-alive afterwards.
  virtual void begin_stream(int status, Headers headers, std::string_view content_type) = 0;
  /// Queued and written as one socket write per loop turn. False once the client is gone or its queue passed the limit
  /// (the connection is then closed: a slow reader).
  virtual bool write(std::string bytes) = 0;
  virtual void end() = 0;
  /// Called once, on the loop, when the client disconnects (or is cut as too slow) before the answer is complete.
  virtual void on_disconnect(std::function<void()> callback) = 0;
  /// Bytes accepted by write() and not yet taken by the socket.
  [[nodiscard]] virtual std::size_t queued_bytes() const = 0;
};

using RequestHandler = std::function<void(HttpRequest request, std::shared_ptr<ResponseWriter> writer)>;

}  // namespace hp::net

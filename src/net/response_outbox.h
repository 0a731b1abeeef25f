// The answering side of one request, shared by the handler's threads and the connection's loop. Knows HTTP framing and
// the queue; knows no socket: `wake` asks the loop to come and take the bytes.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "net/http.h"

namespace hp::net {

/// Status line, headers and body as bytes. `head_only` leaves the body out but keeps its length.
std::string encode_response(const HttpResponse& response, bool keep_alive, bool head_only);
/// {"error":{"message","type","param","code"}} as OpenAI's clients expect it.
HttpResponse error_response(int status, std::string_view message);

class ResponseOutbox final : public ResponseWriter {
 public:
  struct Shape {
    bool http_1_1 = true;
    bool keep_alive = true;
    bool head = false;
    std::size_t max_queued_bytes = 0;
  };
  /// `wake` must post to the loop and return; it is never called after abandon().
  ResponseOutbox(Shape shape, std::function<void()> wake) : shape_(shape), wake_(std::move(wake)) {}

  void send(HttpResponse response) override;
  void begin_stream(int status, Headers headers, std::string_view content_type) override;
  bool write(std::string bytes) override;
  void end() override;
  void on_disconnect(std::function<void()> callback) override;
  [[nodiscard]] std::size_t queued_bytes() const override;

  struct Batch {
    std::string bytes;
    bool complete = false;  ///< nothing comes after these bytes
    bool too_slow = false;  ///< the queue passed its limit: close
    bool keep_alive = true;
    int status = 0;
  };
  /// Loop: all bytes queued so far.
  Batch take();
  /// Loop: the socket took `count` bytes.
  void taken(std::size_t count);
  /// Loop: the handler let go of the writer. Completes the answer with a 500, or cuts an unfinished stream.
  void released();
  /// Loop: the connection is gone. Runs on_disconnect if the answer was not complete.
  void abandon();

 private:
  enum class Phase { waiting, streaming, complete };
  void wake_locked();
  void send_locked(const HttpResponse& response);

  mutable std::mutex mutex_;
  Shape shape_;
  std::function<void()> wake_;
  std::function<void()> disconnect_;
  std::string pending_;
  std::size_t in_flight_ = 0;
  Phase phase_ = Phase::waiting;
  bool dead_ = false, gone_ = false, woken_ = false, too_slow_ = false;
  int status_ = 0;
};

}  // namespace hp::net

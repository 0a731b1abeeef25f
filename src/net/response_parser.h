// Reads one HTTP/1.1 answer from bytes in any grouping, and keeps no byte of the body: a stream that waits costs a few
// words. Strict where leniency would let two readers disagree about where an answer ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/chunk_reader.h"
#include "net/http.h"

namespace hp::net {

class ResponseParser {
 public:
  struct Sink {
    std::function<bool(int status, const Headers& headers)> on_head;  ///< false: stop here
    std::function<bool(std::string_view bytes)> on_body;
  };
  explicit ResponseParser(bool head_request = false) : head_request_(head_request) {}

  /// Reads up to the end of the answer; bytes after it are an error. An error is final.
  Status push(std::string_view bytes, const Sink& sink);
  /// The peer closed: completes an answer that only the close ends.
  Status finish();
  [[nodiscard]] bool done() const { return state_ == State::done; }
  [[nodiscard]] bool started() const { return state_ != State::head || !text_.empty(); }
  /// The connection may carry another exchange.
  [[nodiscard]] bool keep_alive() const { return keep_alive_; }

 private:
  enum class State : std::uint8_t { head, length, close, chunked, done };
  Result<bool> parse_head(const Sink& sink);
  Status choose_body(const Headers& headers, int status);

  std::string text_;  // the head read so far
  ChunkReader chunks_;
  std::uint64_t left_ = 0;
  State state_ = State::head;
  bool head_request_ = false, keep_alive_ = true;
};

}  // namespace hp::net

// Writes down an answer while a relay gives it to its client: for the other readers of the flight, and for later equal
// requests. Whether it is worth keeping shows at its end. Lives and dies with the relay, on its loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/reply_cache.h"

namespace hp::gateway {

class ReplyCapture {
 public:
  ReplyCapture(ReplyCache& cache, ReuseKey key, std::shared_ptr<Flight> flight, std::string_view stream);
  /// Not ended: the flight has failed, and its readers go their own ways.
  ~ReplyCapture();
  ReplyCapture(const ReplyCapture&) = delete;
  ReplyCapture& operator=(const ReplyCapture&) = delete;

  /// `body`: the client's JSON without its last '}'.
  void chunk(std::int32_t choice, std::string_view body, std::string_view finish_reason);
  /// The end mark of a stream of so many choices.
  void end_stream(std::size_t choices);
  void whole(int status, std::string_view content_type, std::string_view body);

  /// Somebody wants the answer even when the relay's own client has left.
  [[nodiscard]] bool wanted() const { return key_.idempotent || flight_->has_readers(); }

 private:
  void finish(Flight::State state, bool store);
  ReplyCache& cache_;
  const ReuseKey key_;
  const std::shared_ptr<Flight> flight_;
  std::vector<std::string> finish_;  // by choice
  bool ended_ = false;
};

}  // namespace hp::gateway

// Writes down an answer while a relay gives it to its client: for the other readers of the flight, and for later equal
// requests. Whether it is worth keeping shows at its end. Lives and dies with the relay, on its loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/flight_board.h"
#include "gateway/reply_cache.h"

namespace hp::gateway {

class ReplyCapture {
 public:
  /// `board`: where other gateways read the answer under our claim; null: they do not.
  ReplyCapture(ReplyCache& cache, ReuseKey key, std::shared_ptr<Flight> flight, std::string_view stream,
               FlightBoard* board = nullptr, Claim claim = {});
  /// Not ended: the flight has failed, and its readers go their own ways.
  ~ReplyCapture();
  ReplyCapture(const ReplyCapture&) = delete;
  ReplyCapture& operator=(const ReplyCapture&) = delete;

  void made_by(std::string_view weights) { flight_->set_weights(weights); }
  /// `body`: the client's JSON without its last '}'.
  void chunk(std::int32_t choice, std::string_view body);
  /// The end mark of a stream, and why each choice ended; empty: it did not.
  void end_stream(const std::vector<std::string>& finish_reasons);
  void whole(int status, std::string_view content_type, std::string_view body);

  /// What is new goes out to other gateways: to be called a few times a second.
  void publish();

  /// Somebody wants the answer even when the relay's own client has left.
  [[nodiscard]] bool wanted() const { return key_.idempotent || flight_->has_readers(); }

 private:
  void finish(Flight::State state, bool store);
  ReplyCache& cache_;
  const ReuseKey key_;
  const std::shared_ptr<Flight> flight_;
  std::optional<FlightBoard::Publisher> publisher_;
  bool ended_ = false;
};

}  // namespace hp::gateway

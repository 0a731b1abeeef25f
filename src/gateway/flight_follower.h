// An answer that another gateway makes (flight_board.h), read for the clients of this one. When that gateway's lease
// runs out, this one takes the answer over: from the shared journal, or generated again up to where its readers are.
// Lives on one loop.
#pragma once

#include <memory>
#include <optional>

#include "gateway/core.h"
#include "gateway/flight_board.h"
#include "gateway/relay.h"

namespace hp::gateway {

class FlightFollower final : public std::enable_shared_from_this<FlightFollower> {
 public:
  /// `request`: what was asked, with no client of its own. `flight`: this gateway's, ours to write.
  FlightFollower(Shard& shard, RelayStart request, ReuseKey key, std::shared_ptr<Flight> flight);
  /// Still at it: the flight has failed.
  ~FlightFollower();
  FlightFollower(const FlightFollower&) = delete;
  FlightFollower& operator=(const FlightFollower&) = delete;

  void start(FlightBoard::Answer answer);

 private:
  void take(FlightBoard::Answer answer);
  bool add(const std::vector<SavedChunk>& chunks);
  void take_saved(const SavedReply& reply);
  void look_later();
  void look();
  void go_on(Claim claim);
  void generate(Claim claim, std::shared_ptr<StoredStream> stream);
  std::shared_ptr<StoredStream> resumed(const std::optional<TakenStream>& taken) const;
  [[nodiscard]] EventPosition position() const;
  void finish(Flight::State state);

  Shard& shard_;
  RelayStart request_;
  const ReuseKey key_;
  const std::shared_ptr<Flight> flight_;
  std::string weights_;
  std::vector<std::uint64_t> events_;  // of each choice
  std::size_t known_ = 0;              // chunks
  std::optional<TimePoint> away_since_;
  bool done_ = false;
};

/// The same request under another stream id.
std::shared_ptr<StoredStream> renamed(const StoredStream& stream, const std::string& id);

}  // namespace hp::gateway

// A client whose answer exists already or is being made for another one: reads a flight, and when that fails, starts a
// relay of its own where the flight ended. Lives on one loop.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "gateway/core.h"
#include "gateway/relay.h"
#include "gateway/reuse_key.h"
#include "gateway/saved_reply.h"

namespace hp::gateway {

/// Starts a relay, or answers with what another request has got or is getting. `key`: nothing to reuse when empty.
void answer_or_generate(Shard& shard, RelayStart start, const std::optional<ReuseKey>& key);

class Replay final : public std::enable_shared_from_this<Replay> {
 public:
  /// `how`: "hit" or "joined", for the client's header and the access log.
  Replay(Shard& shard, RelayStart start, ReuseKey key, std::shared_ptr<Flight> flight, std::string_view how);
  ~Replay();
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;
  void start();

 private:
  void pump();
  void forward(const SavedChunk& chunk, const Flight::View& view);
  void send_whole(const Flight::View& view);
  void fall_back(const Flight::View& view);
  void refuse_late();
  void close(std::string_view outcome);
  [[nodiscard]] net::Headers headers() const;

  Shard& shard_;
  RelayStart start_;
  const ReuseKey key_;
  const std::shared_ptr<Flight> flight_;
  const std::string how_;
  std::string id_;  // that the client sees
  const TimePoint began_;
  std::vector<std::uint64_t> events_;  // sent, by choice
  std::size_t sent_ = 0;
  net::EventLoop::Timer deadline_ = 0;
  std::atomic<bool> posted_{false};
  bool begun_ = false, done_ = false;
};

}  // namespace hp::gateway

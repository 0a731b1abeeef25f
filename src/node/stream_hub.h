// Brings the engine's tokens to the loops that answer clients: the events of a step are grouped by loop, each loop is
// woken once however many streams it has, and a reader gets all its events of that wake together. A reader belongs to
// one loop and is only called there.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/request.h"
#include "net/event_loop.h"

namespace hp {

class StreamHub final : public EventSink {
 public:
  using Reader = std::function<void(std::span<const TokenEvent>)>;

  /// The loops must outlive every use of the hub.
  explicit StreamHub(std::vector<net::EventLoop*> loops);

  void on_step(std::vector<TokenEvent> events) override;

  /// An id whose events go to loop `shard`.
  RequestId new_id(std::size_t shard);
  /// On the id's loop. Events of ids that nobody reads are dropped.
  void add(RequestId id, Reader reader);
  void remove(RequestId id);
  /// From any thread: every reader is called once with no events: the node is stopping.
  void cut_all();
  [[nodiscard]] std::size_t readers() const { return readers_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t wakes() const { return wakes_.load(std::memory_order_relaxed); }

 private:
  struct Shard {
    net::EventLoop* loop = nullptr;
    std::mutex mutex;
    std::vector<TokenEvent> pending;                // under mutex
    std::unordered_map<RequestId, Reader> readers;  // loop only
  };
  static constexpr std::uint64_t kShardBits = 8;
  [[nodiscard]] Shard& shard_of(RequestId id) const;
  static void deliver(Shard& shard);

  std::vector<std::unique_ptr<Shard>> shards_;
  std::atomic<std::uint64_t> next_{1}, wakes_{0};
  std::atomic<std::size_t> readers_{0};
};

}  // namespace hp

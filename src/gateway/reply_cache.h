// Answers that may be given again: a bounded first level in this process, Redis behind it, and the flights of answers
// that are being made, so that many equal requests are one generation. Thread-safe; never waits for Redis.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "base/metrics.h"
#include "gateway/reuse_key.h"
#include "gateway/saved_reply.h"

namespace hp::store {
class Redis;
}

namespace hp::gateway {

struct ReplyCacheOptions {
  std::size_t max_bytes = 64 << 20;  ///< of the first level
  bool cache = false;                ///< the response cache; Idempotency-Key works without it
  std::chrono::seconds cache_ttl{3600}, idempotency_ttl{600};
};

/// Where a saved answer stands.
std::string reply_key_in_redis(const ReuseKey& key);

class ReplyCache {
 public:
  /// `redis` may be null.
  ReplyCache(ReplyCacheOptions options, store::Redis* redis, const Clock& clock, MetricsRegistry& metrics);

  struct Look {
    std::shared_ptr<Flight> flight;  ///< to read, or to write when `leads`; null: conflict
    bool leads = false;
    bool conflict = false;  ///< an Idempotency-Key that came with another request before
  };
  Look look(const ReuseKey& key);
  /// For who leads: what Redis has, or null; also when it answers late, which no answer of the response cache is worth.
  /// `done` is called once, on Redis' thread or at once.
  void fetch(const ReuseKey& key, std::function<void(SavedReplyPtr)> done);
  void note_miss() { misses_.add(); }
  /// What Redis had: kept here too, when it answers this request.
  void keep(const ReuseKey& key, const SavedReplyPtr& reply);
  /// The flight is over. `store`: complete and worth keeping.
  void finish(const ReuseKey& key, const std::shared_ptr<Flight>& flight, Flight::State state, bool store);

  [[nodiscard]] const ReplyCacheOptions& options() const { return options_; }

 private:
  struct Entry {
    SavedReplyPtr reply;
    TimePoint until;
    std::size_t bytes;
    std::list<std::string>::iterator used;
  };
  void keep_locked(const ReuseKey& key, SavedReplyPtr reply);
  void drop_locked(const std::string& key);
  [[nodiscard]] std::chrono::seconds ttl(const ReuseKey& key) const {
    return key.idempotent ? options_.idempotency_ttl : options_.cache_ttl;
  }

  const ReplyCacheOptions options_;
  store::Redis* const redis_;
  const Clock& clock_;
  Counter &hits_, &redis_hits_, &misses_, &joined_, &skipped_, &stored_, &conflicts_;
  Gauge& bytes_;
  std::mutex mutex_;
  std::unordered_map<std::string, Entry> entries_;
  std::unordered_map<std::string, std::shared_ptr<Flight>> flights_;
  std::list<std::string> used_;  // least recently first
  std::size_t total_ = 0;
};

}  // namespace hp::gateway

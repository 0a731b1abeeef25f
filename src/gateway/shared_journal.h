// The journal that gateways share through Redis, so that another one continues the streams of a gateway that died.
// Nobody waits for it: records are written behind the stream in batches, and what was not written yet is generated
// again.
//
// Leases. Each gateway says every kBeat that it lives; its word holds for kLease. Who takes a stream over raises the
// stream's epoch (the fencing number; journals are kept per epoch, so an old owner writes where nobody reads), tells
// the old owner, and emits only when that one's word has run out. A gateway whose own word has run out, because it was
// frozen, asks before it emits again.
//
// A gateway that does not reach Redis knows by its own clock when its word has run out: others may take its streams
// from then on. It serves its connected clients on, for their next bytes are the same wherever they come from, but owns
// nothing: what it writes later is fenced off, and its usage waits for Redis (usage_outbox.h).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "gateway/limits.h"
#include "gateway/stream_store.h"
#include "gateway/usage_outbox.h"
#include "store/redis.h"

namespace hp::gateway {

/// A stream as another gateway, or this one, left it.
struct TakenStream {
  std::uint64_t epoch = 0;  ///< of the owner before
  milliseconds wait{0};     ///< until that one has certainly fallen silent
  std::string target, body, body_hash, journal, token_sha256;
  std::uint64_t counted_tokens = 0;
  bool prompt_counted = false;
};

class SharedJournal {
 public:
  /// `id`: of this gateway, never used before. Streams are forgotten `ttl` after their last news.
  SharedJournal(store::Redis& redis, StreamStore& streams, const Clock& clock, std::string id, Duration ttl,
                MetricsRegistry& metrics, milliseconds lease = kLease);

  [[nodiscard]] bool available() const { return redis_.available(); }
  /// Says that we live, when it is time to, and what has waited for Redis.
  void beat(TimePoint now);
  /// Writes the stream's news, when there are some and it is time to. `now_at_once`: whatever the time.
  void note(const std::shared_ptr<StoredStream>& stream, TimePoint now, bool at_once = false);
  /// The end of our part of the stream; `count` is called as usage_outbox.h says.
  void settle(const std::shared_ptr<StoredStream>& stream, Usage total, Usage fresh, std::function<void(Usage)> count);

  /// Makes the stream ours, if it is the tenant's; nothing: there is none, or Redis is away.
  void take(std::string_view tenant, std::string_view stream, std::function<void(std::optional<TakenStream>)> then);

  /// Whose stream it is, when the hash is that of its token; empty: it is not, there is none, or Redis is away.
  void owner_of(std::string_view stream, std::string_view token_sha256, std::function<void(std::string tenant)> then);

  /// Our word still holds: what we emit, nobody else does.
  [[nodiscard]] bool may_emit(TimePoint now) const;
  /// Calls when that is known again; by then the streams that were taken from us have another owner.
  void confirm(std::function<void()> then);

 private:
  void write_whole(const std::shared_ptr<StoredStream>& stream, std::uint64_t generation, std::string line);
  void on_beat(TimePoint sent, const Result<store::Reply>& reply);
  void send_beat(TimePoint now);
  void lose(std::string_view stream);
  void note_lease(TimePoint now);

  store::Redis& redis_;
  StreamStore& streams_;
  const Clock& clock_;
  const std::string id_;
  const std::int64_t ttl_s_;
  const milliseconds lease_time_;
  UsageOutbox outbox_;
  Counter &taken_, &lost_, &waits_;
  Gauge& lease_;
  std::atomic<bool> lease_held_{false};
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<std::int64_t> confirmed_{0}, beaten_{0};  // clock readings
  std::mutex mutex_;
  bool beating_ = false;
  std::unordered_map<std::string, std::weak_ptr<StoredStream>> ours_;
  std::vector<std::function<void()>> waiting_;
};

/// A record and all that belongs to it, out of what was taken; null when its request cannot be read.
std::shared_ptr<StoredStream> restore_stream(const TakenStream& taken, std::string_view tenant, std::string_view id,
                                             std::string body);
std::string body_hash(std::string_view body);

}  // namespace hp::gateway

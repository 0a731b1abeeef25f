// Answers to an Idempotency-Key that are being made, for all gateways to see through Redis: who makes each, and what
// there is of it, so that one generation serves them all. A claim holds as long as its gateway's word that it lives
// (shared_journal.h); who takes it over raises its fence, and from then on the old owner's chunks are refused.
// Thread-safe; nobody waits for Redis.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "gateway/limits.h"
#include "gateway/reuse_key.h"
#include "gateway/saved_reply.h"
#include "store/redis.h"

namespace hp::gateway {

/// Ours to make: the fence is above those of all owners before. 0: not claimed, for Redis is away or was not asked.
struct Claim {
  std::uint64_t fence = 0;
};

class FlightBoard {
 public:
  /// `gateway`: the name under which it says that it lives.
  FlightBoard(store::Redis& redis, std::string gateway, MetricsRegistry& metrics, milliseconds lease = kLease);

  enum class Verdict {
    lead,      ///< the claim is ours: go on after the chunks
    follow,    ///< another gateway makes the answer: these are its new chunks
    saved,     ///< it is complete
    conflict,  ///< the key came with another request
    away       ///< Redis does not answer
  };
  struct Answer {
    Verdict verdict = Verdict::away;
    Claim claim;                     ///< of `lead`
    std::string stream, weights;     ///< under which, and with which weights, it is made
    std::vector<SavedChunk> chunks;  ///< from `from` on, for lead and follow
    SavedReplyPtr reply;             ///< of `saved`
  };
  struct Ask {
    const ReuseKey& key;
    std::string stream;    ///< to make the answer under, when nobody does yet
    std::size_t from = 0;  ///< chunks that are known here
    std::chrono::seconds ttl;
  };
  /// `then`: once, on Redis' thread or at once.
  void ask(const Ask& ask, std::function<void(Answer)> then);

  /// What a leader says. Chunks go out as `publish` is called, in order and each once, as far as Redis takes them.
  class Publisher {
   public:
    Publisher(FlightBoard& board, ReuseKey key, Claim claim, std::chrono::seconds ttl)
        : board_(board), key_(std::move(key)), claim_(claim), ttl_s_(ttl.count()) {}
    /// What of the flight is not out yet. Does nothing without a claim, or after it was lost.
    void publish(const Flight& flight);
    /// The claim is given back: the answer is complete and saved, or has failed.
    void give_back();

   private:
    struct Progress {
      std::atomic<std::size_t> out{0};
      std::atomic<bool> busy{false}, lost{false};
    };
    FlightBoard& board_;
    const ReuseKey key_;
    const Claim claim_;
    const std::int64_t ttl_s_;
    std::size_t beats_ = 0;
    std::shared_ptr<Progress> progress_ = std::make_shared<Progress>();
  };

 private:
  store::Redis& redis_;
  const std::string id_;
  const milliseconds lease_;
  Counter &followed_, &taken_over_, &fenced_;
};

}  // namespace hp::gateway

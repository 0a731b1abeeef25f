// Usage of streams that is to be counted once, whichever gateways carried them. Redis keeps how many tokens of a stream
// are counted; each gateway counts what it adds to that. What cannot be told now waits here and is told when Redis is
// back: a settlement has a number of its own, so that telling it twice is telling it once.
//
// A settlement that waited for kOutboxHold is counted without being told. When it turns out later that another gateway
// had counted the same tokens, homeport_gateway_usage_doubled_tokens_total says how many.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "store/redis.h"

namespace hp::gateway {

struct Usage {
  std::uint64_t tokens = 0, prompt_tokens = 0;
};

/// The end of one gateway's part of a stream.
struct Settlement {
  std::string stream;
  std::uint64_t epoch = 0;           ///< our lease's fencing number; the stream is given back when it still holds
  Usage total;                       ///< of the stream so far
  Usage fresh;                       ///< what this gateway has not counted of it
  std::function<void(Usage)> count;  ///< called once, at any moment and from any thread, with at most `fresh`
};

class UsageOutbox {
 public:
  /// `gateway`: a name never used before. Redis forgets a stream's count after `ttl_s`.
  UsageOutbox(store::Redis& redis, const Clock& clock, std::string gateway, std::int64_t ttl_s,
              MetricsRegistry& metrics);
  void add(Settlement settlement);
  /// Tells what waits, when Redis is there; counts what has waited for too long.
  void flush(TimePoint now);

 private:
  struct Entry {
    Settlement settlement;
    TimePoint since;
    bool sent = false, counted = false;
  };
  void send(std::uint64_t number, bool give_back);
  void on_reply(std::uint64_t number, const Result<store::Reply>& reply);

  store::Redis& redis_;
  const Clock& clock_;
  const std::string gateway_;
  const std::int64_t ttl_s_;
  Gauge& waiting_;
  Counter& doubled_;
  std::mutex mutex_;
  std::uint64_t next_ = 0;
  std::map<std::uint64_t, Entry> entries_;  // oldest first
};

}  // namespace hp::gateway

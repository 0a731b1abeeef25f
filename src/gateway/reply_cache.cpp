#include "gateway/reply_cache.h"

#include "gateway/limits.h"
#include "store/redis.h"

namespace hp::gateway {
namespace {
Counter& lookups(MetricsRegistry& r, const char* result) {
  return r.counter("homeport_reply_cache_lookups_total", "Requests that might have been answered before",
                   {{"result", result}});
}
}  // namespace

std::string reply_key_in_redis(const ReuseKey& key) {
  return "homeport:reply:" + key.key;
}

ReplyCache::ReplyCache(ReplyCacheOptions options, store::Redis* redis, const Clock& clock, MetricsRegistry& r)
    : options_(options),
      redis_(redis),
      clock_(clock),
      hits_(lookups(r, "hit")),
      redis_hits_(lookups(r, "hit_redis")),
      misses_(lookups(r, "miss")),
      joined_(lookups(r, "joined")),
      skipped_(lookups(r, "skipped")),
      stored_(r.counter("homeport_reply_cache_stored_total", "Answers that were kept")),
      conflicts_(r.counter("homeport_idempotency_conflicts_total", "Idempotency-Keys that came with another request")),
      bytes_(r.gauge("homeport_reply_cache_bytes", "Bytes of answers kept in this process")) {}

ReplyCache::Look ReplyCache::look(const ReuseKey& key) {
  const std::lock_guard lock(mutex_);
  if (const auto found = flights_.find(key.key); found != flights_.end()) {
    if (found->second->body_hash() == key.body_hash) {
      joined_.add();
      return {.flight = found->second};
    }
    conflicts_.add();
    return {.flight = nullptr, .conflict = true};
  }
  if (const auto found = entries_.find(key.key); found != entries_.end()) {
    if (found->second.until <= clock_.now()) {
      drop_locked(key.key);
    } else if (found->second.reply->body_hash != key.body_hash) {
      conflicts_.add();
      return {.flight = nullptr, .conflict = true};
    } else {
      hits_.add();
      used_.splice(used_.end(), used_, found->second.used);
      return {.flight = std::make_shared<Flight>(found->second.reply)};
    }
  }
  auto flight = std::make_shared<Flight>(key.body_hash);
  flights_.emplace(key.key, flight);
  return {.flight = std::move(flight), .leads = true};
}

void ReplyCache::fetch(const ReuseKey& key, std::function<void(SavedReplyPtr)> done) {
  if (redis_ == nullptr || (redis_->late() && !key.idempotent)) {
    (redis_ == nullptr ? misses_ : skipped_).add();
    return done(nullptr);
  }
  redis_->send({"GET", reply_key_in_redis(key)}, [this, key, done = std::move(done)](const Result<store::Reply>& got) {
    if (got && got->kind == store::Reply::Kind::text)
      if (auto reply = SavedReply::from_json(got->text)) {
        auto kept = std::make_shared<const SavedReply>(*std::move(reply));
        keep(key, kept);
        return done(std::move(kept));
      }
    misses_.add();
    done(nullptr);
  });
}

void ReplyCache::keep(const ReuseKey& key, const SavedReplyPtr& reply) {
  redis_hits_.add();
  if (reply->body_hash != key.body_hash) return;
  const std::lock_guard lock(mutex_);
  keep_locked(key, reply);
}

void ReplyCache::finish(const ReuseKey& key, const std::shared_ptr<Flight>& flight, Flight::State state, bool store) {
  SavedReplyPtr reply;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = flights_.find(key.key); found != flights_.end() && found->second == flight)
      flights_.erase(found);
    reply = flight->end(state);
    if (!reply || !store || reply->bytes() > kMaxSavedReplyBytes) return;
    stored_.add();
    keep_locked(key, reply);
  }
  if (redis_ != nullptr)
    redis_->send({"SET", reply_key_in_redis(key), reply->to_json(), "EX", std::to_string(ttl(key).count())});
}

void ReplyCache::keep_locked(const ReuseKey& key, SavedReplyPtr reply) {
  drop_locked(key.key);
  const std::size_t bytes = reply->bytes() + 2 * key.key.size() + sizeof(Entry);
  if (bytes > options_.max_bytes) return;
  while (total_ + bytes > options_.max_bytes && !used_.empty()) drop_locked(std::string(used_.front()));
  total_ += bytes;
  const auto used = used_.insert(used_.end(), key.key);
  entries_.emplace(key.key, Entry{std::move(reply), clock_.now() + ttl(key), bytes, used});
  bytes_.set(static_cast<double>(total_));
}

void ReplyCache::drop_locked(const std::string& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  total_ -= found->second.bytes;
  used_.erase(found->second.used);
  entries_.erase(found);
  bytes_.set(static_cast<double>(total_));
}

}  // namespace hp::gateway

#include "gateway/shared_journal.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "net/sha256.h"

namespace hp::gateway {
namespace {
using store::Reply;

// Keys: hp:s:<stream> the stream's request and owner, hp:j:<stream>:<epoch> its journal, hp:g:<gateway> when that one
// last said that it lives, hp:l:<gateway> the streams that were taken from it.
constexpr std::string_view kBeatScript = R"(
local had = redis.call('EXISTS', 'hp:g:' .. ARGV[1])
local t = redis.call('TIME')
redis.call('SET', 'hp:g:' .. ARGV[1], t[1] * 1000 + math.floor(t[2] / 1000), 'PX', ARGV[2])
local lost = redis.call('LRANGE', 'hp:l:' .. ARGV[1], 0, -1)
redis.call('DEL', 'hp:l:' .. ARGV[1])
return {had, lost})";

constexpr std::string_view kWriteScript = R"(
local key = 'hp:s:' .. ARGV[1]
local epoch = redis.call('HGET', key, 'epoch')
if epoch and tonumber(epoch) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', key, 'epoch', ARGV[2], 'owner', ARGV[3], 'tenant', ARGV[4], 'target', ARGV[5], 'body', ARGV[6], 'hash', ARGV[7])
if ARGV[10] ~= '' then redis.call('HSET', key, 'token', ARGV[10]) end
redis.call('EXPIRE', key, ARGV[8])
redis.call('SET', 'hp:j:' .. ARGV[1] .. ':' .. ARGV[2], ARGV[9], 'EX', ARGV[8])
return 1)";

constexpr std::string_view kTakeScript = R"(
local key = 'hp:s:' .. ARGV[1]
local s = redis.call('HMGET', key, 'tenant', 'owner', 'epoch', 'target', 'body', 'hash', 'token')
if not s[1] or s[1] ~= ARGV[2] then return false end
local age = -1
if s[2] ~= '' and s[2] ~= ARGV[3] then
  local beat = redis.call('GET', 'hp:g:' .. s[2])
  if beat then
    local t = redis.call('TIME')
    age = t[1] * 1000 + math.floor(t[2] / 1000) - tonumber(beat)
    redis.call('RPUSH', 'hp:l:' .. s[2], ARGV[1])
    redis.call('EXPIRE', 'hp:l:' .. s[2], ARGV[4])
  end
end
local journal = redis.call('GET', 'hp:j:' .. ARGV[1] .. ':' .. s[3]) or ''
redis.call('HSET', key, 'owner', ARGV[3], 'epoch', s[3] + 1)
redis.call('EXPIRE', key, ARGV[4])
local usage = redis.call('HMGET', 'hp:u:' .. ARGV[1], 'tokens', 'prompt')
return {tonumber(s[3]), age, s[4], s[5], s[6], journal, tonumber(usage[1] or 0), tonumber(usage[2] or 0),
        s[7] or ''})";

std::vector<std::string> script(std::string_view text, std::initializer_list<std::string_view> arguments) {
  std::vector<std::string> command{"EVAL", std::string(text), "0"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

std::string journal_key(std::string_view stream, std::uint64_t epoch) {
  return fmt::format("hp:j:{}:{}", stream, epoch);
}

TimePoint at(std::int64_t reading) {
  return TimePoint(Duration(reading));
}

}  // namespace

std::string body_hash(std::string_view body) {
  return net::sha256_hex(body);
}

SharedJournal::SharedJournal(store::Redis& redis, StreamStore& streams, const Clock& clock, std::string id,
                             Duration ttl, MetricsRegistry& r, milliseconds lease)
    : redis_(redis),
      streams_(streams),
      clock_(clock),
      id_(std::move(id)),
      ttl_s_(
          std::max<std::int64_t>(kSharedTtlMin.count(), std::chrono::duration_cast<std::chrono::seconds>(ttl).count())),
      lease_time_(lease),
      outbox_(redis, clock, id_, ttl_s_, r),
      taken_(r.counter("homeport_gateway_streams_taken_total",
                       "Streams that this gateway took up from the shared journal")),
      lost_(r.counter("homeport_gateway_streams_lost_total", "Streams that another gateway took over")),
      waits_(r.counter("homeport_gateway_lease_waits_total",
                       "Times that a stream waited to know whether it is still ours")),
      lease_(r.gauge("homeport_gateway_lease_held", "1: other gateways cannot take our streams without our knowing")) {}

void SharedJournal::beat(TimePoint now) {
  note_lease(now);
  outbox_.flush(now);
  if (!redis_.available() || now - at(beaten_.load(std::memory_order_relaxed)) < kBeat) return;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(beating_, true)) return;
  }
  send_beat(now);
}

void SharedJournal::note_lease(TimePoint now) {
  const bool held = now - at(confirmed_.load(std::memory_order_relaxed)) < lease_time_;
  if (lease_held_.exchange(held) == held) return;
  lease_.set(held ? 1 : 0);
  if (held)
    log::info("gateway: it has a lease on its streams");
  else
    log::warn(
        "gateway: its lease has run out: Redis has not answered for {} ms, other gateways may take its streams; "
        "connected clients are served on",
        lease_time_.count());
}

void SharedJournal::send_beat(TimePoint now) {
  beaten_ = now.time_since_epoch().count();
  redis_.send(script(kBeatScript, {id_, std::to_string(kBeatKept.count())}),
              [this, now](const Result<Reply>& reply) { on_beat(now, reply); });
}

void SharedJournal::on_beat(TimePoint sent, const Result<Reply>& reply) {
  if (reply && reply->list.size() == 2) {
    confirmed_ = sent.time_since_epoch().count();
    if (reply->list[0].integer == 0) ++generation_;  // the store is new or was emptied: everything is written again
    for (const Reply& stream : reply->list[1].list) lose(stream.text);
  }
  std::vector<std::function<void()>> waiting;
  {
    const std::lock_guard lock(mutex_);
    beating_ = false;
    waiting.swap(waiting_);
  }
  for (const auto& then : waiting) then();
}

void SharedJournal::lose(std::string_view id) {
  std::shared_ptr<StoredStream> stream;
  {
    const std::lock_guard lock(mutex_);
    const auto found = ours_.find(std::string(id));
    if (found == ours_.end()) return;
    stream = found->second.lock();
    ours_.erase(found);
  }
  if (!stream) return;
  lost_.add();
  ++stream->lease;
  streams_.close(stream, clock_.now());
}

bool SharedJournal::may_emit(TimePoint now) const {
  return !redis_.available() || now - at(confirmed_.load(std::memory_order_relaxed)) < lease_time_;
}

void SharedJournal::confirm(std::function<void()> then) {
  waits_.add();
  bool send = false;
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(then));
    send = !std::exchange(beating_, true);
  }
  if (send) send_beat(clock_.now());
}

void SharedJournal::note(const std::shared_ptr<StoredStream>& stream, TimePoint now, bool at_once) {
  if (!redis_.available()) return;
  const std::uint64_t generation = generation_.load();
  if (generation == 0) return beat(now);
  std::unique_lock lock(stream->mutex);
  SharedState& shared = stream->shared;
  const bool whole = shared.generation != generation;
  if (!whole && !at_once && now - shared.written_at < kWriteBehind) return;
  if (whole) shared.written = {};
  std::string line = stream->record.journal_since(shared.written);
  const bool extend = now - shared.extended_at > std::chrono::seconds(ttl_s_) / 4;
  if (!whole && line.empty() && !extend) return;
  shared.written_at = now;
  if (whole || extend) shared.extended_at = now;
  shared.generation = generation;
  const std::string key = journal_key(stream->record.id(), shared.epoch), id = stream->record.id();
  lock.unlock();
  if (whole) return write_whole(stream, generation, std::move(line));
  if (extend) {
    redis_.send({"EXPIRE", "hp:s:" + id, std::to_string(ttl_s_)});
    redis_.send({"EXPIRE", key, std::to_string(ttl_s_)});
  }
  if (line.empty()) return;
  redis_.send({"APPEND", key, std::move(line)}, [weak = std::weak_ptr(stream)](const Result<Reply>& reply) {
    const auto held = reply ? nullptr : weak.lock();
    if (!held) return;
    const std::lock_guard relock(held->mutex);
    held->shared.generation = 0;  // there is a hole now
  });
}

void SharedJournal::write_whole(const std::shared_ptr<StoredStream>& stream, std::uint64_t generation,
                                std::string line) {
  std::string id, epoch;
  {
    const std::lock_guard lock(stream->mutex);
    id = stream->record.id();
    epoch = std::to_string(stream->shared.epoch);
  }
  {
    const std::lock_guard lock(mutex_);
    ours_[id] = stream;
  }
  // A large request is not kept: its client sends it again with Last-Event-ID.
  const bool small = stream->body->size() <= kMaxSharedBodyBytes;
  redis_.send(
      script(kWriteScript, {id, epoch, id_, stream->tenant, stream->target, small ? *stream->body : std::string(),
                            body_hash(*stream->body), std::to_string(ttl_s_), line, stream->token_sha256}),
      [this, generation, id, weak = std::weak_ptr(stream)](const Result<Reply>& reply) {
        const auto held = weak.lock();
        if (!held) return;
        if (reply && reply->integer == 0) return lose(id);
        if (reply) return;
        const std::lock_guard lock(held->mutex);
        if (held->shared.generation == generation) held->shared.generation = 0;
      });
}

void SharedJournal::settle(const std::shared_ptr<StoredStream>& stream, Usage total, Usage fresh,
                           std::function<void(Usage)> count) {
  note(stream, clock_.now(), true);
  Settlement settlement{.stream = {}, .total = total, .fresh = fresh, .count = std::move(count)};
  {
    const std::lock_guard lock(stream->mutex);
    settlement.stream = stream->record.id();
    settlement.epoch = stream->shared.epoch;
  }
  {
    const std::lock_guard lock(mutex_);
    ours_.erase(settlement.stream);
  }
  outbox_.add(std::move(settlement));
}

void SharedJournal::take(std::string_view tenant, std::string_view id,
                         std::function<void(std::optional<TakenStream>)> then) {
  redis_.send(script(kTakeScript, {id, tenant, id_, std::to_string(ttl_s_)}),
              [this, then = std::move(then)](const Result<Reply>& reply) {
                if (!reply || reply->list.size() != 9) return then(std::nullopt);
                const auto& field = reply->list;
                TakenStream taken{.epoch = static_cast<std::uint64_t>(field[0].integer),
                                  .target = field[2].text,
                                  .body = field[3].text,
                                  .body_hash = field[4].text,
                                  .journal = field[5].text,
                                  .token_sha256 = field[8].text,
                                  .counted_tokens = static_cast<std::uint64_t>(field[6].integer),
                                  .prompt_counted = field[7].integer != 0};
                const std::int64_t age = field[1].integer;
                if (age >= 0)
                  taken.wait =
                      milliseconds(std::clamp<std::int64_t>(lease_time_.count() + 1 - age, 0, lease_time_.count() + 1));
                taken_.add();
                then(std::move(taken));
              });
}

void SharedJournal::owner_of(std::string_view stream, std::string_view token_sha256,
                             std::function<void(std::string)> then) {
  redis_.send({"HMGET", fmt::format("hp:s:{}", stream), "tenant", "token"},
              [hash = std::string(token_sha256), then = std::move(then)](const Result<Reply>& reply) {
                const bool known = reply && reply->list.size() == 2 && !hash.empty() && reply->list[1].text == hash;
                then(known ? reply->list[0].text : std::string());
              });
}

std::shared_ptr<StoredStream> restore_stream(const TakenStream& taken, std::string_view tenant, std::string_view id,
                                             std::string body) {
  auto peek = peek_request(body);
  if (!peek || !peek->stream) return nullptr;
  auto stream = std::make_shared<StoredStream>(std::string(id), *std::move(peek));
  stream->tenant = tenant;
  stream->target = taken.target;
  stream->body = std::make_shared<const std::string>(std::move(body));
  stream->token_sha256 = taken.token_sha256;
  stream->counted_tokens = taken.counted_tokens;
  stream->prompt_counted = taken.prompt_counted;
  stream->shared.epoch = taken.epoch + 1;
  stream->record.replay_journal(taken.journal);
  return stream;
}

}  // namespace hp::gateway

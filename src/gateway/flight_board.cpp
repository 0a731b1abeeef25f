#include "gateway/flight_board.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <utility>

#include "gateway/limits.h"
#include "gateway/reply_cache.h"
#include "gateway/stream_record.h"

namespace hp::gateway {
namespace {
using store::Reply;

// hp:f:<key>: owner, fence, stream, weights and request of an answer that is being made, and since when; hp:c:<key>:
// its chunks; hp:g:<gateway> is the journal's.
constexpr std::string_view kAskScript = R"(
local reply = redis.call('GET', ARGV[8])
if reply then return {'saved', reply} end
local key, chunks = 'hp:f:' .. ARGV[1], 'hp:c:' .. ARGV[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local f = redis.call('HMGET', key, 'owner', 'fence', 'stream', 'weights', 'hash', 'at')
if f[5] and f[5] ~= ARGV[4] then return {'conflict'} end
local said = 'lead'
if not f[1] then
  redis.call('DEL', chunks)
  redis.call('HSET', key, 'owner', ARGV[2], 'fence', 1, 'stream', ARGV[3], 'weights', '', 'hash', ARGV[4], 'at', now)
  f[2], f[3], f[4] = 1, ARGV[3], ''
else
  local heard = math.max(tonumber(redis.call('GET', 'hp:g:' .. f[1]) or 0), tonumber(f[6]))
  local silent = now - tonumber(f[6]) > tonumber(ARGV[9])
  if now - heard <= tonumber(ARGV[6]) and not silent and f[1] ~= ARGV[2] then
    said = 'follow'
  else
    f[2] = redis.call('HINCRBY', key, 'fence', 1)
    redis.call('HSET', key, 'owner', ARGV[2], 'at', now)
  end
end
redis.call('EXPIRE', key, ARGV[7])
redis.call('EXPIRE', chunks, ARGV[7])
return {said, tonumber(f[2]), f[3], f[4], redis.call('LRANGE', chunks, ARGV[5], -1)})";

// Answers with how many chunks there are, or -1 to who owns the answer no more.
constexpr std::string_view kPublishScript = R"(
local key, chunks = 'hp:f:' .. ARGV[1], 'hp:c:' .. ARGV[1]
local f = redis.call('HMGET', key, 'owner', 'fence')
if f[1] and (f[1] ~= ARGV[2] or f[2] ~= ARGV[3]) then return -1 end
local t = redis.call('TIME')
redis.call('HSET', key, 'owner', ARGV[2], 'fence', ARGV[3], 'stream', ARGV[4], 'weights', ARGV[5], 'hash', ARGV[6],
           'at', t[1] * 1000 + math.floor(t[2] / 1000))
local have, from = redis.call('LLEN', chunks), tonumber(ARGV[8])
if have >= from then
  for i = 9 + have - from, #ARGV do redis.call('RPUSH', chunks, ARGV[i]) end
end
redis.call('EXPIRE', key, ARGV[7])
redis.call('EXPIRE', chunks, ARGV[7])
return redis.call('LLEN', chunks))";

constexpr std::string_view kGiveBackScript = R"(
local f = redis.call('HMGET', 'hp:f:' .. ARGV[1], 'owner', 'fence')
if f[1] == ARGV[2] and f[2] == ARGV[3] then redis.call('DEL', 'hp:f:' .. ARGV[1], 'hp:c:' .. ARGV[1]) end
return 0)";

std::string to_line(const SavedChunk& chunk) {
  return fmt::format("{} {}", chunk.choice, chunk.data);
}

// Nothing when it is not a chunk as to_line() writes it.
std::optional<SavedChunk> from_line(std::string_view line) {
  SavedChunk chunk;
  const auto space = line.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const auto [end, error] = std::from_chars(line.data(), line.data() + space, chunk.choice);
  if (error != std::errc() || end != line.data() + space || chunk.choice < kUsageChunk ||
      chunk.choice >= static_cast<std::int32_t>(kMaxChoices))
    return std::nullopt;
  chunk.data = line.substr(space + 1);
  return chunk;
}

FlightBoard::Answer read_answer(const Result<Reply>& reply) {
  using Verdict = FlightBoard::Verdict;
  FlightBoard::Answer answer;
  if (!reply || reply->list.empty()) return answer;
  const auto& part = reply->list;
  const std::string& word = part[0].text;
  if (word == "conflict") answer.verdict = Verdict::conflict;
  if (word == "saved" && part.size() == 2) {
    auto saved = SavedReply::from_json(part[1].text);
    if (!saved) return answer;
    answer.reply = std::make_shared<const SavedReply>(*std::move(saved));
    answer.verdict = Verdict::saved;
  }
  if ((word != "lead" && word != "follow") || part.size() != 5 || !valid_stream_id(part[2].text)) return answer;
  for (const Reply& line : part[4].list) {
    auto chunk = from_line(line.text);
    if (!chunk) return answer;
    answer.chunks.push_back(*std::move(chunk));
  }
  answer.stream = part[2].text;
  if (valid_weights(part[3].text)) answer.weights = part[3].text;
  if (word == "lead") answer.claim.fence = static_cast<std::uint64_t>(part[1].integer);
  answer.verdict = word == "lead" ? Verdict::lead : Verdict::follow;
  return answer;
}

}  // namespace

FlightBoard::FlightBoard(store::Redis& redis, std::string gateway, MetricsRegistry& r, milliseconds lease)
    : redis_(redis),
      id_(std::move(gateway)),
      lease_(lease),
      followed_(r.counter("homeport_idempotency_followed_total", "Looks at an answer that another gateway was making")),
      taken_over_(r.counter("homeport_idempotency_taken_over_total",
                            "Answers that this gateway went on with because their owner's lease had run out")),
      fenced_(r.counter("homeport_idempotency_fenced_total", "Answers of ours that another gateway had taken over")) {}

void FlightBoard::ask(const Ask& ask, std::function<void(Answer)> then) {
  redis_.send({"EVAL", std::string(kAskScript), "0", ask.key.key, id_, ask.stream, ask.key.body_hash,
               std::to_string(ask.from), std::to_string(lease_.count()), std::to_string(ask.ttl.count()),
               reply_key_in_redis(ask.key), std::to_string(kFlightSilence.count())},
              [this, hash = ask.key.body_hash, then = std::move(then)](const Result<Reply>& reply) {
                Answer answer = read_answer(reply);
                if (answer.reply && answer.reply->body_hash != hash) answer.verdict = Verdict::conflict;
                if (answer.verdict == Verdict::follow) followed_.add();
                if (answer.claim.fence > 1) taken_over_.add();
                then(std::move(answer));
              });
}

void FlightBoard::Publisher::publish(const Flight& flight) {
  if (claim_.fence == 0 || progress_->lost || progress_->busy.exchange(true)) return;
  const std::size_t out = progress_->out;
  const Flight::View view = flight.read(out);
  // Even without news the claim is kept from being forgotten.
  if (view.state != Flight::State::running || (view.chunks.empty() && ++beats_ % kFlightBeats != 0)) {
    progress_->busy = false;
    return;
  }
  std::vector<std::string> command{"EVAL",
                                   std::string(kPublishScript),
                                   "0",
                                   key_.key,
                                   board_.id_,
                                   std::to_string(claim_.fence),
                                   view.stream,
                                   view.weights,
                                   key_.body_hash,
                                   std::to_string(ttl_s_),
                                   std::to_string(out)};
  for (const SavedChunk& chunk : view.chunks) command.push_back(to_line(chunk));
  board_.redis_.send(std::move(command), [progress = progress_, &fenced = board_.fenced_](const Result<Reply>& reply) {
    if (reply && reply->integer < 0) {
      progress->lost = true;
      fenced.add();
    } else if (reply) {
      progress->out = static_cast<std::size_t>(reply->integer);
    }
    progress->busy = false;
  });
}

void FlightBoard::Publisher::give_back() {
  if (claim_.fence == 0 || progress_->lost) return;
  board_.redis_.send({"EVAL", std::string(kGiveBackScript), "0", key_.key, board_.id_, std::to_string(claim_.fence)});
}

}  // namespace hp::gateway

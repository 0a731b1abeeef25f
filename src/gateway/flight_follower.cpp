#include "gateway/flight_follower.h"

#include <utility>

#include "gateway/reply_capture.h"

namespace hp::gateway {

std::shared_ptr<StoredStream> renamed(const StoredStream& stream, const std::string& id) {
  auto out = std::make_shared<StoredStream>(id, stream.peek);
  out->target = stream.target;
  out->tenant = stream.tenant;
  out->body = stream.body;
  out->token = stream.token;
  out->token_sha256 = stream.token_sha256;
  return out;
}

FlightFollower::FlightFollower(Shard& shard, RelayStart request, ReuseKey key, std::shared_ptr<Flight> flight)
    : shard_(shard), request_(std::move(request)), key_(std::move(key)), flight_(std::move(flight)) {}

FlightFollower::~FlightFollower() {
  if (!done_) shard_.core.replies.finish(key_, flight_, Flight::State::failed, false);
}

void FlightFollower::start(FlightBoard::Answer answer) {
  shard_.followers.insert(shared_from_this());
  request_.stream = renamed(*request_.stream, answer.stream);
  flight_->set_stream(answer.stream);
  take(std::move(answer));
}

void FlightFollower::take(FlightBoard::Answer answer) {
  if (done_) return;
  const auto self = shared_from_this();
  if (!add(answer.chunks)) return finish(Flight::State::failed);
  if (!answer.weights.empty()) flight_->set_weights(weights_ = answer.weights);
  const TimePoint now = shard_.core.clock.now();
  switch (answer.verdict) {
    case FlightBoard::Verdict::lead:
      return go_on(answer.claim);
    case FlightBoard::Verdict::follow:
      away_since_.reset();
      return look_later();
    case FlightBoard::Verdict::saved:
      return take_saved(*answer.reply);
    case FlightBoard::Verdict::conflict:
      return finish(Flight::State::failed);
    case FlightBoard::Verdict::away:
      if (!away_since_) away_since_ = now;
      if (now - *away_since_ > shard_.core.options.lease) return go_on({});
      return look_later();
  }
}

bool FlightFollower::add(const std::vector<SavedChunk>& chunks) {
  for (const SavedChunk& chunk : chunks) {
    if (!flight_->add(chunk)) return false;
    ++known_;
    if (chunk.choice < 0) continue;
    const auto choice = static_cast<std::size_t>(chunk.choice);
    events_.resize(std::max(events_.size(), choice + 1));
    ++events_[choice];
  }
  return true;
}

void FlightFollower::take_saved(const SavedReply& reply) {
  if (known_ == 0) flight_->set_stream(reply.stream);
  const bool same = known_ == 0 || reply.stream == request_.stream->record.id();
  if (!same || known_ > reply.chunks.size()) return finish(Flight::State::failed);
  flight_->set_weights(reply.weights);
  if (!add({reply.chunks.begin() + static_cast<std::ptrdiff_t>(known_), reply.chunks.end()}))
    return finish(Flight::State::failed);
  flight_->set_whole(reply.content_type, reply.body);
  finish(Flight::State::complete);
}

void FlightFollower::finish(Flight::State state) {
  if (std::exchange(done_, true)) return;
  const auto self = shared_from_this();
  shard_.followers.erase(self);
  shard_.core.replies.finish(key_, flight_, state, false);
}

void FlightFollower::look_later() {
  shard_.loop->after(kFlightLook, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->look();
  });
}

void FlightFollower::look() {
  Core& core = shard_.core;
  core.flights->ask({.key = key_,
                     .stream = request_.stream->record.id(),
                     .from = known_,
                     .ttl = core.replies.options().idempotency_ttl},
                    [loop = shard_.loop.get(), weak = weak_from_this()](FlightBoard::Answer answer) {
                      loop->post([weak, answer = std::move(answer)]() mutable {
                        if (const auto self = weak.lock()) self->take(std::move(answer));
                      });
                    });
}

EventPosition FlightFollower::position() const {
  EventPosition position{
      .stream = request_.stream->record.id(), .seq = known_ - 1, .per_choice = {}, .weights = weights_};
  if (request_.stream->peek.choices > 1) position.per_choice = events_;
  return position;
}

// As a client of the dead gateway would go on.
std::shared_ptr<StoredStream> FlightFollower::resumed(const std::optional<TakenStream>& taken) const {
  const StoredStream& asked = *request_.stream;
  if (known_ > 0 && taken && (!taken->body.empty() || taken->body_hash == body_hash(*asked.body))) {
    auto stream =
        restore_stream(*taken, asked.tenant, asked.record.id(), taken->body.empty() ? *asked.body : taken->body);
    if (stream && stream->record.catch_up(position())) return stream;
  }
  auto stream = renamed(asked, asked.record.id());
  if (taken) {
    stream->shared.epoch = taken->epoch + 1;
    stream->counted_tokens = taken->counted_tokens;
    stream->prompt_counted = taken->prompt_counted;
  }
  if (known_ > 0) stream->record.skip_to(position());
  return stream;
}

void FlightFollower::go_on(Claim claim) {
  const StoredStream& asked = *request_.stream;
  Core& core = shard_.core;
  if (!asked.peek.stream) return generate(claim, request_.stream);
  if (!core.shared->available()) return generate(claim, resumed(std::nullopt));
  core.shared->take(asked.tenant, asked.record.id(),
                    [loop = shard_.loop.get(), weak = weak_from_this(), claim](std::optional<TakenStream> taken) {
                      loop->post([weak, claim, taken = std::move(taken)] {
                        const auto self = weak.lock();
                        if (self && !self->done_) self->generate(claim, self->resumed(taken));
                      });
                    });
}

// The flight is the relay's now; our readers notice nothing.
void FlightFollower::generate(Claim claim, std::shared_ptr<StoredStream> stream) {
  const auto self = shared_from_this();
  done_ = true;
  shard_.followers.erase(self);
  Core& core = shard_.core;
  const bool begun = known_ > 0;
  RelayStart start = std::move(request_);
  start.stream = std::move(stream);
  start.writer = nullptr;
  start.admitted = false;
  start.reattached = start.begun = begun;
  start.capture =
      std::make_shared<ReplyCapture>(core.replies, key_, flight_, start.stream->record.id(), core.flights.get(), claim);
  if (start.stream->peek.stream) core.streams.add(start.stream);
  std::make_shared<Relay>(shard_, std::move(start))->start();
}

}  // namespace hp::gateway

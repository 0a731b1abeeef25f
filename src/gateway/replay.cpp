#include "gateway/replay.h"

#include "gateway/access_line.h"
#include "gateway/answers.h"
#include "gateway/flight_follower.h"
#include "gateway/reply_capture.h"

namespace hp::gateway {
namespace {

void generate(Shard& shard, RelayStart start) {
  if (start.stream->peek.stream) shard.core.streams.add(start.stream);
  std::make_shared<Relay>(shard, std::move(start))->start();
}

void refuse_conflict(Shard& shard, RelayStart& start) {
  shard.core.admission.leave(start.stream->tenant, start.charged_tokens, 0);
  start.writer->send(error_answer(422, "This Idempotency-Key came with another request before; use a new key.",
                                  "idempotency_key_reused"));
}

// The flight is filled from what Redis has.
void answer_saved(Shard& shard, RelayStart start, const ReuseKey& key, const std::shared_ptr<Flight>& flight,
                  const SavedReply& saved) {
  ReplyCache& replies = shard.core.replies;
  if (saved.body_hash != key.body_hash) {
    replies.finish(key, flight, Flight::State::failed, false);
    return refuse_conflict(shard, start);
  }
  flight->set_stream(saved.stream);
  flight->set_weights(saved.weights);
  flight->set_whole(saved.content_type, saved.body);
  for (const SavedChunk& chunk : saved.chunks) flight->add(chunk);
  replies.finish(key, flight, Flight::State::complete, false);
  std::make_shared<Replay>(shard, std::move(start), key, flight, "hit")->start();
}

void lead(Shard& shard, RelayStart start, const ReuseKey& key, const std::shared_ptr<Flight>& flight,
          Claim claim = {}) {
  Core& core = shard.core;
  start.capture = std::make_shared<ReplyCapture>(core.replies, key, flight, start.stream->record.id(),
                                                 claim.fence > 0 ? core.flights.get() : nullptr, claim);
  generate(shard, std::move(start));
}

// What the board says of an Idempotency-Key.
void heed(Shard& shard, RelayStart start, const ReuseKey& key, const std::shared_ptr<Flight>& flight,
          FlightBoard::Answer answer) {
  using Verdict = FlightBoard::Verdict;
  ReplyCache& replies = shard.core.replies;
  if (answer.verdict == Verdict::saved) {
    replies.keep(key, answer.reply);
    return answer_saved(shard, std::move(start), key, flight, *answer.reply);
  }
  if (answer.verdict == Verdict::conflict) {
    replies.finish(key, flight, Flight::State::failed, false);
    return refuse_conflict(shard, start);
  }
  replies.note_miss();
  if (answer.verdict == Verdict::away) return lead(shard, std::move(start), key, flight);
  if (answer.verdict == Verdict::lead && answer.chunks.empty()) {
    if (answer.stream != start.stream->record.id()) start.stream = renamed(*start.stream, answer.stream);
    return lead(shard, std::move(start), key, flight, answer.claim);
  }
  RelayStart request{.stream = start.stream,
                     .writer = nullptr,
                     .trace = start.trace,
                     .method = start.method,
                     .priority = start.priority};
  const auto reader = std::make_shared<Replay>(shard, std::move(start), key, flight, "joined");
  std::make_shared<FlightFollower>(shard, std::move(request), key, flight)->start(std::move(answer));
  reader->start();
}

}  // namespace

void answer_or_generate(Shard& shard, RelayStart start, const std::optional<ReuseKey>& key) {
  if (!key) return generate(shard, std::move(start));
  Core& core = shard.core;
  auto look = core.replies.look(*key);
  if (look.conflict) return refuse_conflict(shard, start);
  if (!look.leads) {
    const bool running = look.flight->read(~std::size_t{0}).state == Flight::State::running;
    return std::make_shared<Replay>(shard, std::move(start), *key, std::move(look.flight), running ? "joined" : "hit")
        ->start();
  }
  const auto on_loop = [&shard](std::function<void()> task) {
    if (shard.loop->inside()) return task();
    shard.loop->post(std::move(task));
  };
  const auto who = std::make_shared<RelayStart>(std::move(start));
  if (key->idempotent && core.flights)
    return core.flights->ask(
        {.key = *key, .stream = who->stream->record.id(), .ttl = core.replies.options().idempotency_ttl},
        [&shard, on_loop, who, key = *key, flight = std::move(look.flight)](FlightBoard::Answer answer) {
          on_loop([&shard, who, key, flight, answer = std::move(answer)]() mutable {
            heed(shard, std::move(*who), key, flight, std::move(answer));
          });
        });
  core.replies.fetch(*key, [&shard, on_loop, who, key = *key, flight = std::move(look.flight)](SavedReplyPtr saved) {
    on_loop([&shard, who, key, flight, saved = std::move(saved)] {
      if (saved) return answer_saved(shard, std::move(*who), key, flight, *saved);
      lead(shard, std::move(*who), key, flight);
    });
  });
}

Replay::Replay(Shard& shard, RelayStart start, ReuseKey key, std::shared_ptr<Flight> flight, std::string_view how)
    : shard_(shard),
      start_(std::move(start)),
      key_(std::move(key)),
      flight_(std::move(flight)),
      how_(how),
      id_(start_.stream->record.id()),
      began_(shard.core.clock.now()) {
  shard_.core.metrics.open.add(1);
}

Replay::~Replay() {
  shard_.core.metrics.open.add(-1);
}

void Replay::start() {
  shard_.core.metrics.requests.add();
  shard_.replays.insert(shared_from_this());
  start_.writer->on_disconnect([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close("client gone");
  });
  flight_->listen([weak = weak_from_this(), loop = shard_.loop.get()] {
    const auto self = weak.lock();
    if (!self || self->posted_.exchange(true)) return;
    loop->post([self] {
      self->posted_ = false;
      self->pump();
    });
  });
  if (start_.terms.deadline)
    deadline_ = shard_.loop->after(*start_.terms.deadline, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->refuse_late();
    });
  pump();
}

void Replay::refuse_late() {
  if (done_ || begun_) return;
  shard_.core.metrics.deadline_expired.add();
  start_.writer->send(
      error_answer(504, fmt::format("The request's deadline of {} ms has passed.", start_.terms.deadline->count())));
  close("given up");
}

net::Headers Replay::headers() const {
  return {{"Homeport-Stream", id_}, {"Homeport-Cache", how_}};
}

void Replay::pump() {
  if (done_) return;
  const auto self = shared_from_this();
  const Flight::View view = flight_->read(sent_);
  // A retry of one request is one answer under one id; equal requests of different clients are different answers.
  if (key_.idempotent && !view.stream.empty()) id_ = view.stream;
  if (start_.stream->peek.stream)
    for (const SavedChunk& chunk : view.chunks) forward(chunk, view);
  if (view.state == Flight::State::failed) return fall_back(view);
  if (view.state == Flight::State::running) return;
  if (!start_.stream->peek.stream) return send_whole(view);
  start_.writer->write("data: [DONE]\n\n");
  start_.writer->end();
  close("finished");
}

void Replay::forward(const SavedChunk& chunk, const Flight::View& view) {
  if (!std::exchange(begun_, true)) {
    auto fields = headers();
    fields.insert(fields.end(), {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}});
    start_.writer->begin_stream(200, std::move(fields), "text/event-stream");
  }
  if (chunk.choice >= 0) {
    const auto choice = static_cast<std::size_t>(chunk.choice);
    events_.resize(std::max(events_.size(), choice + 1));
    ++events_[choice];
  }
  std::string out = fmt::format("id: {}:{}", id_, sent_++);
  if (start_.stream->peek.choices > 1)
    for (std::size_t i = 0; i < events_.size(); ++i) out += fmt::format("{}{}", i == 0 ? ':' : '.', events_[i]);
  if (!view.weights.empty()) out.append(start_.stream->peek.choices > 1 ? ":" : "::").append(view.weights);
  out.append("\ndata: ").append(with_stream_id(chunk.data, view.stream, id_)).append("\n\n");
  start_.writer->write(std::move(out));
}

void Replay::send_whole(const Flight::View& view) {
  net::HttpResponse answer{.status = 200, .headers = headers(), .body = with_stream_id(view.body, view.stream, id_)};
  answer.content_type = view.content_type;
  start_.writer->send(std::move(answer));
  close("finished");
}

// The one that made the answer has failed. Who has had nothing yet may lead now; who has read a part goes on alone.
void Replay::fall_back(const Flight::View& view) {
  done_ = true;
  const auto self = shared_from_this();
  shard_.replays.erase(self);
  shard_.loop->cancel(deadline_);
  RelayStart start = std::move(start_);
  if (start.terms.deadline) {
    const auto waited = std::chrono::duration_cast<milliseconds>(shard_.core.clock.now() - began_);
    start.terms.deadline = std::max(milliseconds(0), *start.terms.deadline - waited);
  }
  if (id_ != start.stream->record.id()) start.stream = renamed(*start.stream, id_);
  if (!begun_) return answer_or_generate(shard_, std::move(start), key_);
  EventPosition position{.stream = id_, .seq = sent_ - 1, .per_choice = {}, .weights = view.weights};
  if (start.stream->peek.choices > 1) position.per_choice = events_;
  start.stream->record.skip_to(position);
  start.reattached = start.begun = true;
  generate(shard_, std::move(start));
}

void Replay::close(std::string_view outcome) {
  if (std::exchange(done_, true)) return;
  const auto self = shared_from_this();
  shard_.replays.erase(self);
  shard_.loop->cancel(deadline_);
  Core& core = shard_.core;
  core.admission.leave(start_.stream->tenant, start_.charged_tokens, 0);  // nothing was computed for it
  if (core.access) {
    const double ms = to_seconds(core.clock.now() - began_) * 1000;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    core.access->write(access_json(
        {.trace = start_.trace.trace_id,
         .stream = id_,
         .tenant = start_.stream->tenant,
         .method = start_.method,
         .path = start_.stream->target,
         .model = start_.stream->peek.model,
         .outcome = fmt::format("{} ({})", outcome, how_),
         .status = outcome == "finished" || begun_ ? 200 : 0,
         .streamed = start_.stream->peek.stream,
         .ms = ms},
        std::chrono::duration_cast<std::chrono::milliseconds>(now).count() - static_cast<std::int64_t>(ms)));
  }
  start_.writer.reset();
}

}  // namespace hp::gateway

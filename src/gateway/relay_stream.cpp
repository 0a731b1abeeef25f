// What flows through a relay: events, comments, whole answers, and the end.
#include <algorithm>
#include <charconv>
#include <chrono>

#include "base/log.h"
#include "gateway/answers.h"
#include "gateway/relay.h"
#include "gateway/reply_capture.h"

namespace hp::gateway {
namespace {

constexpr std::size_t kEventFrame = 96;  // "id: …", "data: " and line ends of an event with one choice

/// From this token on it is this node's. Legs beyond it were rewound: made again from here.
void note_leg(std::vector<StreamLeg>& legs, std::string node, std::uint64_t tokens_before) {
  while (!legs.empty() && legs.back().from_token >= tokens_before) legs.pop_back();
  if (legs.size() >= kMaxStreamLegs) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  legs.push_back({.node = std::move(node),
                  .from_token = tokens_before,
                  .at_ms = std::chrono::duration_cast<milliseconds>(now).count()});
}

/// Of every choice that was asked for; empty: it has not ended.
std::vector<std::string> finish_reasons(StoredStream& stream) {
  std::vector<std::string> reasons(static_cast<std::size_t>(stream.peek.choices));
  const std::lock_guard lock(stream.mutex);
  const auto& choices = stream.record.choices();
  for (std::size_t i = 0; i < std::min(reasons.size(), choices.size()); ++i) reasons[i] = choices[i].finish_reason;
  return reasons;
}

}  // namespace

void Relay::begin_answer() {
  if (begun_) return;
  drop_hedge();
  begun_ = true;
  if (!writer_) return;
  answered_ = 200;
  core_.metrics.streams.add();
  net::Headers headers{{"Cache-Control", "no-cache"},
                       {"X-Accel-Buffering", "no"},
                       {"X-Request-Id", stream_->record.id()},
                       {"Homeport-Stream", stream_->record.id()}};
  if (!stream_->token.empty()) headers.emplace_back("Homeport-Stream-Token", stream_->token);
  if (const std::string& origin = core_.options.cors_origin; reattached_ && !origin.empty())
    headers.insert(headers.end(), {{"Access-Control-Allow-Origin", origin}, {"Vary", "Origin"}});
  writer_->begin_stream(200, std::move(headers), "text/event-stream");
}

void Relay::forward(std::string bytes) {
  begin_answer();
  if (writer_) writer_->write(std::move(bytes));
}

// A sign that the engine works: tokens, or a heartbeat whose count has moved.
void Relay::on_progress() {
  const TimePoint now = core_.clock.now();
  if (heard_ && !shard_.was_paused(now)) core_.nodes.note_gap(*node_, now - progress_at_);
  shard_.heard(*node_, now);
  core_.nodes.note_progress(*node_, now);
  progress_at_ = now;
  heard_ = true;
  if (std::exchange(proven_, true)) return;
  core_.nodes.report(*node_, Outcome::success);  // at the first sign, so that a probe does not last a whole stream
}

// ": progress 1234": the node's count of processed tokens.
bool Relay::on_comment(std::string_view comment) {
  static constexpr std::string_view kProgress = "progress ";
  shard_.heard(*node_, core_.clock.now());
  if (!comment.starts_with(kProgress)) return true;
  comment.remove_prefix(kProgress.size());
  std::uint64_t count = 0;
  std::from_chars(comment.data(), comment.data() + comment.size(), count);
  const std::uint64_t before = std::exchange(heartbeat_, count);
  if (before == kNoHeartbeat) {  // a first count proves nothing yet; from here on it has to move
    heard_ = true;
    progress_at_ = core_.clock.now();
  } else if (before != count) {
    on_progress();
  }
  return true;
}

// False ends the reading of this attempt.
bool Relay::on_event(std::string_view data) {
  const auto self = shared_from_this();
  if (is_late()) {
    refuse_late();
    return false;
  }
  if (!journalled_) {
    capture_.reset();  // what a foreign server's chunks mean is not ours to say
    on_progress();
    if (!begun_) note_first_token();
    std::string out = "data: ";
    forward(std::move(out.append(data).append("\n\n")));
    if (data != "[DONE]") return true;
    finish_stream();
    return false;
  }
  if (data == "[DONE]") {
    on_progress();
    finish_stream();
    return false;
  }
  const auto chunk = cut_chunk(data);
  if (!chunk || chunk->error) {
    fail_attempt(Fault::node_answered, chunk ? data : std::string_view(chunk.error().message));
    return false;
  }
  std::string out;
  out.reserve(chunk->body.size() + kEventFrame);
  StreamRecord::Verdict verdict{};
  {
    const std::lock_guard lock(stream_->mutex);
    const std::uint64_t before = in_leg_ ? 0 : stream_->record.tokens();
    verdict = stream_->record.take(*chunk);
    if (!in_leg_ && verdict != StreamRecord::Verdict::broken && stream_->record.tokens() > before) {
      in_leg_ = true;
      if (before == 0) {
        const std::string weights = core_.nodes.weights_of(*node_);
        if (capture_) capture_->made_by(weights);
        stream_->record.made_by(weights);
      }
      note_leg(stream_->legs, core_.nodes.config(*node_).name, before);
    }
    if (verdict == StreamRecord::Verdict::forward) stream_->record.append_event_id(out);
  }
  if (verdict == StreamRecord::Verdict::broken) {
    fail_attempt(Fault::node_answered, chunk->entry ? "its tokens do not continue this stream"
                                                    : "it keeps no journal: start it with --journal, or give it "
                                                      "kind=openai in the list of nodes");
    return false;
  }
  on_progress();
  if (chunk->entry && !chunk->entry->tokens.empty()) fruitless_ = refusals_ = 0;
  if (verdict == StreamRecord::Verdict::drop) return true;
  ear_.hear(chunk->body, chunk->finish_reason);
  const double pause = to_seconds(progress_at_ - last_forward_);
  last_forward_ = progress_at_;
  if (!begun_)
    note_first_token();
  else if (std::exchange(resuming_, false))
    core_.metrics.resume_gap.observe(pause);
  else
    core_.metrics.gap.observe(pause);
  resuming_ = false;
  if (capture_)
    capture_->chunk(chunk->entry && !chunk->usage ? static_cast<std::int32_t>(chunk->entry->choice) : kUsageChunk,
                    chunk->body);
  forward(std::move(out.append("data: ").append(chunk->body).append("}\n\n")));
  return !done_;
}

void Relay::finish_stream() {
  if (capture_) capture_->end_stream(finish_reasons(*stream_));
  if (journalled_ || !node_) forward("data: [DONE]\n\n");
  if (writer_) writer_->end();
  close("finished");
}

void Relay::answer_whole() {
  if (is_late()) return refuse_late();
  if (capture_) capture_->whole(status_, content_type_, body_);
  if (writer_) {
    if (status_ == 200) note_whole_usage();
    if (status_ == 200) ear_.hear(body_, {});
    answered_ = status_;
    net::HttpResponse answer{.status = status_, .headers = {}, .body = std::move(body_)};
    answer.headers.reserve(3);
    if (!content_type_.empty()) answer.content_type = content_type_;
    if (retry_after_s_ > 0) answer.headers.emplace_back("Retry-After", std::to_string(retry_after_s_));
    answer.headers.emplace_back("X-Request-Id", stream_->record.id());
    answer.headers.emplace_back("Homeport-Stream", stream_->record.id());
    writer_->send(std::move(answer));
  }
  close("answered");
}

// Tokens that nobody counted before: a stream that was taken up again counts once. With a shared journal the figures
// wait for what other gateways have counted of it (usage_outbox.h).
std::uint64_t Relay::count_usage() {
  Usage total, fresh;
  {
    const std::lock_guard lock(stream_->mutex);
    total = {.tokens = stream_->record.tokens(), .prompt_tokens = stream_->record.prompt_tokens()};
    if (total.tokens > stream_->counted_tokens) fresh.tokens = total.tokens - stream_->counted_tokens;
    stream_->counted_tokens = std::max(stream_->counted_tokens, total.tokens);
    if (total.prompt_tokens > 0 && !std::exchange(stream_->prompt_counted, true))
      fresh.prompt_tokens = total.prompt_tokens;
  }
  const auto count = [&core = core_, tenant = stream_->tenant](Usage usage) {
    core.metrics.completion_tokens.add(static_cast<double>(usage.tokens));
    core.metrics.prompt_tokens.add(static_cast<double>(usage.prompt_tokens));
    core.business.tokens(tenant, static_cast<double>(usage.prompt_tokens), static_cast<double>(usage.tokens));
  };
  if (core_.shared) {
    core_.shared->settle(stream_, total, fresh, count);
  } else {
    count(fresh);
  }
  return fresh.tokens + fresh.prompt_tokens;
}

void Relay::close(std::string_view outcome) {
  if (done_) return;
  const auto self = shared_from_this();
  done_ = true;
  leave_queue(false);
  drop_hedge();
  close_attempt();
  capture_.reset();
  shard_.loop->cancel(timer_);
  if (hedge_timer_ != 0) shard_.loop->cancel(hedge_timer_);
  shard_.relays.erase(self);
  // What was reckoned at admission stands for an answer whose tokens we did not see.
  std::int64_t used = charged_tokens_;
  if (owns()) {
    if (!reattached_) core_.business.request(stream_->tenant);
    if (ear_.filtered() || core_.business.is_refusal(ear_.beginning()))
      core_.business.refused(stream_->tenant, peek().model, ear_.filtered() ? "content_filter" : "phrase");
    const bool unseen = begun_ && !journalled_;  // a foreign server's stream
    if (whole_tokens_ > 0) used = static_cast<std::int64_t>(whole_tokens_);
    if (peek().stream) {
      const auto seen = static_cast<std::int64_t>(count_usage());
      if (!unseen) used = seen;
      core_.streams.close(stream_, core_.clock.now());
    }
  } else if (writer_ && begun_) {
    writer_->end();  // another connection carries the stream on; this one must not say a word more
  }
  if (admitted_)
    core_.admission.leave(stream_->tenant, charged_tokens_, used);
  else
    core_.admission.spend(stream_->tenant, used);
  if (core_.access) log_access(outcome);
  writer_.reset();
}

}  // namespace hp::gateway

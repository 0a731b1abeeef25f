#include "gateway/relay.h"

#include <algorithm>

#include "base/check.h"
#include "base/json.h"
#include "base/log.h"
#include "gateway/answers.h"
#include "gateway/reply_capture.h"
#include "gateway/retry_budget.h"

namespace hp::gateway {
namespace {
constexpr milliseconds kRestDefault{1'000};  // after a 429 or 503 without Retry-After
constexpr milliseconds kRestMax{30'000};
constexpr int kClientGone = 499;         // nginx's word for it, in the log only
constexpr std::size_t kMostHeaders = 8;  // of a request to a node

// The pace that makes the next verdict on a node that still answers take longer: it may be slow, not dead.
Duration doubted(Duration pause) {
  return std::chrono::duration_cast<Duration>(pause * (kDoubtFactor / kStallFactor));
}
// The weights that a started stream stays with.
std::string weights_of(StoredStream& stream) {
  const std::lock_guard lock(stream.mutex);
  return std::string(stream.record.bound_to());
}
}  // namespace

Relay::Relay(Shard& shard, RelayStart start)
    : shard_(shard),
      core_(shard.core),
      stream_(std::move(start.stream)),
      writer_(std::move(start.writer)),
      capture_(std::move(start.capture)),
      trace_(std::move(start.trace)),
      method_(std::move(start.method)),
      charged_tokens_(start.charged_tokens),
      terms_(start.terms),
      priority_(start.priority),
      started_(core_.clock.now()),
      reattached_(start.reattached),
      admitted_(start.admitted),
      begun_(start.begun),
      resuming_(start.reattached) {
  lease_ = ++stream_->lease;
  core_.metrics.open.add(1);
}

Relay::~Relay() {
  core_.metrics.open.add(-1);
}

void Relay::start() {
  shard_.relays.insert(shared_from_this());
  if (writer_)
    writer_->on_disconnect([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->on_client_gone();
    });
  core_.metrics.requests.add();
  core_.earn_retry();
  waiting_since_ = started_;
  last_forward_ = started_;
  if (core_.shared && peek().stream) core_.shared->note(stream_, started_);
  if (resuming_) {
    begin_answer();
    if (complete()) return finish_stream();
  }
  dispatch();
}

bool Relay::complete() {
  const std::lock_guard lock(stream_->mutex);
  return stream_->record.complete(peek().include_usage);
}

void Relay::dispatch() {
  if (done_ || node_) return;  // woken twice: the first time found a place
  if (!owns()) return close("taken over");
  if (is_late()) return refuse_late();
  if (!take_turn()) return wait_for_node(true);
  bool busy = false;
  const std::string weights = begun_ ? weights_of(*stream_) : std::string();
  DispatchQuery query{.model = peek().model,
                      .prefix = &peek().prefix,
                      .session_key = peek().session.empty() && peek().user.empty()
                                         ? 0
                                         : hash_text(peek().session.empty() ? peek().user : peek().session),
                      .cost_tokens = peek().cost_tokens(),
                      .random = hash_text(stream_->record.id(), attempt_),
                      .avoid = avoid_,
                      .need_journal = begun_,
                      .weights = weights,
                      .busy = &busy};
  const auto node = core_.nodes.dispatch(query);
  if (!node) return wait_for_node(busy);
  leave_queue(true);
  cost_ = query.cost_tokens;
  open_attempt(*node);
}

net::ClientRequest Relay::encode(const NodeConfig& node, std::uint32_t attempt) {
  net::ClientRequest request;
  request.method = method_;
  request.host = node.host;
  request.port = node.port;
  request.tls = node.tls;
  request.authority = core_.options.authority;
  request.target = stream_->target;
  request.read_timeout = milliseconds(0);  // the watchdog knows better
  request.shared_body = stream_->body;
  request.headers.reserve(kMostHeaders);
  request.headers.emplace_back("Content-Type", "application/json");
  request.headers.emplace_back("traceparent", trace_.parent(hash_text(stream_->record.id(), attempt + 1)));
  if (!trace_.state.empty()) request.headers.emplace_back("tracestate", trace_.state);
  if (!node.api_key.empty()) request.headers.emplace_back("Authorization", "Bearer " + node.api_key);
  const std::lock_guard lock(stream_->mutex);
  const StreamRecord& record = stream_->record;
  if (node.homeport && method_ == "POST") {
    request.headers.emplace_back("Homeport-Stream", record.id());
    request.headers.emplace_back("Homeport-Created", std::to_string(stream_created(record.id())));
    request.headers.emplace_back("Homeport-Seed", std::to_string(stream_seed(record.id())));
    if (peek().stream) request.headers.emplace_back("Homeport-Journal", "1");
  }
  request.shared_body_bytes = stream_->body->size();
  if (!node.homeport || !peek().stream) return request;
  if (std::string tail = record.resume_tail(peek().empty_object); tail != "}") {
    request.shared_body_bytes = peek().splice_at;
    request.body = std::move(tail);
  }
  return request;
}

void Relay::open_attempt(NodeIndex node) {
  begin_attempt(node, ++last_attempt_);
  handle_ = start_request(core_.nodes.config(node), attempt_);
  plan_hedge();
}

void Relay::begin_attempt(NodeIndex node, std::uint32_t attempt) {
  node_ = node;
  attempt_ = attempt;
  if (served_by_.empty() || served_by_.back() != node) served_by_.push_back(node);
  node_epoch_ = core_.nodes.epoch(node);
  attempt_since_ = progress_at_ = core_.clock.now();
  heard_ = proven_ = streaming_ = in_leg_ = false;
  heartbeat_ = kNoHeartbeat;
  journalled_ = core_.nodes.config(node).homeport && peek().stream;
  status_ = 0;
  cutter_ = {};
  body_.clear();
  held_.clear();
  held_end_.reset();
  holding_ = false;
}

net::HttpClient::Handle Relay::start_request(const NodeConfig& node, std::uint32_t attempt) {
  struct Link {  // small enough that std::function stores it in place
    Relay* relay;
    std::uint32_t attempt;
    [[nodiscard]] bool current() const { return !relay->done_ && relay->attempt_ == attempt && relay->node_; }
    [[nodiscard]] bool hedge() const { return !relay->done_ && relay->hedge_ && relay->hedge_->attempt == attempt; }
  };
  const Link link{this, attempt};
  return shard_.client->start(encode(node, attempt), {.on_headers =
                                                          [link](int status, const net::Headers& headers) {
                                                            if (link.current())
                                                              return link.relay->on_headers(status, headers);
                                                            if (link.hedge())
                                                              link.relay->on_hedge_headers(status, headers);
                                                          },
                                                      .on_data =
                                                          [link](std::string_view bytes) {
                                                            if (link.current()) return link.relay->on_data(bytes);
                                                            if (link.hedge()) link.relay->on_hedge_data(bytes);
                                                          },
                                                      .on_done =
                                                          [link, self = shared_from_this()](Status outcome) {
                                                            if (link.current()) {
                                                              self->handle_ = 0;  // nothing to cancel
                                                              return self->on_done(std::move(outcome));
                                                            }
                                                            if (link.hedge()) self->on_hedge_done(outcome);
                                                          }});
}

void Relay::close_attempt() {
  if (!node_) return;
  const NodeIndex node = *node_;
  node_.reset();
  if (handle_ != 0) shard_.client->cancel(std::exchange(handle_, 0));
  core_.nodes.release(node, cost_);
  core_.queue.wake_next();
}

void Relay::on_headers(int status, const net::Headers& headers) {
  shard_.heard(*node_, core_.clock.now());
  status_ = status;
  retry_after_s_ = 0;
  content_type_.clear();
  for (const auto& [name, value] : headers) {
    if (name == "content-type") content_type_ = value;
    if (name == "retry-after") retry_after_s_ = std::clamp(std::atoi(value.c_str()), 0, 3600);
  }
  streaming_ = status == 200 && content_type_.starts_with("text/event-stream");
}

void Relay::on_data(std::string_view bytes) {
  if (!streaming_) {
    body_.append(bytes);
    return;
  }
  if (!owns()) return close("taken over");
  if (hold(bytes)) return;
  const auto status = cutter_.push(bytes, {.on_data = [this](std::string_view data) { return on_event(data); },
                                           .on_comment = [this](std::string_view text) { return on_comment(text); }});
  if (!status && node_) fail_attempt(Fault::node_died, status.error().message);
}

void Relay::on_done(Status outcome) {
  const auto self = shared_from_this();
  if (holding_) {
    held_end_ = std::move(outcome);
    return;
  }
  if (!outcome) return fail_attempt(Fault::node_died, outcome.error().message);
  if (streaming_) {
    if (!journalled_ && begun_) return finish_stream();
    if (complete()) return finish_stream();
    return fail_attempt(Fault::node_died, "the stream ended without its end mark");
  }
  const Outcome kind = classify(status_);
  if (kind == Outcome::back_pressure) {
    const auto rest = retry_after_s_ > 0 ? milliseconds(retry_after_s_ * 1000) : kRestDefault;
    core_.nodes.back_off(*node_, std::min(rest, kRestMax));
  }
  if (kind == Outcome::failure) return fail_attempt(Fault::node_answered, fmt::format("it answered {}", status_));
  core_.nodes.report(*node_, kind);
  if (kind == Outcome::back_pressure) {
    avoid_ = *node_;
    close_attempt();
    if (!begun_ && (++refusals_ > 1 || !core_.take_retry())) return on_refusal();
    return try_again();
  }
  if (begun_) return fail_attempt(Fault::node_answered, fmt::format("it answered {} to a resume", status_));
  answer_whole();
}

// Every node is full: the client gets the last node's own words.
void Relay::on_refusal() {
  if (begun_) return give_up(503, "No node had room to continue this stream.");
  answer_whole();
}

void Relay::fail_attempt(Fault fault, std::string_view why) {
  HP_CHECK(node_, "an attempt is open");
  log::debug("gateway: stream {} loses node {}: {}", stream_->record.id(), core_.nodes.config(*node_).name, why);
  core_.nodes.report(*node_, Outcome::failure);
  avoid_ = *node_;
  last_error_ = why;
  const bool foreign_stream = begun_ && !journalled_;
  close_attempt();
  if (foreign_stream) return give_up(502, "The upstream server broke off; its streams cannot be resumed.");
  // A dead node did no work that a retry would double: only answered failures are under the budget.
  const bool refused = fault == Fault::node_answered && !begun_ && !core_.take_retry();
  if (refused) core_.metrics.retries_refused.add();
  if (++fruitless_ >= kMaxAttemptsWithoutProgress || refused)
    return give_up(502, fmt::format("The nodes failed on this request: {}.", last_error_));
  try_again();
}

void Relay::try_again() {
  if (hedge_) return adopt_hedge();
  if (begun_) {
    core_.metrics.resumes.add();
    ++resumes_;
    resuming_ = true;
  } else {
    core_.metrics.retries.add();
  }
  waiting_since_ = core_.clock.now();
  const auto pause = fruitless_ <= 1 ? milliseconds(0) : backoff(hash_text(stream_->record.id()), fruitless_);
  timer_ = shard_.loop->after(pause, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->dispatch();
  });
}

// The node is alive or long known to be dead: no fault of this request, nothing to report.
void Relay::leave_node(std::string_view why) {
  log::debug("gateway: stream {} leaves node {}: {}", stream_->record.id(), core_.nodes.config(*node_).name, why);
  avoid_ = *node_;
  close_attempt();
  try_again();
}

void Relay::give_up(int status, std::string_view message) {
  core_.metrics.given_up.add();
  if (begun_) {
    forward(fmt::format("data: {}\n\n", error_json(status, message)));
    if (writer_) writer_->end();
  } else if (writer_) {
    auto answer = error_answer(status, message);
    if (status == 503) answer.headers.emplace_back("Retry-After", std::to_string(retry_in_s_));
    answered_ = status;
    writer_->send(std::move(answer));
  }
  close("given up");
}

void Relay::on_client_gone() {
  if (done_) return;
  core_.metrics.client_gone.add();
  if (capture_ && capture_->wanted()) return writer_.reset();  // others read along, or this client will ask again
  if (answered_ == 0) answered_ = kClientGone;
  close("client gone");
}

void Relay::sweep(TimePoint now, bool paused) {
  if (done_) return;
  if (core_.shared && peek().stream && owns()) core_.shared->note(stream_, now);
  if (capture_) capture_->publish();
  if (!node_) return;
  if (!owns()) return close("taken over");
  if (is_late()) return refuse_late();
  if (paused) progress_at_ = now;
  const NodeIndex node = *node_;
  const auto has_other = [&] { return core_.nodes.has_other(node, peek().model, weights_of(*stream_)); };
  if (core_.nodes.epoch(node) != node_epoch_) return leave_node("it was declared dead");
  const bool can_move = !begun_ || journalled_;
  if (core_.nodes.leaving(node)) {
    if (can_move && has_other()) leave_node("it is draining");
    return;
  }
  const Duration pause = now - progress_at_;
  const Duration silence = core_.nodes.silence(node, now);
  const Duration quiet = std::max<Duration>(core_.nodes.silence_bound(node), 2 * core_.options.probe_interval);
  if (pause > quiet && silence > quiet) {
    core_.metrics.stalls.add();
    core_.nodes.trip_silent(node, silence);
    return leave_node("it is dead");
  }
  const Duration bound = core_.nodes.stall_bound(node);
  if (pause <= bound) return;
  const Duration standstill = core_.nodes.standstill(node, now);
  if (heard_ && standstill > bound && has_other()) {
    core_.metrics.stalls.add();
    core_.nodes.trip(node,
                     fmt::format("no progress in any stream for {:.1f} s", to_seconds(std::min(standstill, pause))));
    return leave_node("it is dead");
  }
  if (!heard_) {
    if (pause <= core_.options.first_token_timeout) return;
    core_.business.timed_out(stream_->tenant, peek().model);
    fail_attempt(Fault::node_died, "no first token in time");
    return;
  }
  if (!can_move || (pause < kStallMax && !has_other())) return;
  core_.metrics.stalls.add();
  core_.nodes.note_gap(node, doubted(pause));
  fail_attempt(Fault::node_died, fmt::format("no progress for {:.1f} s", to_seconds(pause)));
}

}  // namespace hp::gateway

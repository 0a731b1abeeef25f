#include "node/session.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <utility>

#include "base/json.h"
#include "net/sse.h"
#include "net/trace_context.h"
#include "node/limits.h"
#include "node/random_id.h"

namespace hp {
namespace {

constexpr std::string_view kDone = "data: [DONE]\n\n";
constexpr int kClientGone = 499;  // nginx's word for it, in the log only

std::string request_id_of(const net::HttpRequest& request) {
  const std::string_view given = request.header("x-request-id");
  const bool plain = std::ranges::all_of(given, [](char c) { return c > ' ' && c < 0x7F; });
  return given.empty() || given.size() > kMaxRequestIdBytes || !plain ? "req-" + random_id() : std::string(given);
}

Error failure_of(FinishReason reason) {
  if (reason == FinishReason::deadline)
    return {.code = ErrorCode::deadline_exceeded, .message = "the request ran out of its time on this server"};
  if (reason == FinishReason::cancelled)
    return {.code = ErrorCode::unavailable, .message = "the server is stopping; send the request again"};
  return {.code = ErrorCode::internal, .message = "the model could not go on with this request"};
}

bool is_failure(FinishReason reason) {
  return reason != FinishReason::stop && reason != FinishReason::length;
}

}  // namespace

void Session::start(NodeState& node, std::size_t shard, AnswerKind kind, net::HttpRequest request,
                    std::shared_ptr<net::ResponseWriter> writer) {
  const auto session = std::make_shared<Session>(node, shard, kind, std::move(request), std::move(writer));
  session->watch_client();
  session->plan();
}

void Session::watch_client() {
  writer_->on_disconnect([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->on_disconnect();
  });
}

Session::Session(NodeState& node, std::size_t shard, AnswerKind kind, net::HttpRequest request,
                 std::shared_ptr<net::ResponseWriter> writer)
    : node_(node),
      shard_(shard),
      kind_(kind),
      request_(std::move(request)),
      writer_(std::move(writer)),
      request_id_(request_id_of(request_)),
      arrived_(node.clock.now()) {
  ++node_.active;
}

Session::~Session() {
  if (!done_) --node_.active;
}

/// Small bodies are read here; large ones on a worker, so that the loop goes on answering others.
void Session::plan() {
  if (!node_.has_model() || node_.refuse_new) {
    const bool loading = !node_.refuse_new;
    if (node_.has_model()) node_.figures->rejected(loading ? "loading" : "draining");
    return fail_all({.code = ErrorCode::unavailable,
                     .message = loading ? "the model is still loading; try again soon"
                                        : "this server is shutting down; send the request elsewhere"});
  }
  if (node_.options.journal) {
    auto headers = read_journal_headers(request_);
    if (!headers) return fail_all(headers.error());
    journal_ = *std::move(headers);
  }
  const auto read = [this] {
    return plan_request(kind_, request_.body,
                        {.model = node_.model,
                         .names = node_.names,
                         .any_name = node_.options.any_model_name,
                         .context = node_.context,
                         .resume = journal_.chunks,
                         .too_long = &too_long_});
  };
  if (request_.body.size() <= kInlinePlanBytes) return admit(read());
  const bool queued = node_.tasks->try_post([self = shared_from_this(), read] {
    auto planned = std::make_shared<Result<RequestPlan>>(read());
    self->node_.loops[self->shard_]->post([self, planned] { self->admit(std::move(*planned)); });
  });
  if (queued) return;
  node_.figures->rejected("busy");
  fail_all({.code = ErrorCode::unavailable, .message = "too many large requests at once; try again soon"});
}

void Session::admit(Result<RequestPlan> plan) {
  request_.body = {};
  if (done_) return;  // the client has left
  if (!plan) return fail_all(plan.error());
  plan_ = *std::move(plan);
  planned_ = true;
  prepare();
  if (const Status submitted = submit(); !submitted) return fail_all(submitted.error());
  if (plan_.stream && journal_.chunks) {
    begin_stream();  // the gateway watches this node's pace before the first token, too
    answer_resumed();
    beat();
  }
  if (!done_ && finished_ == plan_.choices()) complete();
}

void Session::prepare() {
  if (!plan_.has_seed) plan_.sampling.seed = journal_.seed.value_or(random_u64());
  const std::string suffix = journal_.stream.empty() ? random_id() : journal_.stream;
  head_ = {.id = (kind_ == AnswerKind::chat ? "chatcmpl-" : "cmpl-") + suffix,
           .model = plan_.model,
           .created = journal_.created.value_or(std::time(nullptr)),
           .system_fingerprint = node_.fingerprint};
  rules_ = {.tokenizer = node_.model.tokenizer,
            .stop_strings = plan_.stop_strings,
            .logprobs = plan_.sampling.logprobs,
            .style = plan_.style,
            .answer_id = head_.id};
  const auto count = static_cast<std::size_t>(plan_.choices());
  for (std::size_t c = 0; c < count; ++c) {
    streams_.emplace_back(rules_, static_cast<std::int32_t>(c));
    answers_.push_back({.index = static_cast<std::int32_t>(c), .text = {}, .finish_reason = {}, .logprobs = {}});
    if (rules_.logprobs) answers_.back().logprobs.emplace();
  }
  if (plan_.stream && !journal_.chunks && node_.replays.enabled()) {
    writer_ = node_.replays.wrap(suffix, std::move(writer_), *node_.loops[shard_]);
    watch_client();
  }
  role_sent_.assign(count, false);
  last_token_.assign(count, TimePoint{});
  ids_.assign(plan_.prompts.size(), RequestId{});
  for (const ResumedChoice& r : plan_.resumed) {
    const auto c = static_cast<std::size_t>(r.index);
    role_sent_[c] = true;
    for (const TokenId t : r.tokens) streams_[c].replay(t);
    if (!r.finished) continue;
    streams_[c].mark_finished();
    ++finished_;
  }
  if (!plan_.resumed.empty()) {
    first_chunk_ = false;
    node_.figures->resumed();
  }
}

Status Session::submit() {
  for (std::size_t p = 0; p < plan_.prompts.size(); ++p) HP_TRY_VOID(submit_prompt(p));
  return {};
}

Status Session::submit_prompt(std::size_t p) {
  const auto n = static_cast<std::size_t>(plan_.n);
  const auto first = streams_.begin() + static_cast<std::ptrdiff_t>(p * n);
  const auto ended = [](const ChoiceStream& s) { return s.finished() || s.stopped_by_text(); };
  if (std::all_of(first, first + plan_.n, ended)) return {};
  EngineRequest r;
  r.id = node_.hub->new_id(shard_);
  r.prompt = std::move(plan_.prompts[p].tokens);
  r.choices = plan_.n;
  r.max_tokens = plan_.prompts[p].max_tokens;
  r.min_tokens = plan_.min_tokens;
  r.stop_tokens = plan_.stop_tokens;
  r.sampling = plan_.sampling;
  if (node_.options.request_timeout.count() > 0) r.deadline = arrived_ + node_.options.request_timeout;
  if (!plan_.resumed.empty()) r.generated.resize(n);
  for (ResumedChoice& c : plan_.resumed)
    if (static_cast<std::size_t>(c.index) / n == p) r.generated[static_cast<std::size_t>(c.index) % n] = c.tokens;
  for (std::int32_t c = 0; plan_.grammar.grammar && c < plan_.n; ++c)
    r.constraints.push_back(make_constraint(plan_.grammar, node_.model));
  const RequestId id = r.id;
  HP_TRY_VOID(node_.engine->submit(std::move(r)));
  ids_[p] = id;
  node_.hub->add(id,
                 [self = shared_from_this(), p](std::span<const TokenEvent> events) { self->on_events(p, events); });
  for (std::int32_t c = 0; c < plan_.n; ++c)
    if (ended(first[c])) node_.engine->cancel(id, c);
  return {};
}

/// Choices whose replayed tokens hold a stop string: the end is all that the client still lacks.
void Session::answer_resumed() {
  std::string out;
  for (ChoiceStream& s : streams_) {
    if (s.finished() || !s.stopped_by_text()) continue;
    ++finished_;
    take_part(s.finish(FinishReason::stop), {}, out);
  }
  writer_->write(std::move(out));
}

void Session::begin_stream() {
  streaming_ = true;
  writer_->begin_stream(200, headers(), "text/event-stream; charset=utf-8");
}

void Session::on_events(std::size_t prompt, std::span<const TokenEvent> events) {
  if (done_) return;
  const auto self = shared_from_this();                                      // leaving takes the hub's reference away
  if (events.empty()) return fail_all(failure_of(FinishReason::cancelled));  // the node is stopping
  std::string out;
  for (const TokenEvent& e : events) {
    const std::size_t c = prompt * static_cast<std::size_t>(plan_.n) + static_cast<std::size_t>(e.choice);
    if (streams_[c].finished()) continue;
    if (e.finish && is_failure(*e.finish)) {
      if (!out.empty()) writer_->write(std::move(out));
      return fail_all(failure_of(*e.finish));
    }
    record_token(c, e);
    on_event(prompt, e, out);
  }
  if (!out.empty() && !writer_->write(std::move(out))) {
    node_.figures->slow_reader();
    return on_disconnect();
  }
  wrote_ = true;
  if (finished_ == plan_.choices()) complete();
}

void Session::on_event(std::size_t prompt, const TokenEvent& e, std::string& out) {
  if (plan_.stream && !streaming_) begin_stream();
  ChoiceStream& stream = streams_[prompt * static_cast<std::size_t>(plan_.n) + static_cast<std::size_t>(e.choice)];
  api::ChoicePart part = stream.push(e);
  if (stream.finished()) {
    ++finished_;
    if (!e.finish) node_.engine->cancel(ids_[prompt], e.choice);
  }
  const TokenId token = e.token.value_or(0);
  take_part(std::move(part), std::span(&token, e.token ? 1U : 0U), out);
}

void Session::record_token(std::size_t choice, const TokenEvent& e) {
  if (!e.token) return;
  const TimePoint now = node_.clock.now();
  if (!first_token_) {
    first_token_ = now;
    queued_ = e.queued;
    node_.figures->first_token(now - arrived_);
  }
  if (last_token_[choice] != TimePoint{}) node_.figures->next_token(now - last_token_[choice]);
  last_token_[choice] = now;
  ++generated_;
  if (e.choice == 0) cached_ += e.cached_prompt_tokens;
}

void Session::take_part(api::ChoicePart part, std::span<const TokenId> tokens, std::string& out) {
  const auto c = static_cast<std::size_t>(part.index);
  any_length_ = any_length_ || part.finish_reason == "length";
  if (!plan_.stream) {
    append_part(std::move(part), answers_[c]);
    return;
  }
  if (kind_ == AnswerKind::chat && !role_sent_[c])
    append_chunk(out, {.index = part.index, .text = {}, .finish_reason = {}, .logprobs = {}}, true, {});
  role_sent_[c] = true;
  const bool says_something = !part.text.empty() || !part.reasoning.empty() || !part.tool_calls.empty() ||
                              part.logprobs || !part.finish_reason.empty();
  if (says_something || journal_.chunks) append_chunk(out, part, false, tokens);
}

void Session::append_chunk(std::string& out, const api::ChoicePart& part, bool role, std::span<const TokenId> tokens) {
  std::string chunk = kind_ == AnswerKind::chat ? api::chat_chunk(head_, part, role, plan_.include_usage)
                                                : api::text_chunk(head_, part, plan_.include_usage);
  if (journal_.chunks) {
    const std::int32_t after = streams_[static_cast<std::size_t>(part.index)].tokens();
    const std::int32_t index = role ? 0 : after - static_cast<std::int32_t>(tokens.size());
    append_journal(chunk, {.choice = part.index,
                           .index = index,
                           .tokens = tokens,
                           .first = std::exchange(first_chunk_, false),
                           .seed = plan_.sampling.seed,
                           .prompt_tokens = plan_.prompt_tokens()});
  }
  net::append_sse(out, chunk);
}

/// While a journalled stream has nothing to say, the gateway still sees whether the engine moves.
void Session::beat() {
  if (done_) return;
  if (!std::exchange(wrote_, false))
    writer_->write(fmt::format(": progress {}\n\n", node_.engine->stats().step_tokens));
  node_.loops[shard_]->after(kHeartbeat, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->beat();
  });
}

void Session::on_disconnect() {
  if (done_) return;
  if (planned_) node_.figures->disconnected();
  leave(kClientGone, "abort");
}

void Session::fail_all(const Error& error) {
  if (streaming_) {
    std::string out;
    net::append_sse(out, api::error_body(error));
    writer_->write(std::move(out));
    writer_->end();
  } else {
    writer_->send(error_answer(error));
  }
  leave(api::http_status(error.code), "error");
}

void Session::complete() {
  if (plan_.stream) {
    if (!streaming_) begin_stream();
    std::string out;
    if (plan_.include_usage)
      net::append_sse(out, kind_ == AnswerKind::chat ? api::chat_usage_chunk(head_, usage())
                                                     : api::text_usage_chunk(head_, usage()));
    writer_->write(out.append(kDone));
    writer_->end();
  } else {
    writer_->send({.status = 200,
                   .headers = headers(),
                   .body = kind_ == AnswerKind::chat ? api::chat_completion(head_, answers_, usage())
                                                     : api::text_completion(head_, answers_, usage())});
  }
  leave(200, any_length_ ? "length" : "stop");
}

/// The end, whatever it was: the engine forgets the request, the figures and the log get their line.
void Session::leave(int status, std::string_view outcome) {
  if (std::exchange(done_, true)) return;
  for (const RequestId id : ids_) {
    if (id.value == 0) continue;
    if (status != 200) node_.engine->cancel(id);
    node_.hub->remove(id);
  }
  const Duration total = node_.clock.now() - arrived_;
  const Duration first = first_token_ ? *first_token_ - arrived_ : Duration{};
  if (planned_ && status != 429) {
    node_.figures->request_ended({.finished_reason = outcome,
                                  .generated_tokens = generated_,
                                  .end_to_end = total,
                                  .queued = queued_,
                                  .first_token = first});
    if (first_token_) node_.queue.ran(total - queued_);
  }
  if (node_.access) log_access(status, outcome, total, first);
  --node_.active;
}

void Session::log_access(int status, std::string_view outcome, Duration total, Duration first) const {
  std::string line;
  JsonWriter w(line);
  w.begin_object().member("trace", std::string_view(net::trace_of(request_, random_u64(), random_u64()).trace_id));
  w.member("id", std::string_view(request_id_)).member("peer", std::string_view(request_.peer));
  w.member("method", std::string_view(request_.method)).member("path", std::string_view(request_.path));
  w.member("status", status).member("outcome", outcome);
  w.member("prompt_tokens", planned_ ? plan_.prompt_tokens() : 0).member("cached_tokens", cached_);
  w.member("completion_tokens", generated_);
  w.member("first_token_ms", std::round(to_seconds(first) * 1e4) / 10);
  w.member("ms", std::round(to_seconds(total) * 1e4) / 10).end_object();
  node_.access->write(std::move(line));
}

api::Usage Session::usage() const {
  api::Usage out{.prompt_tokens = plan_.prompt_tokens(), .completion_tokens = 0, .cached_tokens = cached_};
  for (const ChoiceStream& s : streams_) {
    out.completion_tokens += s.tokens();
    out.reasoning_tokens += s.reasoning_tokens();
  }
  return out;
}

net::Headers Session::headers() const {
  net::Headers out{{"X-Request-Id", request_id_}, {"Homeport-Seed", std::to_string(plan_.sampling.seed)}};
  if (plan_.stream) out.insert(out.end(), {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}});
  return out;
}

net::HttpResponse Session::error_answer(const Error& error) const {
  net::HttpResponse out{.status = api::http_status(error.code),
                        .headers = {{"X-Request-Id", request_id_}},
                        .body = api::error_body(error, too_long_ ? api::kContextLengthExceeded : "")};
  if (out.status == 429 && node_.engine) {
    node_.figures->rejected("queue_full");
    const EngineStats s = node_.engine->stats();
    const int seconds = node_.queue.retry_after_seconds(s.waiting + s.running, node_.options.model.max_running);
    out.headers.emplace_back("Retry-After", std::to_string(seconds));
  } else if (out.status == 503) {
    out.headers.emplace_back("Retry-After", "1");
  }
  return out;
}

}  // namespace hp

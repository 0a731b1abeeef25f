#include "ledger.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/json.h"

namespace hp::chaos {
namespace {
using namespace std::chrono_literals;
constexpr auto kReconnect = 50ms;
}  // namespace

std::string StreamSpec::body(const std::string& model) const {
  std::string out = fmt::format(R"({{"model":"{}","{}":{},"max_tokens":{},"n":{})", model, chat ? "messages" : "prompt",
                                prompt, max_tokens, choices);
  if (streamed) out += R"(,"stream":true)";
  if (seed >= 0) out += fmt::format(R"(,"seed":{})", seed);
  if (usage && streamed) out += R"(,"stream_options":{"include_usage":true})";
  return out + "}";
}

void Client::start() {
  started_ = last_ = std::chrono::steady_clock::now();
  connect();
}

void Client::connect() {
  parser_ = {};
  status_ = 0;
  body_.clear();
  const auto turn = (spec_.number + static_cast<std::uint64_t>(ledger_.connections)) % cluster_.gateways.size();
  ++ledger_.connections;
  connected_ = std::chrono::steady_clock::now();
  net::ClientRequest request{.method = "POST",
                             .port = cluster_.gateways[turn],
                             .target = spec_.target(),
                             .headers = {{"Content-Type", "application/json"}},
                             .body = spec_.body(cluster_.model),
                             .connect_timeout = 1s,
                             .read_timeout = 20s};
  if (!last_id_.empty()) request.headers.emplace_back("Last-Event-ID", last_id_);
  if (spec_.deadline_ms > 0 && last_id_.empty())
    request.headers.emplace_back("Homeport-Deadline-Ms", std::to_string(spec_.deadline_ms));
  cluster_.http.start(std::move(request),
                      {.on_headers =
                           [self = shared_from_this()](int status, const net::Headers& headers) {
                             self->status_ = status;
                             for (const auto& [name, value] : headers) {
                               if (name == "homeport-stream") self->ledger_.stream = value;
                               if (name == "homeport-cache") self->ledger_.from_cache = value == "hit";
                             }
                           },
                       .on_data =
                           [self = shared_from_this()](std::string_view bytes) {
                             if (!self->spec_.streamed || self->status_ != 200) {
                               self->body_ += bytes;
                               return;
                             }
                             self->parser_.push(bytes, [&](const net::SseEvent& event) { self->on_event(event); });
                           },
                       .on_done = [self = shared_from_this()](const Status& outcome) { self->on_end(outcome); }});
}

void Client::on_event(const net::SseEvent& event) {
  const TimePoint now = std::chrono::steady_clock::now();
  if (ledger_.first_token_s < 0) {
    ledger_.first_token_s = to_seconds(now - started_);
    ledger_.past_deadline = spec_.deadline_ms > 0 && now - connected_ > std::chrono::milliseconds(spec_.deadline_ms);
  } else
    ledger_.longest_gap_s = std::max(ledger_.longest_gap_s, to_seconds(now - last_));
  if (now - last_ > 2s && cluster_.tell_gaps)
    std::printf("  gap of %.1f s in stream %s, connection %d\n", to_seconds(now - last_), ledger_.stream.c_str(),
                ledger_.connections);
  last_ = now;
  if (event.data == "[DONE]") {
    ledger_.done = true;
    return;
  }
  if (event.data.starts_with("{\"error\"")) {
    ledger_.error = event.data;
    return;
  }
  if (event.id.empty() || event.id == last_id_) {
    ledger_.error = "an event without an id of its own";
    return;
  }
  last_id_ = event.id;
  const auto colon = last_id_.find(':');
  std::uint64_t seq = 0;
  std::from_chars(last_id_.data() + colon + 1, last_id_.data() + last_id_.size(), seq);
  if (seq > ledger_.next_seq) ledger_.lost += seq - ledger_.next_seq;
  if (seq < ledger_.next_seq) ++ledger_.doubled;
  ledger_.next_seq = seq + 1;
  on_chunk(event.data);
}

void Client::on_chunk(const std::string& data) {
  const auto json = JsonValue::parse(data);
  const JsonValue* choices = json ? json->find("choices") : nullptr;
  if (choices == nullptr || choices->as_array() == nullptr) {
    ledger_.error = "not a chunk: " + data;
    return;
  }
  if (cluster_.keep_events) ledger_.events.push_back(choices->dump());
  if (choices->as_array()->empty()) {
    ++ledger_.usage_chunks;
    ledger_.usage_tokens = json->find("usage")->find("completion_tokens")->as_int().value_or(-1);
  }
  for (const JsonValue& choice : *choices->as_array()) {
    const auto index = static_cast<std::size_t>(choice.find("index")->as_int().value_or(0));
    const JsonValue* holder = spec_.chat ? choice.find("delta") : &choice;
    const JsonValue* text = holder != nullptr ? holder->find(spec_.chat ? "content" : "text") : nullptr;
    const JsonValue* reason = choice.find("finish_reason");
    if (reason != nullptr && reason->as_string() != nullptr) ledger_.truncated |= *reason->as_string() == "length";
    if (text == nullptr || text->as_string() == nullptr || index >= ledger_.text.size()) continue;
    if (!text->as_string()->empty()) ++ledger_.token_events;
    ledger_.text[index] += *text->as_string();
  }
}

void Client::on_whole() {
  const auto json = JsonValue::parse(body_);
  const JsonValue* choices = json ? json->find("choices") : nullptr;
  if (choices == nullptr || choices->as_array() == nullptr) {
    ledger_.error = "not an answer: " + body_;
    return;
  }
  for (const JsonValue& choice : *choices->as_array()) {
    const auto index = static_cast<std::size_t>(choice.find("index")->as_int().value_or(0));
    const JsonValue* text = spec_.chat ? choice.find("message")->find("content") : choice.find("text");
    if (const auto* why = choice.find("finish_reason"); why != nullptr && why->as_string() != nullptr)
      ledger_.truncated |= *why->as_string() == "length";
    if (index < ledger_.text.size() && text->as_string() != nullptr) ledger_.text[index] = *text->as_string();
  }
  ledger_.usage_tokens = json->find("usage")->find("completion_tokens")->as_int().value_or(-1);
  ledger_.done = true;
}

void Client::on_end(const Status& outcome) {
  if (outcome && status_ == 200 && !spec_.streamed) on_whole();
  const bool late = to_seconds(std::chrono::steady_clock::now() - last_) > cluster_.give_up_after_s;
  if (!ledger_.done && ledger_.error.empty()) {
    if (outcome && status_ != 200) {
      ++ledger_.refusals;
      if (status_ >= 500) ++ledger_.errors_5xx;
      if (status_ != 503 && status_ != 429) ledger_.error = fmt::format("status {}: {}", status_, body_);
    }
    if (ledger_.error.empty() && !late) {
      cluster_.loop.after(std::chrono::duration_cast<std::chrono::milliseconds>(kReconnect),
                          [self = shared_from_this()] { self->connect(); });
      return;
    }
    if (ledger_.error.empty()) ledger_.error = "no progress for too long";
  }
  on_end_(spec_, ledger_);
}

}  // namespace hp::chaos

#include "gateway/reply_capture.h"

#include <algorithm>

#include "base/json.h"

namespace hp::gateway {
namespace {

// A cut-off answer ("length") is right for this request only by accident of its limit; a refusal may be a passing
// fault.
bool is_whole(std::string_view finish_reason) {
  return finish_reason == "stop" || finish_reason == "tool_calls";
}

bool all_whole(std::string_view body) {
  const auto json = JsonValue::parse(body);
  const JsonValue* choices = json ? json->find("choices") : nullptr;
  if (choices == nullptr || choices->as_array() == nullptr || choices->as_array()->empty()) return false;
  return std::ranges::all_of(*choices->as_array(), [](const JsonValue& choice) {
    const JsonValue* reason = choice.find("finish_reason");
    return reason != nullptr && reason->as_string() != nullptr && is_whole(*reason->as_string());
  });
}

}  // namespace

ReplyCapture::ReplyCapture(ReplyCache& cache, ReuseKey key, std::shared_ptr<Flight> flight, std::string_view stream,
                           FlightBoard* board, Claim claim)
    : cache_(cache), key_(std::move(key)), flight_(std::move(flight)) {
  flight_->set_stream(stream);
  if (board != nullptr) publisher_.emplace(*board, key_, claim, cache_.options().idempotency_ttl);
}

ReplyCapture::~ReplyCapture() {
  if (!ended_) finish(Flight::State::failed, false);
}

void ReplyCapture::finish(Flight::State state, bool store) {
  ended_ = true;
  cache_.finish(key_, flight_, state, store);
  if (publisher_) publisher_->give_back();  // after the answer was saved
}

void ReplyCapture::publish() {
  if (publisher_ && !ended_) publisher_->publish(*flight_);
}

void ReplyCapture::chunk(std::int32_t choice, std::string_view body) {
  if (ended_) return;
  if (!flight_->add({.choice = choice, .data = std::string(body) + "}"})) finish(Flight::State::failed, false);
}

void ReplyCapture::end_stream(const std::vector<std::string>& finish_reasons) {
  if (ended_) return;
  if (std::ranges::any_of(finish_reasons, [](const auto& reason) { return reason.empty(); }))
    return finish(Flight::State::failed, false);
  finish(Flight::State::complete, key_.idempotent || std::ranges::all_of(finish_reasons, is_whole));
}

void ReplyCapture::whole(int status, std::string_view content_type, std::string_view body) {
  if (ended_) return;
  if (status != 200) return finish(Flight::State::failed, false);
  flight_->set_whole(content_type, body);
  finish(Flight::State::complete, key_.idempotent || all_whole(body));
}

}  // namespace hp::gateway

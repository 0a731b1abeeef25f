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

ReplyCapture::ReplyCapture(ReplyCache& cache, ReuseKey key, std::shared_ptr<Flight> flight, std::string_view stream)
    : cache_(cache), key_(std::move(key)), flight_(std::move(flight)) {
  flight_->set_stream(stream);
}

ReplyCapture::~ReplyCapture() {
  if (!ended_) finish(Flight::State::failed, false);
}

void ReplyCapture::finish(Flight::State state, bool store) {
  ended_ = true;
  cache_.finish(key_, flight_, state, store);
}

void ReplyCapture::chunk(std::int32_t choice, std::string_view body, std::string_view finish_reason) {
  if (ended_) return;
  if (choice >= 0) {
    finish_.resize(std::max(finish_.size(), static_cast<std::size_t>(choice) + 1));
    if (!finish_reason.empty()) finish_[static_cast<std::size_t>(choice)] = finish_reason;
  }
  if (!flight_->add({.choice = choice, .data = std::string(body) + "}"})) finish(Flight::State::failed, false);
}

void ReplyCapture::end_stream(std::size_t choices) {
  if (ended_) return;
  const bool complete =
      finish_.size() == choices && std::ranges::none_of(finish_, [](const auto& reason) { return reason.empty(); });
  if (!complete) return finish(Flight::State::failed, false);
  finish(Flight::State::complete, key_.idempotent || std::ranges::all_of(finish_, is_whole));
}

void ReplyCapture::whole(int status, std::string_view content_type, std::string_view body) {
  if (ended_) return;
  if (status != 200) return finish(Flight::State::failed, false);
  flight_->set_whole(content_type, body);
  finish(Flight::State::complete, key_.idempotent || all_whole(body));
}

}  // namespace hp::gateway

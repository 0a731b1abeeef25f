#include "gateway/saved_reply.h"

#include "base/json.h"
#include "gateway/limits.h"

namespace hp::gateway {
namespace {
constexpr std::int64_t kFormat = 2;
constexpr std::size_t kIdWithin = 80;  // an answer's id is its first member

Result<std::string> text_member(const JsonValue& json, std::string_view key) {
  const JsonValue* value = json.find(key);
  if (value == nullptr || value->as_string() == nullptr)
    return fail(ErrorCode::corrupt_data, "a saved reply has no text '{}'", key);
  return *value->as_string();
}
}  // namespace

std::size_t SavedReply::bytes() const {
  std::size_t sum = sizeof *this + body.size() + content_type.size();
  for (const SavedChunk& chunk : chunks) sum += sizeof chunk + chunk.data.size();
  return sum;
}

std::string SavedReply::to_json() const {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("format", kFormat).member("stream", stream).member("weights", weights);
  json.member("body_hash", body_hash)
      .member("content_type", content_type)
      .member("body", body)
      .key("chunks")
      .begin_array();
  for (const SavedChunk& chunk : chunks)
    json.begin_array().value(std::int64_t{chunk.choice}).value(std::string_view(chunk.data)).end_array();
  json.end_array().end_object();
  return out;
}

Result<SavedReply> SavedReply::from_json(std::string_view text) {
  HP_TRY(const JsonValue json, JsonValue::parse(text));
  const JsonValue* format = json.find("format");
  if (format == nullptr || format->as_int() != kFormat)
    return fail(ErrorCode::corrupt_data, "a saved reply of another format");
  SavedReply reply;
  HP_TRY(reply.stream, text_member(json, "stream"));
  HP_TRY(reply.weights, text_member(json, "weights"));
  HP_TRY(reply.body_hash, text_member(json, "body_hash"));
  HP_TRY(reply.content_type, text_member(json, "content_type"));
  HP_TRY(reply.body, text_member(json, "body"));
  const JsonValue* chunks = json.find("chunks");
  if (chunks == nullptr || chunks->as_array() == nullptr)
    return fail(ErrorCode::corrupt_data, "a saved reply without chunks");
  for (const JsonValue& chunk : *chunks->as_array()) {
    const auto* pair = chunk.as_array();
    if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_integer() || (*pair)[1].as_string() == nullptr)
      return fail(ErrorCode::corrupt_data, "a saved reply with a broken chunk");
    reply.chunks.push_back({static_cast<std::int32_t>(*(*pair)[0].as_int()), *(*pair)[1].as_string()});
  }
  return reply;
}

std::string with_stream_id(std::string_view json, std::string_view old_id, std::string_view new_id) {
  std::string out(json);
  if (const auto at = out.find(old_id); !old_id.empty() && at < kIdWithin) out.replace(at, old_id.size(), new_id);
  return out;
}

void Flight::set_stream(std::string_view id) {
  const std::lock_guard lock(mutex_);
  reply_->stream = id;
}

void Flight::set_weights(std::string_view tag) {
  const std::lock_guard lock(mutex_);
  reply_->weights = tag;
}

bool Flight::add(SavedChunk chunk) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != State::running) return false;
    bytes_ += chunk.data.size() + sizeof chunk;
    if (bytes_ > kMaxSavedReplyBytes)
      state_ = State::failed;
    else
      reply_->chunks.push_back(std::move(chunk));
    if (listeners_.empty()) return state_ == State::running;
  }
  tell();
  return true;
}

void Flight::set_whole(std::string_view content_type, std::string_view body) {
  const std::lock_guard lock(mutex_);
  reply_->content_type = content_type;
  reply_->body = body;
}

SavedReplyPtr Flight::end(State state) {
  SavedReplyPtr reply;
  {
    const std::lock_guard lock(mutex_);
    if (state_ == State::running) state_ = state;
    if (state_ == State::complete) reply = std::make_shared<const SavedReply>(*reply_);
  }
  tell();
  return reply;
}

void Flight::listen(std::function<void()> on_change) {
  const std::lock_guard lock(mutex_);
  listeners_.push_back(std::move(on_change));
}

void Flight::tell() {
  std::vector<std::function<void()>> listeners;
  {
    const std::lock_guard lock(mutex_);
    listeners = listeners_;
  }
  for (const auto& listener : listeners) listener();
}

Flight::View Flight::read(std::size_t from) const {
  const std::lock_guard lock(mutex_);
  View view{.state = state_,
            .stream = reply_->stream,
            .weights = reply_->weights,
            .chunks = {},
            .content_type = {},
            .body = {}};
  if (from < reply_->chunks.size())
    view.chunks.assign(reply_->chunks.begin() + static_cast<std::ptrdiff_t>(from), reply_->chunks.end());
  if (state_ == State::complete) {
    view.content_type = reply_->content_type;
    view.body = reply_->body;
  }
  return view;
}

bool Flight::has_readers() const {
  const std::lock_guard lock(mutex_);
  return !listeners_.empty();
}

std::string Flight::body_hash() const {
  const std::lock_guard lock(mutex_);
  return reply_->body_hash;
}

}  // namespace hp::gateway

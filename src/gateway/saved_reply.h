// One complete answer as it went to a client, kept to be given again; and one that is still coming, which several
// clients may read at once.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hp::gateway {

inline constexpr std::int32_t kUsageChunk = -1;

struct SavedChunk {
  std::int32_t choice = 0;  ///< kUsageChunk: the chunk without choices
  std::string data;         ///< JSON, as the first client got it
};

struct SavedReply {
  std::string stream;              ///< id of the stream that was saved, in its chunks as well
  std::string weights;             ///< of its tokens (weights_tag); empty: not known
  std::string body_hash;           ///< of the request
  std::string content_type, body;  ///< of an answer that is no stream
  std::vector<SavedChunk> chunks;  ///< of a stream, without its end mark

  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] std::string to_json() const;
  static Result<SavedReply> from_json(std::string_view text);
};
using SavedReplyPtr = std::shared_ptr<const SavedReply>;

/// The JSON with another stream's id where the answer's id stands.
std::string with_stream_id(std::string_view json, std::string_view old_id, std::string_view new_id);

/// An answer that grows. One writes, many read; thread-safe.
class Flight {
 public:
  enum class State { running, complete, failed };
  explicit Flight(std::string body_hash) : reply_(std::make_shared<SavedReply>()) {
    reply_->body_hash = std::move(body_hash);
  }
  explicit Flight(SavedReplyPtr finished) : reply_(std::make_shared<SavedReply>(*finished)), state_(State::complete) {}

  void set_stream(std::string_view id);
  void set_weights(std::string_view tag);
  /// False: it has grown beyond kMaxSavedReplyBytes, and the flight has failed.
  bool add(SavedChunk chunk);
  void set_whole(std::string_view content_type, std::string_view body);
  /// The finished reply when `state` is complete.
  SavedReplyPtr end(State state);

  /// Called after every change, without a lock, on the writer's thread.
  void listen(std::function<void()> on_change);
  struct View {
    State state;
    std::string stream, weights;
    std::vector<SavedChunk> chunks;  ///< from `from` on
    std::string content_type, body;  ///< once complete
  };
  [[nodiscard]] View read(std::size_t from) const;
  [[nodiscard]] std::string body_hash() const;
  [[nodiscard]] bool has_readers() const;

 private:
  void tell();
  mutable std::mutex mutex_;
  std::shared_ptr<SavedReply> reply_;
  std::size_t bytes_ = 0;
  State state_ = State::running;
  std::vector<std::function<void()>> listeners_;
};

}  // namespace hp::gateway

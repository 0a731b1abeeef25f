#include "node/replay_stream.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "node/limits.h"

namespace hp {

std::shared_ptr<net::ResponseWriter> ReplayRegistry::wrap(const std::string& id,
                                                          std::shared_ptr<net::ResponseWriter> inner,
                                                          net::EventLoop& loop) {
  const std::lock_guard lock(mutex_);
  if (streams_.size() >= kMaxReplayStreams || streams_.contains(id)) return inner;
  auto stream = std::make_shared<ReplayStream>(*this, id, std::move(inner), loop, grace_);
  streams_.emplace(id, stream);
  return stream;
}

bool ReplayRegistry::attach(std::string_view last_event_id, const std::shared_ptr<net::ResponseWriter>& writer) {
  const auto colon = last_event_id.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::uint64_t last_seen = 0;
  const char* const end = last_event_id.data() + last_event_id.size();
  const auto [stop, error] = std::from_chars(last_event_id.data() + colon + 1, end, last_seen);
  if (error != std::errc() || stop != end) return false;
  std::shared_ptr<ReplayStream> stream;
  {
    const std::lock_guard lock(mutex_);
    const auto found = streams_.find(std::string(last_event_id.substr(0, colon)));
    if (found == streams_.end()) return false;
    stream = found->second;
  }
  return stream->attach(last_seen, writer);
}

void ReplayRegistry::remove(const std::string& id) {
  std::shared_ptr<ReplayStream> last;  // destroyed outside of the lock
  const std::lock_guard lock(mutex_);
  const auto found = streams_.find(id);
  if (found == streams_.end()) return;
  last = std::move(found->second);
  streams_.erase(found);
}

std::size_t ReplayRegistry::size() const {
  const std::lock_guard lock(mutex_);
  return streams_.size();
}

ReplayStream::ReplayStream(ReplayRegistry& registry, std::string id, std::shared_ptr<net::ResponseWriter> inner,
                           net::EventLoop& loop, std::chrono::milliseconds grace)
    : registry_(registry), id_(std::move(id)), loop_(loop), grace_(grace), inner_(std::move(inner)) {}

/// An answer that is no stream: nothing to come back for.
void ReplayStream::send(net::HttpResponse response) {
  std::shared_ptr<net::ResponseWriter> inner;
  {
    const std::lock_guard lock(mutex_);
    inner = std::exchange(inner_, nullptr);
    ended_ = dead_ = true;
  }
  if (inner) inner->send(std::move(response));
  registry_.remove(id_);
}

void ReplayStream::begin_stream(int status, net::Headers headers, std::string_view content_type) {
  const std::lock_guard lock(mutex_);
  streaming_ = true;
  headers_ = headers;
  content_type_ = content_type;
  if (inner_) inner_->begin_stream(status, std::move(headers), content_type);
}

/// Gives every event its id and keeps it; comments pass as they are.
std::string ReplayStream::record(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const auto cut = bytes.find("\n\n");
    const std::string_view event = bytes.substr(0, cut == std::string_view::npos ? cut : cut + 2);
    bytes.remove_prefix(event.size());
    if (event.starts_with(':')) {
      out += event;
      continue;
    }
    events_.push_back(fmt::format("id: {}:{}\n{}", id_, ++last_, event));
    bytes_ += events_.back().size();
    out += events_.back();
    while (bytes_ > kMaxReplayBytes && events_.size() > 1) {
      bytes_ -= events_.front().size();
      events_.pop_front();
    }
  }
  return out;
}

bool ReplayStream::write(std::string bytes) {
  std::uint64_t connection = 0;
  {
    const std::lock_guard lock(mutex_);
    if (dead_) return false;
    std::string events = record(bytes);
    if (!inner_ || inner_->write(std::move(events))) return true;
    connection = connection_;
  }
  lost(connection);  // gone, or too slow and cut: it may come back as well
  return true;
}

void ReplayStream::end() {
  std::uint64_t connection = 0;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    connection = connection_;
    if (inner_) std::exchange(inner_, nullptr)->end();
  }
  expire_later(connection);
}

void ReplayStream::on_disconnect(std::function<void()> callback) {
  std::shared_ptr<net::ResponseWriter> inner;
  {
    const std::lock_guard lock(mutex_);
    gone_ = std::move(callback);
    inner = inner_;
  }
  if (inner) watch(inner, 0);
}

void ReplayStream::watch(const std::shared_ptr<net::ResponseWriter>& writer, std::uint64_t connection) {
  writer->on_disconnect([weak = weak_from_this(), connection] {
    if (const auto self = weak.lock()) self->lost(connection);
  });
}

std::size_t ReplayStream::queued_bytes() const {
  const std::lock_guard lock(mutex_);
  return inner_ ? inner_->queued_bytes() : 0;
}

void ReplayStream::lost(std::uint64_t connection) {
  bool at_once = false;
  {
    const std::lock_guard lock(mutex_);
    if (connection != connection_ || ended_ || dead_ || !inner_) return;
    inner_.reset();
    at_once = !streaming_;  // no event has an id yet that a client could come back with
  }
  if (at_once) {
    loop_.post([self = shared_from_this(), connection] { self->expire(connection); });
  } else {
    expire_later(connection);
  }
}

void ReplayStream::expire_later(std::uint64_t connection) {
  loop_.after(grace_, [weak = weak_from_this(), connection] {
    if (const auto self = weak.lock()) self->expire(connection);
  });
}

/// Nobody came: the session hears of it (on its own loop), and the events go.
void ReplayStream::expire(std::uint64_t connection) {
  std::function<void()> gone;
  {
    const std::lock_guard lock(mutex_);
    if (connection != connection_ || (inner_ && !ended_)) return;
    dead_ = true;
    if (!ended_) gone = gone_;
  }
  const auto self = shared_from_this();
  registry_.remove(id_);
  if (gone) gone();
}

bool ReplayStream::attach(std::uint64_t last_seen, const std::shared_ptr<net::ResponseWriter>& writer) {
  std::uint64_t connection = 0;
  bool ended = false;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t first = last_ + 1 - events_.size();
    if (dead_ || !streaming_ || last_seen > last_ || last_seen + 1 < first) return false;
    connection = ++connection_;
    std::string missed;
    for (std::uint64_t n = last_seen + 1; n <= last_; ++n) missed += events_[static_cast<std::size_t>(n - first)];
    writer->begin_stream(200, headers_, content_type_);
    if (!missed.empty()) writer->write(std::move(missed));
    ended = ended_;
    if (ended) {
      writer->end();
    } else {
      inner_ = writer;  // an older connection, should it still be there, is let go and thereby cut
    }
  }
  if (ended) {
    expire_later(connection);
  } else {
    watch(writer, connection);
  }
  return true;
}

}  // namespace hp

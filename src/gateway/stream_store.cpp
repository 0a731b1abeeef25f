#include "gateway/stream_store.h"

#include <algorithm>

namespace hp::gateway {
// Two tenants may use one id: it is theirs to name in Last-Event-ID.
StreamStore::Streams::iterator StreamStore::find_locked(std::string_view tenant, std::string_view id) {
  const auto [first, last] = streams_.equal_range(std::string(id));
  const auto found =
      std::find_if(first, last, [&](const auto& entry) { return entry.second.stream->tenant == tenant; });
  return found == last ? streams_.end() : found;
}

void StreamStore::add(const std::shared_ptr<StoredStream>& stream) {
  const std::lock_guard lock(mutex_);
  auto found = find_locked(stream->tenant, stream->record.id());
  if (found == streams_.end()) {
    streams_.emplace(stream->record.id(), Entry{.stream = stream, .closed = closed_.end()});
    return;
  }
  reopen_locked(found->second);
  found->second.stream = stream;
}

std::shared_ptr<StoredStream> StreamStore::find(std::string_view tenant, std::string_view id, TimePoint now) {
  const std::lock_guard lock(mutex_);
  evict_locked(now);
  const auto found = find_locked(tenant, id);
  if (found == streams_.end()) return nullptr;
  reopen_locked(found->second);
  return found->second.stream;
}

void StreamStore::reopen_locked(Entry& entry) {
  if (entry.closed == closed_.end()) return;
  closed_bytes_ -= entry.closed->bytes;
  closed_.erase(entry.closed);
  entry.closed = closed_.end();
}

void StreamStore::close(const std::shared_ptr<StoredStream>& stream, TimePoint now) {
  std::size_t bytes = sizeof *stream + stream->body->capacity();
  {
    const std::lock_guard record_lock(stream->mutex);
    bytes += stream->record.bytes();
  }
  const std::lock_guard lock(mutex_);
  const auto found = find_locked(stream->tenant, stream->record.id());
  if (found == streams_.end() || found->second.stream != stream || found->second.closed != closed_.end()) return;
  closed_.push_back({stream, now, bytes});
  found->second.closed = std::prev(closed_.end());
  closed_bytes_ += bytes;
  evict_locked(now);
}

void StreamStore::evict_locked(TimePoint now) {
  while (!closed_.empty() && (closed_bytes_ > max_closed_bytes_ || now - closed_.front().at > ttl_)) {
    const Closed& oldest = closed_.front();
    closed_bytes_ -= oldest.bytes;
    streams_.erase(find_locked(oldest.stream->tenant, oldest.stream->record.id()));
    closed_.pop_front();
  }
}

std::shared_ptr<StoredStream> StreamStore::find_by_token(std::string_view id, std::string_view token_sha256) const {
  const std::lock_guard lock(mutex_);
  const auto [first, last] = streams_.equal_range(std::string(id));
  const auto found = std::find_if(first, last, [&](const auto& entry) {
    return !token_sha256.empty() && entry.second.stream->token_sha256 == token_sha256;
  });
  return found == last ? nullptr : found->second.stream;
}

std::shared_ptr<StoredStream> StreamStore::look(std::string_view id) const {
  const std::lock_guard lock(mutex_);
  const auto found = streams_.find(std::string(id));
  return found == streams_.end() ? nullptr : found->second.stream;
}

std::vector<std::shared_ptr<StoredStream>> StreamStore::some(std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<StoredStream>> out;
  for (auto entry = streams_.begin(); entry != streams_.end() && out.size() < limit; ++entry)
    out.push_back(entry->second.stream);
  return out;
}

std::size_t StreamStore::size() const {
  const std::lock_guard lock(mutex_);
  return streams_.size();
}

}  // namespace hp::gateway

#include "gateway/stream_store.h"

namespace hp::gateway {
namespace {
std::string key_of(std::string_view tenant, std::string_view id) {
  std::string key(id);
  return key.append("/").append(tenant);
}
}  // namespace

void StreamStore::add(const std::shared_ptr<StoredStream>& stream) {
  const std::lock_guard lock(mutex_);
  auto& entry = streams_[key_of(stream->tenant, stream->record.id())];
  if (entry.stream) reopen_locked(entry);
  entry.stream = stream;
  entry.closed = closed_.end();
}

std::shared_ptr<StoredStream> StreamStore::find(std::string_view tenant, std::string_view id, TimePoint now) {
  const std::lock_guard lock(mutex_);
  evict_locked(now);
  const auto found = streams_.find(key_of(tenant, id));
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
  const auto found = streams_.find(key_of(stream->tenant, stream->record.id()));
  if (found == streams_.end() || found->second.stream != stream || found->second.closed != closed_.end()) return;
  closed_.push_back({found->first, now, bytes});
  found->second.closed = std::prev(closed_.end());
  closed_bytes_ += bytes;
  evict_locked(now);
}

void StreamStore::evict_locked(TimePoint now) {
  while (!closed_.empty() && (closed_bytes_ > max_closed_bytes_ || now - closed_.front().at > ttl_)) {
    closed_bytes_ -= closed_.front().bytes;
    streams_.erase(closed_.front().key);
    closed_.pop_front();
  }
}

std::shared_ptr<StoredStream> StreamStore::look(std::string_view id) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [key, entry] : streams_)
    if (entry.stream->record.id() == id) return entry.stream;
  return nullptr;
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

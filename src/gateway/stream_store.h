// The streams of this gateway by id: open ones, and closed ones that a client may still take up again, bounded by age
// and bytes. Thread-safe.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "gateway/request_peek.h"
#include "gateway/side_door.h"
#include "gateway/stream_record.h"

namespace hp::gateway {

/// What of a stream is in the shared journal (shared_journal.h).
struct SharedState {
  std::uint64_t generation = 0;  ///< of the store that has it; 0: it must be written whole
  std::uint64_t epoch = 1;       ///< our lease's fencing number; each gateway that takes the stream gets a higher one
  StreamRecord::JournalMark written;
  TimePoint written_at{}, extended_at{};
};

/// One stream with all that continuing it needs.
struct StoredStream {
  StoredStream(std::string id, RequestPeek p)
      : peek(std::move(p)), record(std::move(id), static_cast<std::size_t>(peek.choices)) {}
  std::string target;  ///< of the request line
  std::string tenant;
  RequestPeek peek;
  std::shared_ptr<const std::string> body;
  std::string token;  ///< lets its bearer read this stream, and nothing else; empty: none, or only its hash is here
  std::string token_sha256;             ///< empty: there is no token
  std::atomic<std::uint64_t> lease{0};  ///< who took the stream last owns it; others fall silent

  std::mutex mutex;  // of all that follows
  StreamRecord record;
  std::vector<StreamLeg> legs;       ///< which node made which tokens; their counts are not filled in
  std::uint64_t counted_tokens = 0;  ///< already in the usage: a stream that is taken up again counts once
  bool prompt_counted = false;
  SharedState shared;
};

class StreamStore {
 public:
  StreamStore(Duration ttl, std::size_t max_closed_bytes) : ttl_(ttl), max_closed_bytes_(max_closed_bytes) {}
  void add(const std::shared_ptr<StoredStream>& stream);
  /// Another tenant's stream is not found.
  std::shared_ptr<StoredStream> find(std::string_view tenant, std::string_view id, TimePoint now);
  void close(const std::shared_ptr<StoredStream>& stream, TimePoint now);
  [[nodiscard]] std::size_t size() const;
  /// Whose token this is the hash of; nothing is reopened.
  std::shared_ptr<StoredStream> find_by_token(std::string_view id, std::string_view token_sha256) const;
  /// For looking, whoever the tenant is; nothing is reopened.
  std::shared_ptr<StoredStream> look(std::string_view id) const;
  std::vector<std::shared_ptr<StoredStream>> some(std::size_t limit) const;

 private:
  struct Closed {
    std::shared_ptr<StoredStream> stream;
    TimePoint at;
    std::size_t bytes;
  };
  struct Entry {
    std::shared_ptr<StoredStream> stream;
    std::list<Closed>::iterator closed;  // end(): open
  };
  using Streams = std::unordered_multimap<std::string, Entry>;  // by id
  Streams::iterator find_locked(std::string_view tenant, std::string_view id);
  void evict_locked(TimePoint now);
  void reopen_locked(Entry& entry);

  const Duration ttl_;
  const std::size_t max_closed_bytes_;
  mutable std::mutex mutex_;
  Streams streams_;
  std::list<Closed> closed_;  // oldest first
  std::size_t closed_bytes_ = 0;
};

}  // namespace hp::gateway

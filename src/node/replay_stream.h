// Streams that outlive their connection: every event gets an id, is kept for a while, and a client that comes back with
// Last-Event-ID gets what it missed and then the rest. Meanwhile generation goes on. A ReplayStream stands between a
// session and its connection as a writer of its own; the session knows nothing of it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "net/event_loop.h"
#include "net/http.h"

namespace hp {

class ReplayStream;

/// The streams of a node that can be taken up again, by id. Safe from any thread.
class ReplayRegistry {
 public:
  explicit ReplayRegistry(std::chrono::milliseconds grace) : grace_(grace) {}
  [[nodiscard]] bool enabled() const { return grace_.count() > 0; }

  /// A writer that records what goes to `inner`; `inner` itself when there are too many streams. `id` must not be
  /// guessable: who knows it may read the stream. Timers run on `loop`, the session's own.
  std::shared_ptr<net::ResponseWriter> wrap(const std::string& id, std::shared_ptr<net::ResponseWriter> inner,
                                            net::EventLoop& loop);
  /// Goes on with the stream behind "<id>:<number>" on another connection; false: unknown, or too far back.
  bool attach(std::string_view last_event_id, const std::shared_ptr<net::ResponseWriter>& writer);
  void remove(const std::string& id);
  [[nodiscard]] std::size_t size() const;

 private:
  const std::chrono::milliseconds grace_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<ReplayStream>> streams_;
};

class ReplayStream final : public net::ResponseWriter, public std::enable_shared_from_this<ReplayStream> {
 public:
  ReplayStream(ReplayRegistry& registry, std::string id, std::shared_ptr<net::ResponseWriter> inner,
               net::EventLoop& loop, std::chrono::milliseconds grace);

  void send(net::HttpResponse response) override;
  void begin_stream(int status, net::Headers headers, std::string_view content_type) override;
  bool write(std::string bytes) override;
  void end() override;
  void on_disconnect(std::function<void()> callback) override;
  [[nodiscard]] std::size_t queued_bytes() const override;

  bool attach(std::uint64_t last_seen, const std::shared_ptr<net::ResponseWriter>& writer);

 private:
  void watch(const std::shared_ptr<net::ResponseWriter>& writer, std::uint64_t connection);
  void lost(std::uint64_t connection);
  void expire_later(std::uint64_t connection);
  void expire(std::uint64_t connection);
  std::string record(std::string_view bytes);

  ReplayRegistry& registry_;
  const std::string id_;
  net::EventLoop& loop_;
  const std::chrono::milliseconds grace_;
  mutable std::mutex mutex_;
  std::shared_ptr<net::ResponseWriter> inner_;  ///< null while no client is there
  std::function<void()> gone_;                  ///< tells the session that nobody will come back
  std::deque<std::string> events_;              ///< the latest, with their ids
  std::uint64_t last_ = 0;                      ///< id of the latest event; the first is 1
  std::size_t bytes_ = 0;
  std::uint64_t connection_ = 0;  ///< grows with every connection: what an older one still says is void
  net::Headers headers_;
  std::string content_type_;
  bool streaming_ = false, ended_ = false, dead_ = false;
};

}  // namespace hp

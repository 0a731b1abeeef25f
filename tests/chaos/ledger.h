// The clients: each runs one stream through a gateway, moves to another gateway when its connection breaks, and writes
// down what it was given and when. Nothing here knows what faults are going on.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "net/sse.h"

namespace hp::chaos {

struct StreamSpec {
  std::uint64_t number = 0;
  bool chat = true, usage = false, streamed = true;
  int choices = 1, max_tokens = 50;
  std::int64_t seed = -1;  ///< < 0: none in the request
  int deadline_ms = 0;     ///< 0: none
  std::string prompt;      ///< the JSON value of messages or prompt

  [[nodiscard]] std::string body(const std::string& model) const;
  [[nodiscard]] std::string target() const { return chat ? "/v1/chat/completions" : "/v1/completions"; }
};

/// What one client saw, over all its connections.
struct Ledger {
  std::string stream;
  std::vector<std::string> text;
  std::vector<std::string> events;  ///< data without ids and times, in order (kept when asked for)
  std::string error;
  std::int64_t usage_tokens = -1;
  std::uint64_t next_seq = 0, token_events = 0, lost = 0, doubled = 0;
  int usage_chunks = 0, connections = 0, refusals = 0, errors_5xx = 0;
  bool from_cache = false;  ///< answered from what another request had got
  bool truncated = false;   ///< ended by its limit
  bool past_deadline = false;
  double longest_gap_s = 0, first_token_s = -1;
  bool done = false;
};

class Client final : public std::enable_shared_from_this<Client> {
 public:
  struct Cluster {
    net::EventLoop& loop;
    net::HttpClient& http;
    std::vector<std::uint16_t> gateways;
    std::string model;
    bool keep_events = false, tell_gaps = false;
    double give_up_after_s = 60;
  };
  Client(Cluster& cluster, StreamSpec spec, std::function<void(const StreamSpec&, const Ledger&)> on_end)
      : cluster_(cluster), spec_(std::move(spec)), on_end_(std::move(on_end)) {
    ledger_.text.resize(static_cast<std::size_t>(spec_.choices));
  }
  void start();

 private:
  void connect();
  void on_event(const net::SseEvent& event);
  void on_chunk(const std::string& data);
  void on_whole();
  void on_end(const Status& outcome);

  Cluster& cluster_;
  const StreamSpec spec_;
  std::function<void(const StreamSpec&, const Ledger&)> on_end_;
  Ledger ledger_;
  net::SseParser parser_;
  std::string last_id_, body_;
  int status_ = 0;
  TimePoint started_{}, last_{}, connected_{};
};

}  // namespace hp::chaos

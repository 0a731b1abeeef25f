// One client's request on its way: picks a node, forwards, records, and when the node fails, stalls or leaves, goes on
// at another one. Lives on one loop; every call comes from it. The states are: waiting for a node, attempt open, done.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/core.h"
#include "gateway/event_cutter.h"
#include "gateway/request_terms.h"
#include "net/http.h"
#include "net/trace_context.h"

namespace hp::gateway {

class ReplyCapture;

/// What a relay starts from.
struct RelayStart {
  std::shared_ptr<StoredStream> stream;
  std::shared_ptr<net::ResponseWriter> writer;  ///< null: others read the capture
  net::TraceContext trace;
  std::string method = "POST";
  std::int64_t charged_tokens = 0;  ///< taken from the tenant's allowance at admission
  RequestTerms terms = {};
  Priority priority = Priority::normal;
  bool reattached = false;                          ///< the client has a part already: answer with a stream at once
  bool begun = false;                               ///< and has our status line
  bool admitted = true;                             ///< it has a place of its tenant's; without: it has no client
  std::shared_ptr<ReplyCapture> capture = nullptr;  ///< others read along
};

class Relay final : public std::enable_shared_from_this<Relay> {
 public:
  Relay(Shard& shard, RelayStart start);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  void start();
  /// The gateway ends.
  void stop() { close("gateway stops"); }
  /// The watchdog's look, every kSweepInterval. `paused`: the loop itself stood still, all clocks start anew.
  void sweep(TimePoint now, bool paused);

 private:
  // relay.cpp: nodes and attempts
  void dispatch();
  void open_attempt(NodeIndex node);
  void begin_attempt(NodeIndex node, std::uint32_t attempt);
  net::HttpClient::Handle start_request(const NodeConfig& node, std::uint32_t attempt);
  net::ClientRequest encode(const NodeConfig& node, std::uint32_t attempt);
  void close_attempt();
  void on_headers(int status, const net::Headers& headers);
  void on_data(std::string_view bytes);
  void on_done(Status outcome);
  enum class Fault { node_died, node_answered };
  void fail_attempt(Fault fault, std::string_view why);
  void on_refusal(), try_again();
  void give_up(int status, std::string_view message);
  void leave_node(std::string_view why);
  void on_client_gone();
  // relay_hedge.cpp: the second node of a late first token
  struct Hedge {
    NodeIndex node = 0;
    std::uint32_t attempt = 0;
    net::HttpClient::Handle handle = 0;
    int status = 0;
    net::Headers headers;
    std::string bytes;  // before its first token
  };
  void plan_hedge(), begin_hedge();
  void on_hedge_headers(int status, const net::Headers& headers);
  void on_hedge_data(std::string_view bytes);
  void on_hedge_done(const Status& outcome);
  void drop_hedge(), adopt_hedge();
  // relay_queue.cpp: waiting
  WaitEntry wait_entry();
  [[nodiscard]] bool is_late() const;
  void refuse_late();
  bool take_turn();
  bool join_queue();
  void leave_queue(bool served);
  void wait_for_node(bool busy);
  // relay_lease.cpp: whether the stream is still this gateway's
  bool hold(std::string_view bytes);
  void release_held(std::uint32_t attempt);
  // relay_log.cpp: what remains of the request
  void note_first_token();
  void note_whole_usage();
  void log_access(std::string_view outcome) const;
  // relay_stream.cpp: what flows
  bool on_event(std::string_view data), on_comment(std::string_view comment);
  void on_progress();
  void forward(std::string bytes);
  void begin_answer(), finish_stream(), answer_whole();
  void close(std::string_view outcome);
  std::uint64_t count_usage();
  [[nodiscard]] bool complete();
  [[nodiscard]] bool owns() const { return stream_->lease.load() == lease_; }
  [[nodiscard]] const RequestPeek& peek() const { return stream_->peek; }

  Shard& shard_;
  Core& core_;
  std::shared_ptr<StoredStream> stream_;
  std::shared_ptr<net::ResponseWriter> writer_;
  std::shared_ptr<ReplyCapture> capture_;
  const net::TraceContext trace_;
  const std::string method_;
  const std::int64_t charged_tokens_;
  const RequestTerms terms_;
  const Priority priority_;
  std::optional<WaitQueue::Ticket> ticket_;
  std::int64_t retry_in_s_ = 1;  // what a refusal of ours says
  std::uint64_t lease_ = 0;
  EventCutter cutter_;
  std::string body_, content_type_, last_error_;  // body: of an answer that is no stream
  std::string held_;                              // bytes that wait until we know whether the stream is still ours
  std::optional<Status> held_end_;
  RefusalEar ear_;
  std::optional<NodeIndex> node_, avoid_;
  net::HttpClient::Handle handle_ = 0;
  net::EventLoop::Timer timer_ = 0, hedge_timer_ = 0;
  std::optional<Hedge> hedge_;
  std::vector<NodeIndex> served_by_;
  std::optional<double> first_token_ms_;
  std::uint64_t whole_tokens_ = 0, whole_prompt_tokens_ = 0;  // what an answer that is no stream says of its usage
  int answered_ = 0;                                          // the status that the client got; 0: none yet
  TimePoint started_, waiting_since_{}, attempt_since_{}, progress_at_{}, last_forward_{};
  std::int64_t cost_ = 0;
  static constexpr std::uint64_t kNoHeartbeat = ~std::uint64_t{0};
  std::uint64_t heartbeat_ = kNoHeartbeat;
  std::uint32_t attempt_ = 0, last_attempt_ = 0, node_epoch_ = 0;
  int status_ = 0, fruitless_ = 0, refusals_ = 0, resumes_ = 0;
  std::int64_t retry_after_s_ = 0;
  const bool reattached_, admitted_;
  bool journalled_ = false;             // the node of this attempt keeps a journal
  bool streaming_ = false;              // its answer is an event stream
  bool heard_ = false;                  // it has said something that progress can be measured from
  bool proven_ = false;                 // it has made progress, and its breaker knows
  bool begun_ = false;                  // the client has our status line
  bool resuming_ = false;               // the next forwarded event ends a pause
  bool holding_ = false;                // held_ is in use
  bool done_ = false, in_leg_ = false;  // in_leg_: this attempt has brought new tokens
};

}  // namespace hp::gateway

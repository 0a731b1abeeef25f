// One generation request from its bytes to the end of its answer: plan, admit, run, answer, done. A state machine on
// one loop; only planning large requests happens elsewhere. Owned by whatever will call it next (a task, the hub), so
// that it goes away with its last reason to exist.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/chunk_writer.h"
#include "net/http.h"
#include "node/choice_stream.h"
#include "node/journal.h"
#include "node/node_state.h"
#include "node/request_plan.h"

namespace hp {

class Session final : public std::enable_shared_from_this<Session> {
 public:
  /// On loop `shard`; answers by itself.
  static void start(NodeState& node, std::size_t shard, AnswerKind kind, net::HttpRequest request,
                    std::shared_ptr<net::ResponseWriter> writer);
  Session(NodeState& node, std::size_t shard, AnswerKind kind, net::HttpRequest request,
          std::shared_ptr<net::ResponseWriter> writer);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  void watch_client();
  void plan();
  void admit(Result<RequestPlan> plan);
  void prepare();
  Status submit();
  Status submit_prompt(std::size_t p);
  void answer_resumed();
  void begin_stream();
  void on_events(std::size_t prompt, std::span<const TokenEvent> events);
  void on_event(std::size_t prompt, const TokenEvent& event, std::string& out);
  void on_disconnect();
  void beat();
  void take_part(api::ChoicePart part, std::span<const TokenId> tokens, std::string& out);
  void append_chunk(std::string& out, const api::ChoicePart& part, bool role, std::span<const TokenId> tokens);
  void fail_all(const Error& error);
  void complete();
  void leave(int status, std::string_view outcome);
  void log_access(int status, std::string_view outcome, Duration total, Duration first) const;
  void record_token(std::size_t choice, const TokenEvent& event);
  [[nodiscard]] api::Usage usage() const;
  [[nodiscard]] net::Headers headers() const;
  [[nodiscard]] net::HttpResponse error_answer(const Error& error) const;

  NodeState& node_;
  const std::size_t shard_;
  const AnswerKind kind_;
  net::HttpRequest request_;  ///< its body is dropped once planned
  std::shared_ptr<net::ResponseWriter> writer_;
  std::string request_id_;
  JournalHeaders journal_;
  api::AnswerHead head_;
  RequestPlan plan_;
  ChoiceRules rules_;
  std::vector<ChoiceStream> streams_;     // [choices]
  std::vector<api::ChoicePart> answers_;  // [choices], when not streaming
  std::vector<bool> role_sent_;           // [choices]
  std::vector<TimePoint> last_token_;     // [choices]
  std::vector<RequestId> ids_;            // [prompts]; zero: not submitted
  TimePoint arrived_;
  std::optional<TimePoint> first_token_;
  Duration queued_{};
  std::int64_t generated_ = 0, cached_ = 0;
  std::int32_t finished_ = 0;
  bool streaming_ = false, first_chunk_ = true, planned_ = false, done_ = false, wrote_ = false;
  bool too_long_ = false;    ///< prompt and answer do not fit the context
  bool any_length_ = false;  ///< a choice ended at its limit
};

}  // namespace hp

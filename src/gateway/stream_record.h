// What the gateway knows of one stream, enough to continue it on any node and to re-attach a client at any event: the
// request, the generated tokens, and which event carried how many of them. No sockets, no clock.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/json.h"
#include "base/result.h"
#include "gateway/event_cutter.h"
#include "gateway/limits.h"

namespace hp::gateway {

/// 8 hex digits of the creation time, 24 random ones. The seed follows from it, so that a gateway which never saw the
/// stream can generate it again from the request alone.
std::string make_stream_id(std::int64_t created, std::uint64_t random_high, std::uint64_t random_low);
bool valid_stream_id(std::string_view id);
std::int64_t stream_created(std::string_view id);
std::uint64_t stream_seed(std::string_view id);

/// What an event id says of the weights behind a stream: 8 hex digits of a hash of the node's Homeport-Identity; empty
/// for an empty one.
std::string weights_tag(std::string_view identity);
bool valid_weights(std::string_view tag);

/// How far a client has read: the position of `id: <stream>:<seq>:<a>.<b>…:<weights>`. The counts, how many events of
/// each choice are in, are there for several choices only; the weights once they are known.
struct EventPosition {
  std::string stream;
  std::uint64_t seq = 0;                  ///< of the last event read
  std::vector<std::uint64_t> per_choice;  ///< empty for a single choice
  std::string weights = {};               ///< weights_tag() of who made its tokens; empty: not known
};
Result<EventPosition> parse_event_id(std::string_view id);

class StreamRecord {
 public:
  struct Choice {
    std::vector<TokenId> tokens;
    std::vector<std::uint16_t> marks;  ///< per event: tokens it brought, with those of dropped chunks before it
    std::uint64_t marked = 0;          ///< tokens that the marks cover
    std::uint64_t to_skip = 0;         ///< events that the client has and that are still to be generated again
    std::string finish_reason;
    bool started = false;
  };
  enum class Verdict { forward, drop, broken };

  StreamRecord(std::string id, std::size_t choices) : id_(std::move(id)), wanted_(choices) {}

  /// Takes one chunk of the node in. `drop`: already known, or nothing for the client. `broken`: tokens are missing or
  /// differ from those before, so that this node must not be believed.
  Verdict take(const CutChunk& chunk);
  /// The first token's maker, as weights_tag() has it; empty: not known.
  void made_by(std::string weights) { weights_ = std::move(weights); }
  /// What goes on must be made by these weights: the client has tokens, and we know whose. Empty: anybody may.
  [[nodiscard]] std::string_view bound_to() const;
  /// "id: …\n" of the event just taken with `forward`.
  void append_event_id(std::string& out) const;

  /// The body's tail from its last '}' on, with the tokens spliced in; just "}" when nothing was generated yet.
  [[nodiscard]] std::string resume_tail(bool empty_object) const;
  /// Forgets what came after the position, so that it is generated again. False: the position is not in this stream.
  /// Or its weights are others.
  bool rewind(const EventPosition& position);
  /// Back before the first event: everything is generated again.
  void restart();
  /// For a record without tokens: events up to the position are generated again and dropped.
  void skip_to(const EventPosition& position);

  // stream_record_journal.cpp: the record in a store that gateways share.
  struct JournalMark {
    std::vector<std::pair<std::size_t, std::size_t>> choices;  ///< tokens and events of each that are written
    std::uint64_t prompt_tokens = 0;
    bool usage = false, weights = false;
  };
  /// One line with what came since the mark, which moves on; empty: nothing came.
  [[nodiscard]] std::string journal_since(JournalMark& mark) const;
  /// Takes lines in, as far as they are whole, of our version, and join up: what is missing will be generated again.
  void replay_journal(std::string_view lines);
  /// After replay_journal(): what the client has not read is forgotten, what it has read beyond us is dropped when it
  /// comes again. False: the position is not in this stream.
  bool catch_up(const EventPosition& position);

  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] std::uint64_t tokens() const;
  [[nodiscard]] std::uint64_t next_seq() const { return next_seq_; }
  [[nodiscard]] std::uint64_t prompt_tokens() const { return prompt_tokens_; }
  /// Nothing but the end mark is missing.
  [[nodiscard]] bool complete(bool with_usage) const;
  [[nodiscard]] const std::vector<Choice>& choices() const { return choices_; }
  [[nodiscard]] std::size_t bytes() const;

 private:
  Verdict take_usage();
  Verdict pass(std::uint64_t& to_skip);
  Choice& choice(std::size_t index);
  bool replay_choice(const JsonValue& entry);
  [[nodiscard]] bool other_weights(const EventPosition& position) const {
    return !weights_.empty() && !position.weights.empty() && weights_ != position.weights;
  }

  std::string id_, weights_;
  std::size_t wanted_;
  std::vector<Choice> choices_;
  std::uint64_t next_seq_ = 0, prompt_tokens_ = 0;
  bool usage_sent_ = false, skip_usage_ = false;
};

}  // namespace hp::gateway

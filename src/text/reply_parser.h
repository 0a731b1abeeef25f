// Splits a model's streamed answer into reasoning, content and tool calls. Fed with text in any cutting it gives the
// same parts, so that a resumed stream is rebuilt by feeding the text again. Nothing is lost or reordered: outside of
// the markers only line breaks beside them and white space between tool calls are left out; a construct that is never
// finished comes out as content (before a call has a name) or as arguments so far.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"

namespace hp {

/// What is new of one call. The name comes once, with the first delta of its index.
struct ToolCallDelta {
  std::int32_t index = 0;
  std::string name, arguments;
};

struct ReplyDelta {
  std::string reasoning, content;
  std::vector<ToolCallDelta> tool_calls;
  [[nodiscard]] bool empty() const { return reasoning.empty() && content.empty() && tool_calls.empty(); }
};

struct ReplyStyle {
  ToolSyntax tools = ToolSyntax::none;  ///< none: tool markers are content, as for a request without tools
  bool reasons = false;                 ///< a leading <think>…</think> is reasoning
  bool opens_in_reasoning = false;      ///< the prompt ended with an open <think>
};
/// The style of answers to a conversation; tool calls are looked for when it has tools.
ReplyStyle reply_style(ChatFamily family, const Conversation& conversation);

class ReplyParser {
 public:
  explicit ReplyParser(ReplyStyle style);

  /// Takes in more text (whole characters); appends to `out` what became certain.
  void push(std::string_view text, ReplyDelta& out);
  /// The end of the answer.
  void finish(ReplyDelta& out);

  [[nodiscard]] bool in_reasoning() const { return state_ == State::reasoning; }
  [[nodiscard]] bool has_tool_calls() const { return calls_ > 0; }
  /// Spellings of the special tokens that the parser must see: a Detokenizer needs them as its visible tokens.
  static std::span<const std::string_view> markers();

 private:
  enum class State { reasoning, start, content, between, head, fence, arguments, json, json_close };
  /// What the scanner of Qwen's {"name": …, "arguments": …} stands in.
  struct JsonScan {
    enum class Phase { open, key, colon, value, done } phase = Phase::open;
    int depth = 0;
    bool in_string = false, escaped = false;
    std::string raw;    ///< everything since the marker, until the name is known
    std::string key;    ///< of the current member, quoted
    std::string value;  ///< of "name", or of arguments that are a string
    std::string early;  ///< arguments that came before the name
    bool named = false, has_arguments = false;
  };
  struct Hit {
    std::size_t at = std::string::npos, bytes = 0;
    std::size_t which = 0;
  };

  bool step(ReplyDelta& out);  ///< false: more text is needed
  bool step_reasoning(ReplyDelta& out);
  bool step_start();
  bool step_content(ReplyDelta& out);
  bool step_between(ReplyDelta& out);
  bool step_head(ReplyDelta& out);
  bool step_fence();
  bool step_arguments(ReplyDelta& out);
  bool step_json(ReplyDelta& out);
  bool scan(char c, ReplyDelta& out);  ///< false: no call, the raw text is content
  void end_value(ReplyDelta& out);

  [[nodiscard]] Hit find(std::span<const std::string_view> markers) const;
  /// How much of what is pending can no longer begin one of the markers.
  [[nodiscard]] std::size_t certain(std::span<const std::string_view> markers) const;
  void emit_trimmed(std::string& target, std::size_t bytes, const Hit& hit);
  void begin_call(std::string_view name, ReplyDelta& out);
  void add_arguments(std::string_view text, ReplyDelta& out);

  ReplyStyle style_;
  State state_;
  std::string pending_;
  std::int32_t calls_ = 0;
  bool fresh_ = true;  ///< nothing of the current reasoning or content has come out yet
  bool after_reasoning_ = false;
  bool fenced_ = false;         ///< arguments stand in a ```json fence
  bool any_arguments_ = false;  ///< of the current call
  JsonScan json_;
};

}  // namespace hp

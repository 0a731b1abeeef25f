// A conversation as templates see it, and the encoders that turn it into tokens: one hand-written encoder per model
// family, golden-tested against the family's Jinja template. User text can never spell a special token.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/tokenizer.h"

namespace hp {

enum class ChatRole { system, developer, user, assistant, tool };

struct ChatToolCall {
  std::string id, name;
  std::string arguments;  ///< JSON text as the client or the model wrote it
};

struct ChatMessage {
  ChatRole role = ChatRole::user;
  std::string content;
  std::string reasoning;  ///< reasoning_content of an assistant's turn
  std::string name;
  std::string tool_call_id;              ///< role tool
  std::vector<ChatToolCall> tool_calls;  ///< role assistant
  bool prefix = false;                   ///< DeepSeek prefix completion: the last assistant message is to be continued
};

struct ChatTool {
  std::string name, description;
  std::string parameters;  ///< JSON schema text
  std::string raw;         ///< the whole tool object as JSON text
};

struct Conversation {
  std::vector<ChatMessage> messages;
  std::vector<ChatTool> tools;   ///< what the template shows the model: leave out for tool_choice none
  std::optional<bool> thinking;  ///< empty: the family's default; without effect on families that cannot choose
};

/// chatml: also Qwen2 and Qwen2.5. deepseek_v3: also V2.5 and V3-0324. deepseek_r1: also the distills of January 2025;
/// deepseek_r1_0528: also R1-0528-Qwen3-8B.
enum class ChatFamily {
  chatml,
  qwen3,
  llama3,
  deepseek_llm,
  deepseek_v2,
  deepseek_v3,
  deepseek_r1,
  deepseek_r1_0528,
  deepseek_v31
};
std::string_view to_string(ChatFamily family);

/// A prompt in pieces: a literal piece is exactly one special token of the template; all other text, the template's own
/// words too, is plain. Neighbouring plain pieces are encoded as one run, as the reference does.
struct PromptPiece {
  bool literal = false;
  std::string text;
};

/// Which family a chat template or the special tokens of a vocabulary belong to; an error lists the known ones.
Result<ChatFamily> detect_chat_family(const Tokenizer& tokenizer);

/// How a model of the family writes tool calls; none: it was never taught to.
enum class ToolSyntax { none, qwen, deepseek_v3, deepseek_v31 };
ToolSyntax tool_syntax(ChatFamily family);
/// The answer to `conversation` begins inside of the reasoning: the prompt ends with an open <think>.
bool opens_in_reasoning(ChatFamily family, const Conversation& conversation);
/// The family's models may write <think>…</think> before the answer.
bool may_reason(ChatFamily family);

/// The conversation, opened for the assistant's next turn, or its last message left open for `prefix`. An
/// invalid_argument error names the message or the parameter that the family has no words for.
Result<std::vector<PromptPiece>> render_chat(ChatFamily family, const Conversation& conversation);

/// render_chat, then tokens. A default system message that the tokenizer's template has (SmolLM2, Qwen2) is put first.
Result<std::vector<TokenId>> encode_chat(ChatFamily family, const Conversation& conversation,
                                         const Tokenizer& tokenizer);

/// A fill-in-the-middle prompt: the model writes what belongs between the two.
Result<std::vector<TokenId>> encode_fill_in(std::string_view prefix, std::string_view suffix,
                                            const Tokenizer& tokenizer);

}  // namespace hp

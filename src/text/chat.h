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
  std::vector<ChatTool> tools;
  std::optional<bool> thinking;  ///< empty: the family's default
};

enum class ChatFamily { chatml, llama3, deepseek_llm, deepseek_v2, deepseek_v3, deepseek_r1, deepseek_v31 };
std::string_view to_string(ChatFamily family);

/// A prompt in pieces: a literal piece is exactly one special token of the template; all other text, the template's own
/// words too, is plain. Neighbouring plain pieces are encoded as one run, as the reference does.
struct PromptPiece {
  bool literal = false;
  std::string text;
};

/// Which family a chat template or the special tokens of a vocabulary belong to; an error lists the known ones.
Result<ChatFamily> detect_chat_family(const Tokenizer& tokenizer);

/// The conversation, opened for the assistant's next turn.
Result<std::vector<PromptPiece>> render_chat(ChatFamily family, const Conversation& conversation);

/// render_chat, then tokens. A default system message that the tokenizer's template has (SmolLM2, Qwen2) is put first.
Result<std::vector<TokenId>> encode_chat(ChatFamily family, const Conversation& conversation,
                                         const Tokenizer& tokenizer);

}  // namespace hp

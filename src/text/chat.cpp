// One encoder per family, written after the family's Jinja template. Not here yet: tools and tool calls, and the dated
// system text of Llama 3.1 and later; both are refused with an error, never dropped silently.
#include "text/chat.h"

#include <string>

namespace hp {
namespace {

constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
constexpr std::string_view kSmollmSystem = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr std::string_view kQwenSystem = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

class Pieces {
 public:
  Pieces& special(std::string_view spelling) {
    pieces_.push_back({.literal = true, .text = std::string(spelling)});
    return *this;
  }
  Pieces& text(std::string_view text) {
    if (!text.empty()) pieces_.push_back({.literal = false, .text = std::string(text)});
    return *this;
  }
  std::vector<PromptPiece> take() { return std::move(pieces_); }

 private:
  std::vector<PromptPiece> pieces_;
};

bool is_system(ChatRole role) {
  return role == ChatRole::system || role == ChatRole::developer;
}

std::string_view role_name(ChatRole role) {
  if (is_system(role)) return "system";
  return role == ChatRole::user ? "user" : "assistant";
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\v\f";
  const std::size_t first = text.find_first_not_of(kBlank);
  return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

Status check(const Conversation& conversation) {
  const auto& messages = conversation.messages;
  if (messages.empty()) return fail(ErrorCode::invalid_argument, "messages is empty; expected at least one message");
  if (!conversation.tools.empty()) {
    return fail(ErrorCode::unsupported, "tools are not supported yet; leave 'tools' out");
  }
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == ChatRole::tool || !messages[i].tool_calls.empty()) {
      return fail(ErrorCode::unsupported, "messages[{}] is a tool message, which is not supported yet", i);
    }
    if (messages[i].prefix && (i + 1 != messages.size() || messages[i].role != ChatRole::assistant)) {
      return fail(ErrorCode::invalid_argument,
                  "messages[{}] has prefix, which only the last assistant message may have", i);
    }
  }
  return {};
}

/// <|im_start|>role\ncontent<|im_end|>\n ... <|im_start|>assistant\n
std::vector<PromptPiece> render_chatml(const Conversation& conversation) {
  Pieces out;
  for (const ChatMessage& message : conversation.messages) {
    out.special("<|im_start|>").text(role_name(message.role)).text("\n").text(message.content);
    if (message.prefix) return out.take();
    out.special("<|im_end|>").text("\n");
  }
  out.special("<|im_start|>").text("assistant\n");
  return out.take();
}

/// <|begin_of_text|>(<|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>)*, content trimmed.
std::vector<PromptPiece> render_llama3(const Conversation& conversation) {
  Pieces out;
  const auto header = [&](std::string_view role) {
    out.special("<|start_header_id|>").text(role).special("<|end_header_id|>").text("\n\n");
  };
  out.special("<|begin_of_text|>");
  for (const ChatMessage& message : conversation.messages) {
    header(role_name(message.role));
    if (message.prefix) return out.text(message.content).take();
    out.text(trimmed(message.content)).special("<|eot_id|>");
  }
  header("assistant");
  return out.take();
}

/// BOS, then "User: q\n\n", "Assistant: aEOS", a system message as "text\n\n"; opened by "Assistant:".
std::vector<PromptPiece> render_deepseek_llm(const Conversation& conversation) {
  Pieces out;
  out.special(kBos);
  for (const ChatMessage& message : conversation.messages) {
    if (is_system(message.role)) {
      out.text(message.content).text("\n\n");
    } else if (message.role == ChatRole::user) {
      out.text("User: ").text(message.content).text("\n\n");
    } else {
      out.text("Assistant: ").text(message.content);
      if (message.prefix) return out.take();
      out.special(kEos);
    }
  }
  return out.text("Assistant:").take();
}

/// BOS system (<｜User｜>q | <｜Assistant｜>aEOS)* <｜Assistant｜>; R1 opens with <think>\n, V3.1 with <think> or
/// </think>. Reasoning of earlier turns is left out.
std::vector<PromptPiece> render_deepseek_v3(ChatFamily family, const Conversation& conversation) {
  Pieces out;
  out.special(kBos);
  bool first_system = true;
  for (const ChatMessage& message : conversation.messages) {
    if (!is_system(message.role)) continue;
    if (!first_system) out.text("\n\n");
    out.text(message.content);
    first_system = false;
  }
  for (const ChatMessage& message : conversation.messages) {
    if (is_system(message.role)) continue;
    if (message.role == ChatRole::user) {
      out.special("<｜User｜>").text(message.content);
      continue;
    }
    std::string_view content = message.content;
    if (family != ChatFamily::deepseek_v3 && !message.prefix) {
      if (const std::size_t end = content.rfind("</think>"); end != std::string_view::npos)
        content.remove_prefix(end + 8);
    }
    out.special("<｜Assistant｜>");
    if (family == ChatFamily::deepseek_v31) out.special("</think>");
    out.text(content);
    if (message.prefix) return out.take();
    out.special(kEos);
  }
  out.special("<｜Assistant｜>");
  if (family == ChatFamily::deepseek_r1) out.special("<think>").text("\n");
  if (family == ChatFamily::deepseek_v31) out.special(conversation.thinking.value_or(false) ? "<think>" : "</think>");
  return out.take();
}

std::string_view default_system(const Tokenizer& tokenizer) {
  const std::string& chat_template = tokenizer.source().chat_template;
  for (const std::string_view system : {kSmollmSystem, kQwenSystem}) {
    if (chat_template.find(system) != std::string::npos) return system;
  }
  return {};
}

}  // namespace

std::string_view to_string(ChatFamily family) {
  switch (family) {
    case ChatFamily::chatml:
      return "chatml";
    case ChatFamily::llama3:
      return "llama3";
    case ChatFamily::deepseek_llm:
      return "deepseek-llm";
    case ChatFamily::deepseek_v2:
      return "deepseek-v2";
    case ChatFamily::deepseek_v3:
      return "deepseek-v3";
    case ChatFamily::deepseek_r1:
      return "deepseek-r1";
    case ChatFamily::deepseek_v31:
      return "deepseek-v3.1";
  }
  return "unknown";
}

Result<ChatFamily> detect_chat_family(const Tokenizer& tokenizer) {
  const std::string& chat_template = tokenizer.source().chat_template;
  const auto mentions = [&](std::string_view text) { return chat_template.find(text) != std::string::npos; };
  if (tokenizer.special("<｜User｜>") && tokenizer.special("<｜Assistant｜>") && tokenizer.special(kBos)) {
    if (mentions("<｜Assistant｜><think>\\n") || mentions("<｜Assistant｜><think>\n")) return ChatFamily::deepseek_r1;
    if (mentions("thinking")) return ChatFamily::deepseek_v31;
    return ChatFamily::deepseek_v3;
  }
  if (tokenizer.special("<|im_start|>") && tokenizer.special("<|im_end|>")) return ChatFamily::chatml;
  if (tokenizer.special("<|start_header_id|>") && tokenizer.special("<|eot_id|>") && !mentions("Cutting Knowledge")) {
    return ChatFamily::llama3;
  }
  if (tokenizer.special(kBos) && mentions("User: ")) return ChatFamily::deepseek_v2;
  return fail(ErrorCode::unsupported,
              "the model's chat template is of no known family (chatml, llama3, deepseek-v2, deepseek-v3, deepseek-r1, "
              "deepseek-v3.1); use plain completions with this model");
}

Result<std::vector<PromptPiece>> render_chat(ChatFamily family, const Conversation& conversation) {
  HP_TRY_VOID(check(conversation));
  switch (family) {
    case ChatFamily::chatml:
      return render_chatml(conversation);
    case ChatFamily::llama3:
      return render_llama3(conversation);
    case ChatFamily::deepseek_llm:
    case ChatFamily::deepseek_v2:
      return render_deepseek_llm(conversation);
    case ChatFamily::deepseek_v3:
    case ChatFamily::deepseek_r1:
    case ChatFamily::deepseek_v31:
      break;
  }
  return render_deepseek_v3(family, conversation);
}

Result<std::vector<TokenId>> encode_chat(ChatFamily family, const Conversation& conversation,
                                         const Tokenizer& tokenizer) {
  Conversation whole = conversation;
  const std::string_view system = default_system(tokenizer);
  if (!system.empty() && !whole.messages.empty() && !is_system(whole.messages[0].role)) {
    whole.messages.insert(whole.messages.begin(),
                          ChatMessage{.role = ChatRole::system, .content = std::string(system)});
  }
  HP_TRY(const auto pieces, render_chat(family, whole));
  std::vector<TokenId> ids;
  std::string run;
  for (const PromptPiece& piece : pieces) {
    const auto special = piece.literal ? tokenizer.special(piece.text) : std::nullopt;
    if (!special) {
      run += piece.text;
      continue;
    }
    tokenizer.encode_text(run, ids);
    run.clear();
    ids.push_back(*special);
  }
  tokenizer.encode_text(run, ids);
  return ids;
}

}  // namespace hp

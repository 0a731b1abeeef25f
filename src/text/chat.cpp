// Which family a model belongs to, what a family can express, and the way from pieces to tokens. The encoders
// themselves: chat_deepseek.cpp, chat_chatml.cpp. Not here: the dated system text of Llama 3.1 and later, refused.
#include "text/chat.h"

#include <array>
#include <string>

#include "text/chat_encoders.h"

namespace hp {
namespace {

constexpr std::string_view kSmollmSystem = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr std::string_view kQwenSystem = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
constexpr std::string_view kQwen2System = "You are a helpful assistant.";

tl::unexpected<Error> bad(std::string where, std::string_view what) {
  return fail(Error{
      .code = ErrorCode::invalid_argument, .message = fmt::format("'{}': {}", where, what), .where = std::move(where)});
}

Status check(ChatFamily family, const Conversation& conversation) {
  const auto& messages = conversation.messages;
  if (messages.empty()) return bad("messages", "expected at least one message, found none");
  const bool tools = tool_syntax(family) != ToolSyntax::none;
  if (!tools && !conversation.tools.empty()) {
    return bad("tools", fmt::format("models of the family {} have no tool calls; leave it out", to_string(family)));
  }
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (!tools && (messages[i].role == ChatRole::tool || !messages[i].tool_calls.empty())) {
      return bad(fmt::format("messages[{}]", i),
                 fmt::format("models of the family {} have no tool messages", to_string(family)));
    }
    if (!messages[i].prefix) continue;
    if (i + 1 != messages.size() || messages[i].role != ChatRole::assistant || !messages[i].tool_calls.empty()) {
      return bad(fmt::format("messages[{}].prefix", i),
                 "only the last message, an assistant's without calls, may have it");
    }
  }
  return {};
}

std::string_view default_system(const Tokenizer& tokenizer) {
  const std::string& chat_template = tokenizer.source().chat_template;
  for (const std::string_view system : {kSmollmSystem, kQwenSystem}) {
    if (chat_template.find(system) != std::string::npos) return system;
  }
  // Qwen2 and Qwen1.5 print this one; other templates mention the sentence in comments or conditions.
  const bool qwen2 = chat_template.find("system\\n" + std::string(kQwen2System)) != std::string::npos;
  return qwen2 ? kQwen2System : std::string_view();
}

bool is_system(ChatRole role) {
  return role == ChatRole::system || role == ChatRole::developer;
}

}  // namespace

std::string_view to_string(ChatFamily family) {
  static constexpr std::array<std::string_view, 9> kNames = {
      "chatml",      "qwen3",       "llama3",           "deepseek-llm", "deepseek-v2",
      "deepseek-v3", "deepseek-r1", "deepseek-r1-0528", "deepseek-v3.1"};
  return kNames[static_cast<std::size_t>(family)];
}

ToolSyntax tool_syntax(ChatFamily family) {
  switch (family) {
    case ChatFamily::chatml:
    case ChatFamily::qwen3:
      return ToolSyntax::qwen;
    case ChatFamily::deepseek_v3:
    case ChatFamily::deepseek_r1:
    case ChatFamily::deepseek_r1_0528:
      return ToolSyntax::deepseek_v3;
    case ChatFamily::deepseek_v31:
      return ToolSyntax::deepseek_v31;
    case ChatFamily::llama3:
    case ChatFamily::deepseek_llm:
    case ChatFamily::deepseek_v2:
      break;
  }
  return ToolSyntax::none;
}

bool may_reason(ChatFamily family) {
  return family == ChatFamily::qwen3 || family == ChatFamily::deepseek_r1 || family == ChatFamily::deepseek_r1_0528 ||
         family == ChatFamily::deepseek_v31;
}

bool opens_in_reasoning(ChatFamily family, const Conversation& conversation) {
  const auto& messages = conversation.messages;
  if (messages.empty()) return false;
  const ChatMessage& last = messages.back();
  if (family == ChatFamily::deepseek_v31) {
    const bool asked = last.prefix ? messages.size() > 1 && messages[messages.size() - 2].role == ChatRole::user
                                   : last.role == ChatRole::user;
    return asked && conversation.thinking.value_or(false);
  }
  return family == ChatFamily::deepseek_r1 && !last.prefix && last.role != ChatRole::tool &&
         conversation.thinking.value_or(true);
}

Result<ChatFamily> detect_chat_family(const Tokenizer& tokenizer) {
  const std::string& chat_template = tokenizer.source().chat_template;
  const auto mentions = [&](std::string_view text) { return chat_template.find(text) != std::string::npos; };
  if (tokenizer.special("<｜User｜>") && tokenizer.special("<｜Assistant｜>") &&
      tokenizer.special("<｜begin▁of▁sentence｜>")) {
    if (mentions("<｜Assistant｜><think>\\n") || mentions("<｜Assistant｜><think>\n")) return ChatFamily::deepseek_r1;
    if (mentions("<｜Assistant｜></think>")) return ChatFamily::deepseek_v31;
    if (mentions("</think>")) return ChatFamily::deepseek_r1_0528;
    return ChatFamily::deepseek_v3;
  }
  if (tokenizer.special("<|im_start|>") && tokenizer.special("<|im_end|>")) {
    return mentions("enable_thinking") ? ChatFamily::qwen3 : ChatFamily::chatml;
  }
  if (tokenizer.special("<|start_header_id|>") && tokenizer.special("<|eot_id|>") && !mentions("Cutting Knowledge")) {
    return ChatFamily::llama3;
  }
  if (tokenizer.special("<｜begin▁of▁sentence｜>") && mentions("User: ")) return ChatFamily::deepseek_v2;
  return fail(ErrorCode::unsupported,
              "the model's chat template is of no known family (chatml, qwen3, llama3, deepseek-v2, deepseek-v3, "
              "deepseek-r1, deepseek-r1-0528, deepseek-v3.1); use plain completions with this model");
}

Result<std::vector<PromptPiece>> render_chat(ChatFamily family, const Conversation& conversation) {
  HP_TRY_VOID(check(family, conversation));
  switch (family) {
    case ChatFamily::chatml:
      return render_chatml(conversation);
    case ChatFamily::qwen3:
      return render_qwen3(conversation);
    case ChatFamily::llama3:
      return render_llama3(conversation);
    case ChatFamily::deepseek_llm:
    case ChatFamily::deepseek_v2:
      return render_deepseek_llm(conversation);
    case ChatFamily::deepseek_v31:
      return render_deepseek_v31(conversation);
    case ChatFamily::deepseek_v3:
    case ChatFamily::deepseek_r1:
    case ChatFamily::deepseek_r1_0528:
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

Result<std::vector<TokenId>> encode_fill_in(std::string_view prefix, std::string_view suffix,
                                            const Tokenizer& tokenizer) {
  struct Markers {
    std::string_view before, hole, after;
  };
  static constexpr Markers kKnown[] = {
      {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},  // DeepSeek
      {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},  // Qwen2.5-Coder
      {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},        // StarCoder
  };
  for (const Markers& markers : kKnown) {
    const auto before = tokenizer.special(markers.before);
    const auto hole = tokenizer.special(markers.hole);
    const auto after = tokenizer.special(markers.after);
    if (!before || !hole || !after) continue;
    std::vector<TokenId> ids;
    if (tokenizer.source().add_bos && tokenizer.source().bos) ids.push_back(*tokenizer.source().bos);
    ids.push_back(*before);
    tokenizer.encode_text(prefix, ids);
    ids.push_back(*hole);
    tokenizer.encode_text(suffix, ids);
    ids.push_back(*after);
    return ids;
  }
  return bad("suffix", "this model's vocabulary has no fill-in-the-middle tokens");
}

}  // namespace hp

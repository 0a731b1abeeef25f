// ChatML with Qwen's conventions for tools and thinking, and Llama 3's headers. Sources: the chat_template of
// Qwen/Qwen2.5-7B-Instruct, Qwen/Qwen3-8B, HuggingFaceTB/SmolLM2-135M-Instruct and meta-llama/Meta-Llama-3-8B-Instruct.
#include "text/chat_encoders.h"
#include "text/prompt_pieces.h"

namespace hp {
namespace {

constexpr std::string_view kToolsHead =
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
constexpr std::string_view kToolsTail =
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
    "<args-json-object>}\n</tool_call>";

std::string_view role_name(ChatRole role) {
  switch (role) {
    case ChatRole::user:
      return "user";
    case ChatRole::assistant:
      return "assistant";
    case ChatRole::tool:
      return "tool";
    case ChatRole::system:
    case ChatRole::developer:
      break;
  }
  return "system";
}

bool starts_with_system(const Conversation& conversation) {
  return role_name(conversation.messages.front().role) == "system";
}

void add_tools(PromptPieces& out, const Conversation& conversation) {
  out.special("<|im_start|>").text("system\n");
  const bool system = starts_with_system(conversation);
  if (system) out.text(conversation.messages.front().content).text("\n\n");
  out.markup(kToolsHead);
  for (const ChatTool& tool : conversation.tools) out.text("\n").text(python_json(tool.raw));
  out.markup(kToolsTail).special("<|im_end|>").text("\n");
}

/// Tool messages that follow each other share one user turn.
void add_tool_answer(PromptPieces& out, const Conversation& conversation, std::size_t at) {
  const auto is_tool = [&](std::size_t i) {
    return i < conversation.messages.size() && conversation.messages[i].role == ChatRole::tool;
  };
  if (at == 0 || !is_tool(at - 1)) out.special("<|im_start|>").text("user");
  out.text("\n").special("<tool_response>").text("\n").text(conversation.messages[at].content).text("\n");
  out.special("</tool_response>");
  if (!is_tool(at + 1)) out.special("<|im_end|>").text("\n");
}

void add_call(PromptPieces& out, const ChatToolCall& call) {
  out.special("<tool_call>").text("\n{\"name\": \"").text(call.name).text("\", \"arguments\": ");
  out.text(python_json(call.arguments.empty() ? "{}" : call.arguments)).text("}\n").special("</tool_call>");
}

std::string_view without_newlines(std::string_view text, bool front, bool back) {
  while (front && text.starts_with('\n')) text.remove_prefix(1);
  while (back && text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

/// Qwen3: everything after the last question belongs to the turn in progress and keeps its reasoning.
std::size_t last_question(const Conversation& conversation) {
  const auto& messages = conversation.messages;
  for (std::size_t i = messages.size(); i-- > 0;) {
    const std::string_view content = messages[i].content;
    const bool answer = content.starts_with("<tool_response>") && content.ends_with("</tool_response>");
    if (messages[i].role == ChatRole::user && !answer) return i;
  }
  return messages.size() - 1;
}

void add_qwen3_assistant(PromptPieces& out, const ChatMessage& message, bool in_progress, bool last) {
  constexpr std::string_view kEnd = "</think>";
  std::string_view content = message.content, reasoning = message.reasoning;
  const std::size_t end = content.rfind(kEnd);
  if (reasoning.empty() && end != std::string_view::npos) {
    std::string_view before = without_newlines(content.substr(0, content.find(kEnd)), false, true);
    if (const std::size_t begin = before.rfind("<think>"); begin != std::string_view::npos)
      before.remove_prefix(begin + 7);
    reasoning = without_newlines(before, true, false);
    content = without_newlines(content.substr(end + kEnd.size()), true, false);
  }
  out.special("<|im_start|>").text("assistant\n");
  if (in_progress && (last || !reasoning.empty())) {
    out.special("<think>").text("\n").text(without_newlines(reasoning, true, true)).text("\n").special("</think>");
    content = without_newlines(content, true, false);
    out.text("\n\n");
  }
  out.text(content);
  for (std::size_t i = 0; i < message.tool_calls.size(); ++i) {
    if (i > 0 || !content.empty()) out.text("\n");
    add_call(out, message.tool_calls[i]);
  }
}

}  // namespace

/// <|im_start|>role\ncontent<|im_end|>\n ... <|im_start|>assistant\n
std::vector<PromptPiece> render_chatml(const Conversation& conversation) {
  PromptPieces out;
  if (!conversation.tools.empty()) add_tools(out, conversation);
  for (std::size_t i = 0; i < conversation.messages.size(); ++i) {
    const ChatMessage& message = conversation.messages[i];
    if (i == 0 && !conversation.tools.empty() && starts_with_system(conversation)) continue;
    if (message.role == ChatRole::tool) {
      add_tool_answer(out, conversation, i);
      continue;
    }
    out.special("<|im_start|>").text(role_name(message.role));
    if (message.tool_calls.empty() || !message.content.empty()) out.text("\n").text(message.content);
    if (message.prefix) return out.take();
    for (const ChatToolCall& call : message.tool_calls) {
      out.text("\n");
      add_call(out, call);
    }
    out.special("<|im_end|>").text("\n");
  }
  out.special("<|im_start|>").text("assistant\n");
  return out.take();
}

std::vector<PromptPiece> render_qwen3(const Conversation& conversation) {
  PromptPieces out;
  if (!conversation.tools.empty()) add_tools(out, conversation);
  const std::size_t question = last_question(conversation);
  for (std::size_t i = 0; i < conversation.messages.size(); ++i) {
    const ChatMessage& message = conversation.messages[i];
    if (i == 0 && !conversation.tools.empty() && starts_with_system(conversation)) continue;
    if (message.role == ChatRole::tool) {
      add_tool_answer(out, conversation, i);
    } else if (message.role == ChatRole::assistant && message.prefix) {
      out.special("<|im_start|>").text("assistant\n");
      if (!conversation.thinking.value_or(true)) out.special("<think>").text("\n\n").special("</think>").text("\n\n");
      return out.text(message.content).take();
    } else if (message.role == ChatRole::assistant) {
      add_qwen3_assistant(out, message, i > question, i + 1 == conversation.messages.size());
      out.special("<|im_end|>").text("\n");
    } else {
      out.special("<|im_start|>").text(role_name(message.role)).text("\n").text(message.content);
      out.special("<|im_end|>").text("\n");
    }
  }
  out.special("<|im_start|>").text("assistant\n");
  if (!conversation.thinking.value_or(true)) out.special("<think>").text("\n\n").special("</think>").text("\n\n");
  return out.take();
}

/// <|begin_of_text|>(<|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>)*, content trimmed.
std::vector<PromptPiece> render_llama3(const Conversation& conversation) {
  PromptPieces out;
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

}  // namespace hp

// DeepSeek's chat formats. Sources: the chat_template of deepseek-ai/DeepSeek-V2-Chat, DeepSeek-V3-0324, DeepSeek-R1,
// DeepSeek-R1-0528 and DeepSeek-V3.1; tool descriptions, which those templates leave to the caller: vLLM's tool chat
// templates for V3 and R1 and the model card of DeepSeek-V3.1.
#include "text/chat_encoders.h"
#include "text/prompt_pieces.h"

namespace hp {
namespace {

constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";

constexpr std::string_view kV3ToolsHead =
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
constexpr std::string_view kV3ToolsTail =
    "\n</tools>\n\nFor function call returns, you should first print <｜tool▁calls▁begin｜>\n"
    "For each function call, you should return object like:\n"
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜><function_name>\n```json\n<function_arguments_in_json_format>\n```"
    "<｜tool▁call▁end｜>\nAt the end of function call returns, you should print "
    "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>";
constexpr std::string_view kR1ToolsHead =
    "\n\nYou are a helpful assistant with tool calling capabilities. When a tool call is needed, you MUST use the "
    "following format to issue the "
    "call:\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>FUNCTION_NAME\n"
    "```json\n{\"param1\": \"value1\", \"param2\": \"value2\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>\n\n"
    "Make sure the JSON is valid.## Tools\n\n### Function\n\nYou have the following functions available:\n\n";
constexpr std::string_view kV31ToolsTail =
    "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>"
    "{additional_tool_calls}<｜tool▁calls▁end｜>\n\nWhere:\n\n"
    "- `tool_call_name` must be an exact match to one of the available tools\n"
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
    "- For multiple tool calls, chain them directly without separators or spaces\n";

bool is_system(ChatRole role) {
  return role == ChatRole::system || role == ChatRole::developer;
}

/// All system messages, wherever they stand, joined by an empty line.
void add_systems(PromptPieces& out, const Conversation& conversation) {
  bool first = true;
  for (const ChatMessage& message : conversation.messages) {
    if (!is_system(message.role)) continue;
    if (!first) out.text("\n\n");
    out.text(message.content);
    first = false;
  }
}

void add_v3_tools(PromptPieces& out, ChatFamily family, const Conversation& conversation) {
  if (conversation.tools.empty()) return;
  if (family == ChatFamily::deepseek_v3) {
    out.markup(kV3ToolsHead);
    for (const ChatTool& tool : conversation.tools) out.text("\n").text(python_json(tool.raw));
    out.markup(kV3ToolsTail);
    return;
  }
  out.markup(kR1ToolsHead);
  for (const ChatTool& tool : conversation.tools) {
    out.text("\n```json\n").text(python_json(tool.raw)).text("\n```\n");
  }
}

/// What stands after an earlier turn's reasoning, should a client have left that in the content.
std::string_view after_think(std::string_view content, bool last) {
  constexpr std::string_view kEnd = "</think>";
  const std::size_t at = last ? content.rfind(kEnd) : content.find(kEnd);
  return at == std::string_view::npos ? content : content.substr(at + kEnd.size());
}

void add_v3_calls(PromptPieces& out, const std::vector<ChatToolCall>& calls) {
  out.special("<｜tool▁calls▁begin｜>");
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (i > 0) out.text("\n");
    out.special("<｜tool▁call▁begin｜>").text("function").special("<｜tool▁sep｜>").text(calls[i].name);
    out.text("\n```json\n").text(calls[i].arguments).text("\n```").special("<｜tool▁call▁end｜>");
  }
  out.special("<｜tool▁calls▁end｜>").special(kEos);
}

}  // namespace

/// BOS, then "User: q\n\n", "Assistant: aEOS", a system message as "text\n\n"; opened by "Assistant:".
std::vector<PromptPiece> render_deepseek_llm(const Conversation& conversation) {
  PromptPieces out;
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

/// BOS system tools (<｜User｜>q<｜Assistant｜>aEOS)*. R1 writes <｜Assistant｜> with the answer instead of the
/// question, which differs where two questions follow each other, and opens its turn with <think>\n.
std::vector<PromptPiece> render_deepseek_v3(ChatFamily family, const Conversation& conversation) {
  const bool r1 = family == ChatFamily::deepseek_r1;
  PromptPieces out;
  out.special(kBos);
  add_systems(out, conversation);
  add_v3_tools(out, family, conversation);
  bool after_user = false, in_outputs = false, any_output = false;
  for (const ChatMessage& message : conversation.messages) {
    if (is_system(message.role)) continue;
    if (message.role == ChatRole::user) {
      out.special(kUser).text(message.content);
      if (!r1) out.special(kAssistant);
      after_user = true;
      in_outputs = false;
    } else if (message.role == ChatRole::tool) {
      if (any_output) {
        out.text("\n");
      } else {
        out.special("<｜tool▁outputs▁begin｜>");
      }
      out.special("<｜tool▁output▁begin｜>").text(message.content).special("<｜tool▁output▁end｜>");
      in_outputs = any_output = true;
      after_user = false;
    } else {
      if (in_outputs) out.special("<｜tool▁outputs▁end｜>");
      if (r1 && !in_outputs) out.special(kAssistant);
      // R1's template looks for reasoning only in answers that follow a question, not the outputs of tools.
      const bool keep = family == ChatFamily::deepseek_v3 || message.prefix || (r1 && in_outputs);
      out.text(keep ? std::string_view(message.content) : after_think(message.content, true));
      if (message.prefix) return out.take();
      if (message.tool_calls.empty()) {
        out.special(kEos);
      } else {
        add_v3_calls(out, message.tool_calls);
        any_output = false;
      }
      after_user = in_outputs = false;
    }
  }
  if (in_outputs) {
    out.special("<｜tool▁outputs▁end｜>");
  } else if (r1 || !after_user) {
    out.special(kAssistant);
  }
  if (r1 && !in_outputs) {
    out.special("<think>").text("\n");
    if (!conversation.thinking.value_or(true)) out.text("\n").special("</think>").text("\n\n");
  } else if (family == ChatFamily::deepseek_r1_0528 && !conversation.thinking.value_or(true)) {
    out.special("<think>").text("\n\n").special("</think>").text("\n\n");
  }
  return out.take();
}

/// BOS system tools (<｜User｜>q<｜Assistant｜></think>aEOS)*<｜Assistant｜> and <think> or </think>.
std::vector<PromptPiece> render_deepseek_v31(const Conversation& conversation) {
  const bool thinking = conversation.thinking.value_or(false);
  PromptPieces out;
  out.special(kBos);
  add_systems(out, conversation);
  if (!conversation.tools.empty()) {
    out.text("\n\n## Tools\nYou have access to the following tools:\n");
    for (const ChatTool& tool : conversation.tools) {
      out.text("\n### ").text(tool.name).text("\nDescription: ").text(tool.description).text("\n\nParameters: ");
      out.text(python_json(tool.parameters.empty() ? "{}" : tool.parameters)).text("\n");
    }
    out.markup(kV31ToolsTail);
  }
  bool after_user = false, in_outputs = false;
  for (const ChatMessage& message : conversation.messages) {
    if (is_system(message.role)) continue;
    if (message.role == ChatRole::user) {
      out.special(kUser).text(message.content);
      after_user = true;
      in_outputs = false;
    } else if (message.role == ChatRole::tool) {
      out.special("<｜tool▁output▁begin｜>").text(message.content).special("<｜tool▁output▁end｜>");
      after_user = false;
      in_outputs = true;
    } else {
      if (after_user) out.special(kAssistant).special(message.prefix && thinking ? "<think>" : "</think>");
      const bool plain = in_outputs || message.prefix || !message.tool_calls.empty();
      out.text(plain ? std::string_view(message.content) : after_think(message.content, false));
      if (message.prefix) return out.take();
      if (!message.tool_calls.empty()) out.special("<｜tool▁calls▁begin｜>");
      for (const ChatToolCall& call : message.tool_calls) {
        out.special("<｜tool▁call▁begin｜>").text(call.name).special("<｜tool▁sep｜>").text(call.arguments);
        out.special("<｜tool▁call▁end｜>");
      }
      if (!message.tool_calls.empty()) out.special("<｜tool▁calls▁end｜>");
      out.special(kEos);
      after_user = in_outputs = false;
    }
  }
  if (after_user) out.special(kAssistant).special(thinking ? "<think>" : "</think>");
  return out.take();
}

}  // namespace hp

#include "text/chat.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace hp {
namespace {

Conversation greeting(std::string text) {
  Conversation conversation;
  conversation.messages.push_back({.role = ChatRole::user, .content = std::move(text)});
  return conversation;
}

std::string joined(ChatFamily family, const Conversation& conversation) {
  const auto pieces = render_chat(family, conversation);
  std::string out;
  if (!pieces) return pieces.error().message;
  for (const PromptPiece& piece : *pieces) out += piece.text;
  return out;
}

TEST(Chat, Templates) {
  EXPECT_EQ(joined(ChatFamily::chatml, greeting("hi")), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(joined(ChatFamily::deepseek_r1, greeting("hi")),
            "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜><think>\n");
  Conversation conversation = greeting("hi");
  conversation.messages.push_back({.role = ChatRole::assistant, .content = "<think>x</think>yes"});
  conversation.messages.push_back({.role = ChatRole::user, .content = "more"});
  conversation.thinking = true;
  EXPECT_EQ(joined(ChatFamily::deepseek_v31, conversation),
            "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜></think>yes<｜end▁of▁sentence｜><｜User｜>more"
            "<｜Assistant｜><think>");
}

TEST(Chat, RefusesWhatAFamilyHasNoWordsFor) {
  EXPECT_EQ(render_chat(ChatFamily::chatml, {}).error().where, "messages");
  Conversation conversation = greeting("hi");
  conversation.tools.push_back({.name = "f", .raw = "{}"});
  EXPECT_EQ(render_chat(ChatFamily::llama3, conversation).error().where, "tools");
  EXPECT_TRUE(render_chat(ChatFamily::chatml, conversation));
  conversation = greeting("hi");
  conversation.messages.push_back({.role = ChatRole::tool, .content = "42", .tool_call_id = "1"});
  EXPECT_EQ(render_chat(ChatFamily::deepseek_v2, conversation).error().where, "messages[1]");
  conversation.messages[1] = {.role = ChatRole::user, .content = "x", .prefix = true};
  EXPECT_EQ(render_chat(ChatFamily::deepseek_v2, conversation).error().where, "messages[1].prefix");
}

TEST(Chat, OpensInReasoningExactlyWhenThePromptDoes) {
  for (const ChatFamily family : {ChatFamily::chatml, ChatFamily::qwen3, ChatFamily::deepseek_v3,
                                  ChatFamily::deepseek_r1, ChatFamily::deepseek_r1_0528, ChatFamily::deepseek_v31}) {
    for (const std::optional<bool> thinking : {std::optional<bool>(), std::optional(false), std::optional(true)}) {
      for (const int tail : {0, 1, 2}) {  // a question, an answer to continue, a tool's answer
        Conversation conversation = greeting("hi");
        conversation.thinking = thinking;
        if (tail == 1) conversation.messages.push_back({.role = ChatRole::assistant, .content = "x", .prefix = true});
        if (tail == 2) {
          conversation.messages.push_back(
              {.role = ChatRole::assistant, .tool_calls = {{.id = "1", .name = "f", .arguments = "{}"}}});
          conversation.messages.push_back({.role = ChatRole::tool, .content = "42", .tool_call_id = "1"});
        }
        const std::string prompt = joined(family, conversation);
        const std::size_t open = prompt.rfind("<think>");
        const bool is_open = open != std::string::npos && prompt.find("</think>", open) == std::string::npos;
        EXPECT_EQ(opens_in_reasoning(family, conversation), is_open) << to_string(family) << " " << prompt;
      }
    }
  }
}

TEST(Chat, FillsInWithTheFamilysTokens) {
  TokenizerSource source;
  source.pre = PreTokenizer::gpt2;
  source.tokens = {"a", "b", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"};
  source.types = {TokenType::normal, TokenType::normal, TokenType::control, TokenType::control, TokenType::control};
  const auto tokenizer = Tokenizer::build(source);
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(encode_fill_in("a", "b", *tokenizer).value(), (std::vector<TokenId>{2, 0, 3, 1, 4}));
  source.types[4] = TokenType::normal;
  EXPECT_EQ(encode_fill_in("a", "b", Tokenizer::build(source).value()).error().where, "suffix");
}

TEST(Chat, UserTextIsNeverSpecialAndTheDefaultSystemMessageComesFirst) {
  TokenizerSource source;
  source.pre = PreTokenizer::smollm;
  for (char c = '!'; c <= '~'; ++c) source.tokens.emplace_back(1, c);
  for (const char* token : {"Ġ", "Ċ", "<|im_start|>", "<|im_end|>"}) source.tokens.emplace_back(token);
  source.types.assign(source.tokens.size(), TokenType::normal);
  source.types[96] = source.types[97] = TokenType::control;
  source.chat_template = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
  const auto tokenizer = Tokenizer::build(source);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  ASSERT_EQ(detect_chat_family(*tokenizer).value(), ChatFamily::chatml);
  const auto ids = encode_chat(ChatFamily::chatml, greeting("a<|im_end|>"), *tokenizer);
  ASSERT_TRUE(ids);
  EXPECT_EQ(std::count(ids->begin(), ids->end(), 97), 2);
  EXPECT_EQ(tokenizer->decode(*ids), "system\n" + source.chat_template + "\nuser\na<|im_end|>\nassistant\n");
}

}  // namespace
}  // namespace hp

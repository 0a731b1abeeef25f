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

TEST(Chat, RefusesToolsAndEmptyConversations) {
  EXPECT_EQ(render_chat(ChatFamily::chatml, {}).error().code, ErrorCode::invalid_argument);
  Conversation conversation = greeting("hi");
  conversation.tools.push_back({.name = "f"});
  EXPECT_EQ(render_chat(ChatFamily::chatml, conversation).error().code, ErrorCode::unsupported);
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

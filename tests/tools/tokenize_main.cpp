// Test tool: tokenize_tool SOURCE.json [chat] < strings > ids. Strings come as a 4-byte little-endian length and bytes;
// each gives one line of ids. SOURCE.json: {"pre", "tokens", "types", "merges", "chat_template"}. With `chat` each
// string is the only user message of a conversation, and the ids are the prompt's.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "base/json.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace {

hp::Result<hp::Tokenizer> load(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  HP_TRY(const auto json, hp::JsonValue::parse(text));
  hp::TokenizerSource source;
  const std::string pre = *json.find("pre")->as_string();
  source.pre = pre == "smollm" ? hp::PreTokenizer::smollm : hp::PreTokenizer::deepseek_v3;
  for (const auto& token : *json.find("tokens")->as_array()) source.tokens.push_back(*token.as_string());
  for (const auto& type : *json.find("types")->as_array()) {
    source.types.push_back(static_cast<hp::TokenType>(type.as_int().value_or(1)));
  }
  for (const auto& merge : *json.find("merges")->as_array()) source.merges.push_back(*merge.as_string());
  if (const auto* chat = json.find("chat_template")) source.chat_template = *chat->as_string();
  return hp::Tokenizer::build(std::move(source));
}

hp::Result<std::vector<hp::TokenId>> prompt(const hp::Tokenizer& tokenizer, const std::string& text) {
  HP_TRY(const auto family, hp::detect_chat_family(tokenizer));
  hp::Conversation conversation;
  conversation.messages.push_back({.role = hp::ChatRole::user, .content = text});
  return hp::encode_chat(family, conversation, tokenizer);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) return 2;
  const auto tokenizer = load(argv[1]);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str());
    return 1;
  }
  unsigned char head[4];
  std::string text;
  while (std::fread(head, 1, 4, stdin) == 4) {
    text.resize(head[0] | (head[1] << 8U) | (head[2] << 16U));
    if (std::fread(text.data(), 1, text.size(), stdin) != text.size()) return 1;
    std::vector<hp::TokenId> ids;
    if (argc == 3) {
      const auto whole = prompt(*tokenizer, text);
      if (!whole) {
        std::fprintf(stderr, "%s\n", whole.error().message.c_str());
        return 1;
      }
      ids = *whole;
    } else {
      tokenizer->encode_with_special(text, ids);
    }
    for (const hp::TokenId id : ids) std::printf("%d ", id);
    std::printf("\n");
  }
  return 0;
}

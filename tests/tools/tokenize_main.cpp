// Test tool: tokenize_tool TOKENIZER.json [text|chat] < strings > ids. Strings come as a 4-byte little-endian length
// and bytes; each gives one line of ids. With `text` special tokens are not recognized; with `chat` each string is the
// only user message of a conversation, and the ids are the prompt's. TOKENIZER.json is a Hugging Face tokenizer.json; a
// file tokenizer_config.json beside it is read too.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "text/chat.h"
#include "text/hf_tokenizer.h"
#include "text/tokenizer.h"

namespace {

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

hp::Result<hp::Tokenizer> load(const std::filesystem::path& path) {
  const std::string tokenizer = read_all(path);
  const std::string config = read_all(path.parent_path() / "tokenizer_config.json");
  HP_TRY(auto source, hp::tokenizer_source_from_json({.tokenizer = tokenizer, .tokenizer_config = config}));
  return hp::Tokenizer::build(std::move(source));
}

hp::Result<std::vector<hp::TokenId>> encode(const hp::Tokenizer& tokenizer, const std::string& text,
                                            const std::string& mode) {
  std::vector<hp::TokenId> ids;
  if (mode == "chat") {
    HP_TRY(const auto family, hp::detect_chat_family(tokenizer));
    hp::Conversation conversation;
    conversation.messages.push_back({.role = hp::ChatRole::user, .content = text});
    return hp::encode_chat(family, conversation, tokenizer);
  }
  if (mode == "text") {
    tokenizer.encode_text(text, ids);
  } else {
    tokenizer.encode_with_special(text, ids);
  }
  return ids;
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
    const auto ids = encode(*tokenizer, text, argc == 3 ? argv[2] : "");
    if (!ids) {
      std::fprintf(stderr, "%s\n", ids.error().message.c_str());
      return 1;
    }
    for (const hp::TokenId id : *ids) std::printf("%d ", id);
    std::printf("\n");
  }
  return 0;
}

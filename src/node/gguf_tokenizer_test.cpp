#include "node/gguf_tokenizer.h"

#include <gtest/gtest.h>

#include <span>
#include <string>

#include "model/test_gguf_writer.h"

namespace hp {
namespace {

Result<TokenizerSource> read(const TestGgufWriter& writer) {
  const std::string bytes = writer.bytes();
  HP_TRY(const auto file, GgufFile::parse(std::as_bytes(std::span(bytes)), "test.gguf"));
  return tokenizer_source_from_gguf(file);
}

void add_good(TestGgufWriter& w, const char* pre) {
  w.add_string("tokenizer.ggml.model", "gpt2");
  w.add_string("tokenizer.ggml.pre", pre);
  w.add_strings("tokenizer.ggml.tokens", {"a", "b", "ab"});
  w.add_strings("tokenizer.ggml.merges", {"a b"});
}

TEST(GgufTokenizer, ReadsByteLevelBpe) {
  TestGgufWriter w;
  add_good(w, "llama-bpe");
  w.add_u32("tokenizer.ggml.eos_token_id", 2);
  w.add_string("tokenizer.chat_template", "T");
  const auto s = read(w);
  ASSERT_TRUE(s) << s.error().message;
  EXPECT_EQ(s->pre, PreTokenizer::llama3);
  EXPECT_TRUE(s->ignore_merges);
  EXPECT_EQ(s->tokens.size(), 3U);
  EXPECT_EQ(s->merges, std::vector<std::string>{"a b"});
  EXPECT_EQ(s->end_of_generation, std::vector<TokenId>{2});
  EXPECT_EQ(s->chat_template, "T");
  EXPECT_FALSE(s->bos || s->add_bos || s->add_space_prefix);
}

TEST(GgufTokenizer, ErrorsNameTheKey) {
  TestGgufWriter none;
  none.add_string("tokenizer.ggml.model", "gpt2");
  TestGgufWriter pre;
  add_good(pre, "klingon");
  TestGgufWriter eos;
  add_good(eos, "gpt-2");
  eos.add_u32("tokenizer.ggml.eos_token_id", 3);
  TestGgufWriter model;
  model.add_strings("tokenizer.ggml.tokens", {"a"});
  model.add_string("tokenizer.ggml.model", "bert");
  TestGgufWriter scores;
  scores.add_strings("tokenizer.ggml.tokens", {"a"});
  scores.add_string("tokenizer.ggml.model", "llama");
  const struct {
    const TestGgufWriter* writer;
    const char* name;
  } cases[] = {{&none, "tokens"}, {&pre, "pre"}, {&eos, "eos_token_id"}, {&model, "model"}, {&scores, "scores"}};
  for (const auto& c : cases) {
    const auto s = read(*c.writer);
    ASSERT_FALSE(s) << c.name;
    EXPECT_EQ(s.error().where, std::string("tokenizer.ggml.") + c.name) << s.error().message;
  }
}

}  // namespace
}  // namespace hp

#include "text/tokenizer.h"

#include <gmock/gmock.h>

#include "text/detokenizer.h"
#include "text/hf_tokenizer.h"
#include "text/nfc.h"
#include "text/pre_tokenizer.h"

namespace hp {
namespace {

using testing::ElementsAre;

/// Ids 0..93 are the printable ASCII bytes from '!', then "Ġ", "ll", "hell", "Ġh", "he", the two bytes of "é" and
/// "<|end|>".
TokenizerSource small_source() {
  TokenizerSource source;
  source.pre = PreTokenizer::gpt2;
  for (char c = '!'; c <= '~'; ++c) source.tokens.emplace_back(1, c);
  for (const char* token : {"Ġ", "ll", "hell", "Ġh", "he", "Ã", "©", "<|end|>"}) source.tokens.emplace_back(token);
  source.types.assign(source.tokens.size(), TokenType::normal);
  source.types.back() = TokenType::control;
  source.merges = {"l l", "h e", "he ll", "Ġ h"};
  return source;
}

TokenId byte_id(char c) {
  return c - '!';
}

TEST(Tokenizer, MergesInRankOrder) {
  auto tokenizer = Tokenizer::build(small_source());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  std::vector<TokenId> ids;
  tokenizer->encode_text("hello hello", ids);
  EXPECT_THAT(ids, ElementsAre(96, byte_id('o'), 94, 96, byte_id('o')));
  EXPECT_EQ(tokenizer->decode(ids), "hello hello");
}

TEST(Tokenizer, TextNeverBecomesSpecial) {
  auto tokenizer = Tokenizer::build(small_source());
  ASSERT_TRUE(tokenizer);
  std::vector<TokenId> plain, special;
  tokenizer->encode_text("a<|end|>", plain);
  tokenizer->encode_with_special("a<|end|>", special);
  EXPECT_EQ(plain.size(), 8U);
  EXPECT_EQ(tokenizer->decode(plain), "a<|end|>");
  EXPECT_THAT(special, ElementsAre(byte_id('a'), 101));
}

TEST(Tokenizer, LongRunsAreNotQuadratic) {
  auto tokenizer = Tokenizer::build(small_source());
  ASSERT_TRUE(tokenizer);
  std::vector<TokenId> ids;
  tokenizer->encode_text(std::string(1U << 20U, 'l'), ids);
  EXPECT_EQ(ids.size(), 1U << 19U);
}

TEST(Tokenizer, RefusesBrokenSources) {
  auto source = small_source();
  source.types.pop_back();
  EXPECT_FALSE(Tokenizer::build(source));
  source = small_source();
  source.merges.emplace_back("nospace");
  EXPECT_FALSE(Tokenizer::build(source));
  source = small_source();
  source.merges.emplace_back("x y");
  EXPECT_FALSE(Tokenizer::build(source));
  source = small_source();
  source.eos = 1000;
  EXPECT_FALSE(Tokenizer::build(source));
  source = small_source();
  source.kind = TokenizerKind::sentencepiece_bpe;  // neither scores nor merges that fit
  source.merges.clear();
  EXPECT_EQ(Tokenizer::build(source).error().code, ErrorCode::corrupt_data);
}

/// "▁" is 0, then letters, "▁a", "ab", "▁ab", and the bytes of "é".
TokenizerSource sentencepiece_source() {
  TokenizerSource source;
  source.kind = TokenizerKind::sentencepiece_bpe;
  source.add_space_prefix = true;
  source.tokens = {"\u2581", "a", "b", "\u2581a", "ab", "\u2581ab", "<0xC3>", "<0xA9>", "<unk>"};
  source.types.assign(source.tokens.size(), TokenType::normal);
  source.types[6] = source.types[7] = TokenType::byte;
  source.types[8] = TokenType::unknown;
  source.scores = {-5, -6, -7, -2, -1, -3, 0, 0, 0};
  source.unk = 8;
  return source;
}

TEST(Tokenizer, SentencePieceMergesByScoreAndFallsBackToBytes) {
  auto tokenizer = Tokenizer::build(sentencepiece_source());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  std::vector<TokenId> ids;
  tokenizer->encode_text("ab aé b~", ids);
  EXPECT_THAT(ids, ElementsAre(5, 3, 6, 7, 0, 2, 8));
  EXPECT_EQ(tokenizer->decode(ids), " ab aé b<unk>");
}

TEST(Tokenizer, NfcComposesAcrossMarksAndLeavesBrokenBytes) {
  EXPECT_EQ(to_nfc("e\u0301"), "é");
  EXPECT_EQ(to_nfc("a\u0307\u0323"), "\u1EA1\u0307");
  EXPECT_EQ(to_nfc("\u1100\u1161\u11A8"), "각");
  EXPECT_EQ(to_nfc("\u212B\xFF\u0301"), "Å\xFF\u0301");
}

TEST(HfTokenizer, RefusesWhatItDoesNotKnowByName) {
  const auto with = [](const std::string& more) {
    return R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"pre_tokenizer":{"type":"ByteLevel",)"
           R"("add_prefix_space":false,"use_regex":true})" +
           more + "}";
  };
  const auto read = [](const std::string& text) { return tokenizer_source_from_json({.tokenizer = text}); };
  EXPECT_TRUE(read(with("")));
  EXPECT_EQ(read(with(R"(,"normalizer":{"type":"Lowercase"})")).error().where, "tokenizer.json: normalizer");
  EXPECT_EQ(read(with(R"(,"added_tokens":[{"id":1,"content":"x","lstrip":true}])")).error().where,
            "tokenizer.json: added_tokens");
  EXPECT_EQ(read(with(R"(,"added_tokens":[{"id":99999999,"content":"x"}])")).error().code, ErrorCode::corrupt_data);
  EXPECT_EQ(read(R"({"model":{"type":"Unigram"}})").error().where, "tokenizer.json: model.type");
  EXPECT_EQ(read("{").error().where, "tokenizer.json");
}

TEST(Detokenizer, HoldsHalfACharacterBack) {
  auto tokenizer = Tokenizer::build(small_source());
  ASSERT_TRUE(tokenizer);
  Detokenizer detokenizer(*tokenizer);
  std::string out;
  detokenizer.push(99, out);
  EXPECT_EQ(out, "");
  EXPECT_EQ(detokenizer.held_bytes(), 1U);
  detokenizer.push(100, out);
  EXPECT_EQ(out, "é");
  detokenizer.push(99, out);
  detokenizer.push(byte_id('a'), out);
  EXPECT_EQ(out, "é\uFFFDa");
  detokenizer.push(99, out);
  detokenizer.finish(out);
  EXPECT_EQ(out, "é\uFFFDa\uFFFD");
}

TEST(PreTokenizer, Patterns) {
  EXPECT_THAT(pre_tokenize(PreTokenizer::smollm, "it's 42  is\n\n x"),
              ElementsAre("it", "'s", " ", "4", "2", " ", " is", "\n\n", " x"));
  EXPECT_THAT(pre_tokenize(PreTokenizer::gpt2, "it's 42  x!"), ElementsAre("it", "'s", " 42", " ", " x", "!"));
  EXPECT_THAT(pre_tokenize(PreTokenizer::llama3, "IT'S 1234\n (x"),
              ElementsAre("IT", "'S", " ", "123", "4", "\n", " (", "x"));
  EXPECT_THAT(pre_tokenize(PreTokenizer::deepseek_v3, "x.y 1234中文ab"),
              ElementsAre("x", ".y", " ", "123", "4", "中文", "ab"));
}

}  // namespace
}  // namespace hp

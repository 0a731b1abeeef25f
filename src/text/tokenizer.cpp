// Owns the split at special tokens and the way from words to tokens.
#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/check.h"
#include "text/byte_bpe.h"
#include "text/limits.h"
#include "text/nfc.h"
#include "text/pre_tokenizer.h"
#include "text/sentencepiece_bpe.h"

namespace hp {

struct Tokenizer::State {
  TokenizerSource source;
  std::vector<std::string> bytes;  ///< by id
  ByteBpe bpe;                     ///< of kind byte_bpe
  SentencePieceBpe pieces;         ///< of kind sentencepiece_bpe
  std::unordered_map<std::string, TokenId> specials;
  /// Spellings by their first byte, longest first.
  std::array<std::vector<TokenId>, 256> specials_by_byte;
};

namespace {

bool is_special_type(TokenType type) {
  return type == TokenType::control || type == TokenType::user_defined;
}

Status check_id(const TokenizerSource& source, std::optional<TokenId> id, std::string_view name) {
  if (id && (*id < 0 || static_cast<std::size_t>(*id) >= source.tokens.size())) {
    return fail(ErrorCode::corrupt_data, "the {} token is {}, but the vocabulary has {} tokens", name, *id,
                source.tokens.size());
  }
  return {};
}

Status check_source(const TokenizerSource& source) {
  if (source.tokens.empty() || source.tokens.size() > text_limits::kVocabMax) {
    return fail(ErrorCode::corrupt_data, "the vocabulary has {} tokens; expected 1 to {}", source.tokens.size(),
                text_limits::kVocabMax);
  }
  if (source.types.size() != source.tokens.size()) {
    return fail(ErrorCode::corrupt_data, "the vocabulary has {} tokens but {} token types", source.tokens.size(),
                source.types.size());
  }
  HP_TRY_VOID(check_id(source, source.bos, "beginning-of-text"));
  HP_TRY_VOID(check_id(source, source.eos, "end-of-text"));
  HP_TRY_VOID(check_id(source, source.unk, "unknown"));
  HP_TRY_VOID(check_id(source, source.pad, "padding"));
  for (const TokenId id : source.end_of_generation) HP_TRY_VOID(check_id(source, id, "end-of-generation"));
  return {};
}

}  // namespace

Result<Tokenizer> Tokenizer::build(TokenizerSource source) {
  HP_TRY_VOID(check_source(source));
  auto state = std::make_unique<State>();
  state->bytes.resize(source.tokens.size());
  for (std::size_t i = 0; i < source.tokens.size(); ++i) {
    const std::string& token = source.tokens[i];
    if (is_special_type(source.types[i])) {
      if (token.empty() || token.size() > text_limits::kSpecialLengthMax) {
        return fail(ErrorCode::corrupt_data, "special token {} has {} bytes; expected 1 to {}", i, token.size(),
                    text_limits::kSpecialLengthMax);
      }
      state->specials.emplace(token, static_cast<TokenId>(i));
      if (source.types[i] == TokenType::user_defined) state->bytes[i] = token;
    } else if (source.kind == TokenizerKind::sentencepiece_bpe) {
      state->bytes[i] = sentencepiece_bytes(token, source.types[i]);
    } else if (!printable_to_bytes(token, state->bytes[i])) {
      state->bytes[i] = token;
    }
  }
  for (const auto& [spelling, id] : state->specials) {
    state->specials_by_byte[static_cast<std::uint8_t>(spelling[0])].push_back(id);
  }
  for (auto& ids : state->specials_by_byte) {
    std::sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) {
      const std::size_t a_size = source.tokens[static_cast<std::size_t>(a)].size();
      const std::size_t b_size = source.tokens[static_cast<std::size_t>(b)].size();
      return a_size != b_size ? a_size > b_size : a < b;
    });
  }
  if (source.kind == TokenizerKind::byte_bpe) {
    HP_TRY(state->bpe, ByteBpe::build(source, state->bytes));
  } else {
    HP_TRY(state->pieces, SentencePieceBpe::build(source));
  }
  state->source = std::move(source);
  return Tokenizer(std::move(state));
}

Tokenizer::Tokenizer(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

void Tokenizer::encode_text(std::string_view text, std::vector<TokenId>& out) const {
  std::string normal;
  if (state_->source.nfc && may_change_in_nfc(text)) {
    normal = to_nfc(text);
    text = normal;
  }
  while (!text.empty()) {
    const std::string_view run = text.substr(0, text_limits::kTextRunBytesMax);
    if (state_->source.kind == TokenizerKind::sentencepiece_bpe) {
      state_->pieces.encode(run, out);
    } else {
      for (const std::string_view word : pre_tokenize(state_->source.pre, run)) state_->bpe.encode_word(word, out);
    }
    text.remove_prefix(run.size());
  }
}

void Tokenizer::encode_with_special(std::string_view text, std::vector<TokenId>& out) const {
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto& candidates = state_->specials_by_byte[static_cast<std::uint8_t>(text[at])];
    const auto found = std::find_if(candidates.begin(), candidates.end(),
                                    [&](TokenId id) { return text.substr(at).starts_with(token_text(id)); });
    if (found == candidates.end()) {
      ++at;
      continue;
    }
    encode_text(text.substr(start, at - start), out);
    out.push_back(*found);
    start = at += token_text(*found).size();
  }
  encode_text(text.substr(start), out);
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  HP_CHECK(id >= 0 && id < vocab_size(), "token {} of {}", id, vocab_size());
  return state_->bytes[static_cast<std::size_t>(id)];
}

std::string_view Tokenizer::token_text(TokenId id) const {
  HP_CHECK(id >= 0 && id < vocab_size(), "token {} of {}", id, vocab_size());
  return state_->source.tokens[static_cast<std::size_t>(id)];
}

bool Tokenizer::is_special(TokenId id) const {
  HP_CHECK(id >= 0 && id < vocab_size(), "token {} of {}", id, vocab_size());
  return is_special_type(state_->source.types[static_cast<std::size_t>(id)]);
}

std::optional<TokenId> Tokenizer::special(std::string_view spelling) const {
  const auto found = state_->specials.find(std::string(spelling));
  return found == state_->specials.end() ? std::nullopt : std::optional<TokenId>(found->second);
}

std::string Tokenizer::decode(std::span<const TokenId> ids) const {
  std::string out;
  for (const TokenId id : ids) out += token_bytes(id);
  return out;
}

std::int32_t Tokenizer::vocab_size() const {
  return static_cast<std::int32_t>(state_->source.tokens.size());
}

const TokenizerSource& Tokenizer::source() const {
  return state_->source;
}

}  // namespace hp

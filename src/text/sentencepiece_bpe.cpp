#include "text/sentencepiece_bpe.h"

#include <charconv>
#include <queue>
#include <tuple>

#include "base/utf8.h"

namespace hp {
namespace {

constexpr std::string_view kSpace = "\u2581";

/// <0xNN> as a byte, -1 for anything else.
int byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = -1;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return error == std::errc() && end == token.data() + 5 ? value : -1;
}

/// True when a space follows another character inside of the token.
bool has_inner_space(std::string_view token) {
  std::size_t at = 0;
  while (token.substr(at).starts_with(kSpace)) at += kSpace.size();
  return token.find(kSpace, at) != std::string_view::npos;
}

struct Candidate {
  float priority;
  std::int32_t at;
  std::uint32_t left_bytes, bytes;  ///< of the left part and of both; stale when they changed meanwhile
  bool operator>(const Candidate& other) const { return std::tie(priority, at) > std::tie(other.priority, other.at); }
};

}  // namespace

struct SentencePieceBpe::Symbol {
  std::uint32_t offset, bytes;  ///< bytes 0: merged into the one before
  std::int32_t previous, next;  ///< -1 at the ends
};

std::string sentencepiece_bytes(std::string_view token, TokenType type) {
  if (type == TokenType::byte) {
    const int byte = byte_of(token);
    if (byte >= 0) return {static_cast<char>(byte)};
  }
  std::string out;
  for (std::size_t at = 0; at < token.size();) {
    if (token.substr(at).starts_with(kSpace)) {
      out += ' ';
      at += kSpace.size();
    } else {
      out += token[at++];
    }
  }
  return out;
}

Result<SentencePieceBpe> SentencePieceBpe::build(const TokenizerSource& source) {
  SentencePieceBpe bpe;
  bpe.byte_tokens_.fill(-1);
  bpe.unknown_ = source.unk.value_or(-1);
  bpe.space_prefix_ = source.add_space_prefix;
  bpe.by_rank_ = !source.merges.empty();
  if (!bpe.by_rank_ && source.scores.size() != source.tokens.size()) {
    return fail(ErrorCode::corrupt_data, "the vocabulary has {} tokens but {} scores, and no merges",
                source.tokens.size(), source.scores.size());
  }
  bpe.cut_at_spaces_ = true;
  for (std::size_t i = 0; i < source.tokens.size(); ++i) {
    const std::string& token = source.tokens[i];
    const auto id = static_cast<TokenId>(i);
    if (source.types[i] == TokenType::byte) {
      if (const int byte = byte_of(token); byte >= 0) bpe.byte_tokens_[static_cast<std::size_t>(byte)] = id;
    }
    if (source.types[i] != TokenType::normal) continue;
    bpe.ids_.emplace(token, id);
    if (!bpe.by_rank_) bpe.scored_.emplace(token, Merge{.priority = -source.scores[i], .result = id});
    if (has_inner_space(token)) bpe.cut_at_spaces_ = false;
  }
  for (std::size_t rank = 0; rank < source.merges.size(); ++rank) {
    const std::string& merge = source.merges[rank];
    const std::size_t space = merge.find(' ', 1);
    const auto whole =
        space == std::string::npos ? bpe.ids_.end() : bpe.ids_.find(merge.substr(0, space) + merge.substr(space + 1));
    if (whole == bpe.ids_.end()) {
      return fail(ErrorCode::corrupt_data, "merge {} is '{}'; expected two tokens that make a third", rank, merge);
    }
    bpe.ranked_.try_emplace(merge, Merge{.priority = static_cast<float>(rank), .result = whole->second});
  }
  return bpe;
}

const SentencePieceBpe::Merge* SentencePieceBpe::find(std::string_view joined, std::size_t left_bytes) const {
  if (!by_rank_) {
    const auto found = scored_.find(std::string(joined));
    return found == scored_.end() ? nullptr : &found->second;
  }
  std::string key(joined.substr(0, left_bytes));
  key.append(" ").append(joined.substr(left_bytes));
  const auto found = ranked_.find(key);
  return found == ranked_.end() ? nullptr : &found->second;
}

void SentencePieceBpe::append_fallback(std::string_view text, std::vector<TokenId>& out) const {
  for (const char c : text) {
    const TokenId byte = byte_tokens_[static_cast<std::uint8_t>(c)];
    if (byte >= 0) out.push_back(byte);
  }
  if (byte_tokens_[static_cast<std::uint8_t>(text[0])] < 0 && unknown_ >= 0) out.push_back(unknown_);
}

void SentencePieceBpe::encode(std::string_view text, std::vector<TokenId>& out) const {
  if (text.empty()) return;
  std::string spaced;
  spaced.reserve(text.size() + text.size() / 4 + kSpace.size());
  if (space_prefix_) spaced += kSpace;
  for (const char c : text) {
    if (c == ' ') {
      spaced += kSpace;
    } else {
      spaced += c;
    }
  }
  std::string_view rest = spaced;
  while (cut_at_spaces_ && !rest.empty()) {
    std::size_t word = 0;
    while (rest.substr(word).starts_with(kSpace)) word += kSpace.size();
    const std::size_t end = rest.find(kSpace, word);
    if (end == std::string_view::npos) break;
    encode_run(rest.substr(0, end), out);
    rest.remove_prefix(end);
  }
  encode_run(rest, out);
}

void SentencePieceBpe::encode_run(std::string_view run, std::vector<TokenId>& out) const {
  std::vector<Symbol> symbols;
  for (std::size_t at = 0; at < run.size();) {
    const auto index = static_cast<std::int32_t>(symbols.size());
    const std::size_t bytes = utf8_step(run.substr(at)).bytes;
    symbols.push_back({static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(bytes), index - 1, index + 1});
    at += bytes;
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;
  const auto symbol = [&](std::int32_t at) -> Symbol& { return symbols[static_cast<std::size_t>(at)]; };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::int32_t at) {
    if (at < 0 || symbol(at).next < 0) return;
    const Symbol& left = symbol(at);
    const std::uint32_t bytes = left.bytes + symbol(left.next).bytes;
    const Merge* merge = find(run.substr(left.offset, bytes), left.bytes);
    if (merge != nullptr) queue.push({merge->priority, at, left.bytes, bytes});
  };
  for (std::int32_t at = 0; at >= 0; at = symbol(at).next) consider(at);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbol(best.at);
    if (left.bytes != best.left_bytes || left.next < 0 || left.bytes + symbol(left.next).bytes != best.bytes) continue;
    Symbol& right = symbol(left.next);
    left.bytes = best.bytes;
    left.next = right.next;
    right.bytes = 0;
    if (left.next >= 0) symbol(left.next).previous = best.at;
    consider(left.previous);
    consider(best.at);
  }
  for (std::int32_t at = 0; at >= 0; at = symbol(at).next) {
    const std::string_view piece = run.substr(symbol(at).offset, symbol(at).bytes);
    const auto found = ids_.find(std::string(piece));
    if (found != ids_.end()) {
      out.push_back(found->second);
    } else {
      append_fallback(piece, out);
    }
  }
}

}  // namespace hp

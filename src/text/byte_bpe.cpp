#include "text/byte_bpe.h"

#include <queue>
#include <tuple>

#include "base/utf8.h"

namespace hp {
namespace {

bool prints_as_itself(unsigned byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/// Code point (below 324) to byte, -1 outside of the alphabet. Source: bytes_to_unicode() of GPT-2.
const std::array<int, 324>& printable_table() {
  static const auto kTable = [] {
    std::array<int, 324> table{};
    table.fill(-1);
    std::size_t next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) table[prints_as_itself(byte) ? byte : next++] = static_cast<int>(byte);
    return table;
  }();
  return kTable;
}

struct Symbol {
  TokenId token;
  std::int32_t previous, next;  ///< -1 at the ends
};

/// A merge that may happen; stale when a neighbour changed meanwhile, which the tokens tell.
struct Candidate {
  std::uint32_t rank;
  std::int32_t at;
  TokenId left, right, result;
  bool operator>(const Candidate& other) const { return std::tie(rank, at) > std::tie(other.rank, other.at); }
};

}  // namespace

bool printable_to_bytes(std::string_view printable, std::string& bytes) {
  while (!printable.empty()) {
    const Utf8Step step = utf8_step(printable);
    if (!step.valid || step.codepoint >= printable_table().size()) return false;
    const int byte = printable_table()[step.codepoint];
    if (byte < 0) return false;
    bytes.push_back(static_cast<char>(byte));
    printable.remove_prefix(step.bytes);
  }
  return true;
}

Result<ByteBpe> ByteBpe::build(const TokenizerSource& source, const std::vector<std::string>& bytes) {
  ByteBpe bpe;
  bpe.byte_tokens_.fill(-1);
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(source.tokens.size());
  for (std::size_t i = 0; i < source.tokens.size(); ++i) {
    if (source.types[i] != TokenType::normal) continue;
    const auto id = static_cast<TokenId>(i);
    ids.emplace(source.tokens[i], id);
    if (bytes[i].size() == 1) bpe.byte_tokens_[static_cast<std::uint8_t>(bytes[i][0])] = id;
    if (source.ignore_merges) bpe.words_.emplace(bytes[i], id);
  }
  bpe.merges_.reserve(source.merges.size());
  std::string whole;
  for (std::size_t rank = 0; rank < source.merges.size(); ++rank) {
    const std::string_view merge = source.merges[rank];
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size()) {
      return fail(ErrorCode::corrupt_data, "merge {} is '{}'; expected two tokens with a space between", rank, merge);
    }
    whole.assign(merge.substr(0, space)).append(merge.substr(space + 1));
    const auto left = ids.find(merge.substr(0, space));
    const auto right = ids.find(merge.substr(space + 1));
    const auto result = ids.find(whole);
    if (left == ids.end() || right == ids.end() || result == ids.end()) {
      return fail(ErrorCode::corrupt_data,
                  "merge {} is '{}', but its two parts and '{}' are not all normal tokens of the vocabulary", rank,
                  merge, whole);
    }
    bpe.merges_.try_emplace(pair_key(left->second, right->second),
                            Merge{.rank = static_cast<std::uint32_t>(rank), .result = result->second});
  }
  return bpe;
}

const ByteBpe::Merge* ByteBpe::find(TokenId left, TokenId right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void ByteBpe::encode_word(std::string_view word, std::vector<TokenId>& out) const {
  if (!words_.empty()) {
    if (const auto whole = words_.find(std::string(word)); whole != words_.end()) {
      out.push_back(whole->second);
      return;
    }
  }
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (const char c : word) {
    const TokenId token = byte_tokens_[static_cast<std::uint8_t>(c)];
    const auto at = static_cast<std::int32_t>(symbols.size());
    if (token >= 0) symbols.push_back({.token = token, .previous = at - 1, .next = at + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;
  const auto symbol = [&](std::int32_t at) -> Symbol& { return symbols[static_cast<std::size_t>(at)]; };

  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::int32_t at) {
    if (at < 0 || symbol(at).next < 0) return;
    const TokenId left = symbol(at).token;
    const TokenId right = symbol(symbol(at).next).token;
    if (const Merge* merge = find(left, right)) queue.push({merge->rank, at, left, right, merge->result});
  };
  for (std::int32_t at = 0; at >= 0; at = symbol(at).next) consider(at);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbol(best.at);
    if (left.token != best.left || left.next < 0 || symbol(left.next).token != best.right) continue;
    Symbol& right = symbol(left.next);
    left.token = best.result;
    left.next = right.next;
    right.token = -1;
    if (left.next >= 0) symbol(left.next).previous = best.at;
    consider(left.previous);
    consider(best.at);
  }
  for (std::int32_t at = 0; at >= 0; at = symbol(at).next) out.push_back(symbol(at).token);
}

}  // namespace hp

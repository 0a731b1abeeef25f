#include "engine/prefix_cache.h"

#include <algorithm>

#include "base/check.h"

namespace hp {

PrefixCache::PrefixCache(KvPool& pool, std::int32_t block_tokens, bool enabled)
    : pool_(pool), block_tokens_(block_tokens), enabled_(enabled), entries_(static_cast<std::size_t>(pool.total())) {
  HP_CHECK(block_tokens > 0, "block_tokens {}", block_tokens);
}

std::span<const TokenId> PrefixCache::block_of(std::span<const TokenId> tokens, std::int32_t index) const {
  const auto size = static_cast<std::size_t>(block_tokens_);
  return tokens.subspan(static_cast<std::size_t>(index) * size, size);
}

bool PrefixCache::same(BlockId block, BlockId parent, std::span<const TokenId> tokens) const {
  const Entry& e = entry(block);
  return e.used && e.parent == parent && std::ranges::equal(e.tokens, tokens);
}

std::optional<BlockId> PrefixCache::allocate() {
  const auto taken = pool_.take();
  if (!taken) return std::nullopt;
  if (taken->evicted) {
    Entry& e = entry(taken->block);
    HP_CHECK(e.used && e.children == 0, "evicted block {} has {} children", taken->block.value, e.children);
    index_.erase(e.key);
    if (e.parent.value >= 0) --entry(e.parent).children;
    e = Entry{};
  }
  return taken->block;
}

std::vector<BlockId> PrefixCache::match(std::span<const TokenId> tokens, std::int32_t max_blocks) {
  std::vector<BlockId> found;
  const auto full = std::min(max_blocks, static_cast<std::int32_t>(tokens.size()) / block_tokens_);
  Hash128 key;
  BlockId parent{-1};
  for (std::int32_t i = 0; enabled_ && i < full; ++i) {
    const auto part = block_of(tokens, i);
    key = hash128_chain(key, std::as_bytes(part));
    const auto it = index_.find(key);
    if (it == index_.end() || !same(it->second, parent, part)) break;
    parent = it->second;
    pool_.reference(parent);
    found.push_back(parent);
  }
  return found;
}

bool PrefixCache::insert(std::span<const TokenId> tokens, std::vector<BlockId>& blocks, std::int32_t index) {
  if (!enabled_) return false;
  const auto at = static_cast<std::size_t>(index);
  const BlockId parent = index == 0 ? BlockId{-1} : blocks[at - 1];
  HP_CHECK(index == 0 || entry(parent).used, "the block before {} is not indexed", index);
  const auto part = block_of(tokens, index);
  const Hash128 key = hash128_chain(index == 0 ? Hash128{} : entry(parent).key, std::as_bytes(part));
  const auto [it, added] = index_.try_emplace(key, blocks[at]);
  if (!added) {
    if (!same(it->second, parent, part)) return false;
    if (it->second == blocks[at]) return true;
    pool_.reference(it->second);
    pool_.release(blocks[at]);
    blocks[at] = it->second;
    return true;
  }
  pool_.mark_indexed(blocks[at]);
  entry(blocks[at]) = {.key = key, .parent = parent, .children = 0, .used = true, .tokens = {part.begin(), part.end()}};
  if (index > 0) ++entry(parent).children;
  return true;
}

void PrefixCache::release(std::vector<BlockId>& blocks) {
  for (auto it = blocks.rbegin(); it != blocks.rend(); ++it) pool_.release(*it);
  blocks.clear();
}

void PrefixCache::check_integrity() const {
  pool_.check_integrity();
  std::vector<std::int32_t> children(entries_.size(), 0);
  std::size_t used = 0;
  for (const Entry& e : entries_) {
    if (!e.used) continue;
    ++used;
    if (e.parent.value < 0) continue;
    HP_CHECK(entry(e.parent).used, "parent {} is not indexed", e.parent.value);
    ++children[static_cast<std::size_t>(e.parent.value)];
  }
  HP_CHECK(used == index_.size(), "{} entries, {} keys", used, index_.size());
  for (std::size_t i = 0; i < entries_.size(); ++i)
    HP_CHECK(children[i] == entries_[i].children, "block {}: {} children, {} counted", i, entries_[i].children,
             children[i]);
}

}  // namespace hp

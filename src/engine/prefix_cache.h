// Finds KV blocks that already hold a prompt's beginning. Full blocks only, keyed by the chained hash of all tokens up
// to their end and verified by the block's own tokens plus the identity of its parent block: a hash collision costs a
// miss, never a wrong answer. Invariant: who references a block references its parents, so children leave before
// parents.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "base/ids.h"
#include "engine/kv_pool.h"

namespace hp {

class PrefixCache {
 public:
  PrefixCache(KvPool& pool, std::int32_t block_tokens, bool enabled);

  /// A fresh block with one reference; evicts the least recently used cached block when none is free.
  std::optional<BlockId> allocate();
  /// References and returns the cached blocks that `tokens` begins with, at most `max_blocks`.
  std::vector<BlockId> match(std::span<const TokenId> tokens, std::int32_t max_blocks);
  /// Indexes block `index` of a sequence whose blocks before it are all indexed. Where equal contents are indexed
  /// already, `blocks[index]` is swapped for those. False: not indexable (cache off, collision), nor what follows it.
  bool insert(std::span<const TokenId> tokens, std::vector<BlockId>& blocks, std::int32_t index);
  /// Releases all, last first, and empties the list.
  void release(std::vector<BlockId>& blocks);
  void check_integrity() const;
  [[nodiscard]] std::size_t size() const { return index_.size(); }

 private:
  struct Entry {
    Hash128 key;
    BlockId parent{-1};
    std::int32_t children = 0;
    bool used = false;
    std::vector<TokenId> tokens;
  };
  Entry& entry(BlockId block) { return entries_[static_cast<std::size_t>(block.value)]; }
  [[nodiscard]] const Entry& entry(BlockId block) const { return entries_[static_cast<std::size_t>(block.value)]; }
  [[nodiscard]] std::span<const TokenId> block_of(std::span<const TokenId> tokens, std::int32_t index) const;
  [[nodiscard]] bool same(BlockId block, BlockId parent, std::span<const TokenId> tokens) const;

  KvPool& pool_;
  std::int32_t block_tokens_;
  bool enabled_;
  std::vector<Entry> entries_;  ///< [blocks of the pool]
  std::unordered_map<Hash128, BlockId> index_;
};

}  // namespace hp

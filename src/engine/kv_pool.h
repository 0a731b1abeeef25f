// The KV blocks of one executor: reference counts, the free list, and the least-recently-used order of blocks that
// nobody references but whose contents are still indexed. Knows nothing of tokens: that is prefix_cache's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <vector>

#include "base/ids.h"

namespace hp {

class KvPool {
 public:
  explicit KvPool(std::int32_t blocks);

  struct Taken {
    BlockId block;
    bool evicted = false;  ///< the block was indexed: the caller must drop it from its index
  };
  /// A block with one reference: a free one, else the least recently used unreferenced one; none when all are in use.
  std::optional<Taken> take();
  void reference(BlockId block);
  /// At zero references an indexed block joins the LRU order as the youngest, any other becomes free.
  void release(BlockId block);
  /// The contents of a referenced block are now indexed: keep them after the last release.
  void mark_indexed(BlockId block);

  [[nodiscard]] std::int32_t total() const { return static_cast<std::int32_t>(blocks_.size()); }
  [[nodiscard]] std::int32_t cached() const { return static_cast<std::int32_t>(lru_.size()); }
  /// What take() can hand out: free and cached.
  [[nodiscard]] std::int32_t available() const { return static_cast<std::int32_t>(free_.size() + lru_.size()); }
  [[nodiscard]] std::int32_t used() const { return total() - available(); }
  [[nodiscard]] std::int32_t references(BlockId block) const { return at(block).references; }
  /// HP_CHECKs that every block is in exactly one of: free, cached, referenced.
  void check_integrity() const;

 private:
  struct Block {
    std::int32_t references = 0;
    bool indexed = false;
    std::list<BlockId>::iterator lru;  ///< valid while indexed and unreferenced
  };
  [[nodiscard]] const Block& at(BlockId block) const;
  Block& at(BlockId block);
  std::vector<Block> blocks_;
  std::vector<BlockId> free_;
  std::list<BlockId> lru_;  ///< oldest first
};

}  // namespace hp

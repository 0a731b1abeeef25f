#include "engine/kv_pool.h"

#include "base/check.h"

namespace hp {

KvPool::KvPool(std::int32_t blocks) : blocks_(static_cast<std::size_t>(blocks)) {
  free_.reserve(blocks_.size());
  for (std::int32_t i = blocks - 1; i >= 0; --i) free_.push_back(BlockId{i});
}

const KvPool::Block& KvPool::at(BlockId block) const {
  HP_CHECK(block.value >= 0 && block.value < total(), "block {} of {}", block.value, total());
  return blocks_[static_cast<std::size_t>(block.value)];
}

KvPool::Block& KvPool::at(BlockId block) {
  HP_CHECK(block.value >= 0 && block.value < total(), "block {} of {}", block.value, total());
  return blocks_[static_cast<std::size_t>(block.value)];
}

std::optional<KvPool::Taken> KvPool::take() {
  Taken taken;
  if (!free_.empty()) {
    taken.block = free_.back();
    free_.pop_back();
  } else if (!lru_.empty()) {
    taken = {.block = lru_.front(), .evicted = true};
    lru_.pop_front();
    at(taken.block).indexed = false;
  } else {
    return std::nullopt;
  }
  at(taken.block).references = 1;
  return taken;
}

void KvPool::reference(BlockId block) {
  Block& b = at(block);
  HP_CHECK(b.references > 0 || b.indexed, "block {} is free", block.value);
  if (b.references == 0) lru_.erase(b.lru);
  ++b.references;
}

void KvPool::release(BlockId block) {
  Block& b = at(block);
  HP_CHECK(b.references > 0, "block {} released twice", block.value);
  if (--b.references > 0) return;
  if (b.indexed)
    b.lru = lru_.insert(lru_.end(), block);
  else
    free_.push_back(block);
}

void KvPool::mark_indexed(BlockId block) {
  Block& b = at(block);
  HP_CHECK(b.references > 0 && !b.indexed, "block {}", block.value);
  b.indexed = true;
}

void KvPool::check_integrity() const {
  std::vector<int> seen(blocks_.size(), 0);
  for (const BlockId b : free_) {
    HP_CHECK(at(b).references == 0 && !at(b).indexed, "free block {}", b.value);
    ++seen[static_cast<std::size_t>(b.value)];
  }
  for (const BlockId b : lru_) {
    HP_CHECK(at(b).references == 0 && at(b).indexed, "cached block {}", b.value);
    ++seen[static_cast<std::size_t>(b.value)];
  }
  for (std::size_t i = 0; i < blocks_.size(); ++i)
    HP_CHECK(seen[i] == (blocks_[i].references == 0 ? 1 : 0), "block {} is listed {} times", i, seen[i]);
}

}  // namespace hp

// Which node saw which prompt prefix lately: a fixed table, four places a set, the oldest gives way. It approximates
// the nodes' prefix caches without asking them; a wrong entry costs a prefill, never an answer. Not thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "gateway/limits.h"
#include "gateway/request_peek.h"

namespace hp::gateway {

class PrefixIndex {
 public:
  PrefixIndex() : entries_(kPrefixSets * kPrefixWays) {}
  void insert(const PrefixHashes& prefix, std::uint32_t node);
  /// matched[node] = bytes of the longest known common prefix; nodes beyond the vector are left out.
  void match(const PrefixHashes& prefix, std::vector<std::uint32_t>& matched) const;
  /// The node lost its memory.
  void forget(std::uint32_t node);

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::uint32_t node = 0;
    std::uint32_t used = 0;  // 0: free
  };
  std::vector<Entry> entries_;
  std::uint32_t now_ = 0;
};

}  // namespace hp::gateway

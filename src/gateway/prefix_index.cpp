#include "gateway/prefix_index.h"

#include <algorithm>
#include <span>

namespace hp::gateway {

void PrefixIndex::insert(const PrefixHashes& prefix, std::uint32_t node) {
  ++now_;
  for (std::size_t i = 0; i < prefix.count; ++i) {
    const std::span set(entries_.data() + (prefix.hashes[i] % kPrefixSets) * kPrefixWays, kPrefixWays);
    auto place = std::ranges::find_if(
        set, [&](const Entry& e) { return e.used != 0 && e.hash == prefix.hashes[i] && e.node == node; });
    if (place == set.end()) place = std::ranges::min_element(set, {}, &Entry::used);
    *place = {.hash = prefix.hashes[i], .node = node, .used = now_};
  }
}

void PrefixIndex::match(const PrefixHashes& prefix, std::vector<std::uint32_t>& matched) const {
  for (std::size_t i = 0; i < prefix.count; ++i) {
    bool any = false;
    const std::span set(entries_.data() + (prefix.hashes[i] % kPrefixSets) * kPrefixWays, kPrefixWays);
    for (const Entry& e : set) {
      if (e.used == 0 || e.hash != prefix.hashes[i]) continue;
      any = true;
      if (e.node < matched.size()) matched[e.node] = std::max(matched[e.node], prefix.lengths[i]);
    }
    if (!any) break;  // the next hash is chained to this one
  }
}

void PrefixIndex::forget(std::uint32_t node) {
  for (Entry& e : entries_)
    if (e.used != 0 && e.node == node) e = {};
}

}  // namespace hp::gateway

#include "text/pattern_cache.h"

#include <algorithm>

#include "text/limits.h"

namespace hp {

std::shared_ptr<const StringProfile> PatternProfiles::at(std::uint16_t state) const {
  const std::lock_guard lock(mutex_);
  if (!known_[state]) {
    if (count_++ == text_limits::kPatternStatesKept) {
      std::fill(known_.begin(), known_.end(), nullptr);
      count_ = 1;
    }
    known_[state] = std::make_shared<const StringProfile>(classes_.profile(*dfa_, state));
  }
  return known_[state];
}

std::shared_ptr<const PatternProfiles> PatternCache::known(const Hash128& hash, const ByteDfa& dfa) {
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->hash != hash || !(entry->profiles->dfa() == dfa)) continue;
    entries_.splice(entries_.begin(), entries_, entry);
    return entries_.front().profiles;
  }
  return nullptr;
}

std::shared_ptr<const PatternProfiles> PatternCache::find(const TokenTrie& trie,
                                                          const std::shared_ptr<const ByteDfa>& dfa) {
  const Hash128 hash = hash128(std::as_bytes(std::span(dfa->next)));
  {
    const std::lock_guard lock(mutex_);
    if (auto profiles = known(hash, *dfa)) return profiles;
  }
  auto made = std::make_shared<const PatternProfiles>(trie, dfa);
  const std::lock_guard lock(mutex_);
  if (auto profiles = known(hash, *dfa)) return profiles;  // another answer was quicker
  entries_.push_front({.hash = hash, .profiles = made});
  if (entries_.size() > text_limits::kPatternsKept) entries_.pop_back();
  return made;
}

}  // namespace hp

// What one vocabulary's tokens do to the automata of patterns, kept from answer to answer: schemas repeat, and so do
// the patterns in them (dates, addresses, identifiers).
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "base/hash.h"
#include "text/class_trie.h"

namespace hp {

/// The profiles of one automaton's states, each made at its first use. Locks itself.
class PatternProfiles {
 public:
  PatternProfiles(const TokenTrie& trie, std::shared_ptr<const ByteDfa> dfa)
      : dfa_(std::move(dfa)), classes_(trie, *dfa_), known_(dfa_->size()) {}

  [[nodiscard]] const ByteDfa& dfa() const { return *dfa_; }
  [[nodiscard]] std::shared_ptr<const StringProfile> at(std::uint16_t state) const;

 private:
  std::shared_ptr<const ByteDfa> dfa_;
  ClassTrie classes_;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const StringProfile>> known_;  ///< by state
  mutable std::size_t count_ = 0;
};

/// The automata used last. Locks itself, not while it looks at a new one.
class PatternCache {
 public:
  std::shared_ptr<const PatternProfiles> find(const TokenTrie& trie, const std::shared_ptr<const ByteDfa>& dfa);

 private:
  struct Entry {
    Hash128 hash;
    std::shared_ptr<const PatternProfiles> profiles;
  };
  [[nodiscard]] std::shared_ptr<const PatternProfiles> known(const Hash128& hash, const ByteDfa& dfa);

  std::mutex mutex_;
  std::list<Entry> entries_;  ///< the last used first
};

}  // namespace hp

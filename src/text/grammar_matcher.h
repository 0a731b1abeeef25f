// Follows one answer through a grammar: which tokens may come next, and what a token changes. Rebuilt by feeding the
// tokens again. Has the shape of the engine's Constraint without knowing it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/grammar.h"
#include "text/pattern_cache.h"
#include "text/token_trie.h"

namespace hp {

class GrammarMatcher {
 public:
  /// With `wait_for` anything but the end goes until that token (</think>) has come; the grammar begins behind it.
  GrammarMatcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie,
                 std::optional<TokenId> wait_for = std::nullopt);

  /// Clears the bits of tokens that may not come next; `mask` may be longer than the vocabulary. When the text is whole
  /// and nothing can follow, only end-of-generation tokens are left.
  void allowed(std::span<std::uint64_t> mask);
  void accept(TokenId token);
  /// The text so far is whole: it may end here.
  [[nodiscard]] bool finished() const;

 private:
  static constexpr NodeId kEnd = ~NodeId{0};  ///< behind the whole text
  /// One way to read the text so far. Where the rules go on that are open is a list of return nodes.
  struct Thread {
    NodeId node;
    std::uint32_t stack;          ///< index into stacks_; 0: no rule but the root is open
    std::uint16_t state = 0;      ///< of a string node's automaton
    std::int32_t characters = 0;  ///< complete in the string
    bool operator==(const Thread&) const = default;
  };
  using Threads = std::vector<Thread>;
  struct Frame {
    NodeId leave;
    std::uint32_t parent, depth;
  };

  std::uint32_t push(NodeId leave, std::uint32_t parent);
  void enter(NodeId node, std::uint32_t stack, Threads& out);
  void add(const Thread& thread, Threads& out);
  void step(std::span<const Thread> from, std::uint8_t byte, Threads& out);
  void begin_set();
  bool first_visit(std::uint64_t key);

  /// Tokens that may come next: those of all the profiles, and others.
  struct Allowed {
    std::vector<std::shared_ptr<const StringProfile>> held;
    std::vector<const TokenMask*> masks;  ///< of the profiles
    std::vector<TokenId> tokens;
  };
  const Allowed& allowed_of(const Threads& threads);
  void add_string(const Thread& thread, Allowed& out);
  struct ExitToken {
    TokenId token;
    std::int32_t characters;  ///< in the string before the closing quote
  };
  const std::vector<ExitToken>& exits_of(const Thread& thread, const Grammar::String& string,
                                         const StringProfile& profile);
  template <typename Found>
  void walk(std::uint32_t node, std::uint32_t set, Found found);
  std::uint32_t known_set(std::span<const Thread> threads);
  [[nodiscard]] std::array<std::uint64_t, 4> alive_bytes(std::span<const Thread> threads) const;
  [[nodiscard]] std::span<const Thread> threads_of(std::uint32_t set) const {
    return std::span(set_threads_).subspan(sets_[set].first_thread, sets_[set].threads);
  }
  std::uint32_t* place_of(std::uint64_t hash, std::span<const Thread> threads);
  std::uint32_t step_set(std::uint32_t set, std::uint8_t byte);
  void forget_sets();
  [[nodiscard]] std::string key_of(const Threads& threads) const;
  std::shared_ptr<const StringProfile> profile_of(std::uint32_t dfa, std::uint16_t state);
  void drop_unused_stacks();

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const TokenTrie> trie_;
  std::optional<TokenId> wait_for_;
  Threads now_;
  std::vector<Frame> stacks_;
  std::unordered_map<std::uint64_t, std::uint32_t> stack_ids_;
  std::unordered_map<std::string, Allowed> allowed_;
  TokenMask mask_;                                                 ///< of the step
  std::vector<std::shared_ptr<const PatternProfiles>> patterns_;   ///< by automaton
  std::unordered_map<std::string, std::vector<ExitToken>> exits_;  ///< by automaton, state and what follows the string
  /// Sets of threads that walks have met, and where bytes lead from them: most of a walk only looks up.
  struct Set {
    std::uint32_t first_thread, threads;  ///< in set_threads_
    std::array<std::uint64_t, 4> alive;   ///< bytes that may lead somewhere
    std::uint32_t first_to;               ///< in set_to_: for bytes from `low` to the highest alive, kUnknown or a set
    std::uint8_t low;
    std::uint64_t hash;
  };
  static constexpr std::uint32_t kNoThreads = 0, kUnknown = ~std::uint32_t{0};
  std::vector<Set> sets_;
  Threads set_threads_;
  std::vector<std::uint32_t> set_to_;
  std::vector<std::uint32_t> set_places_;  ///< hash table of sets_, a power of two and at most half full
  std::vector<std::pair<std::uint32_t, std::uint32_t>> walk_;  ///< open: node of the tree, set
  Threads stepped_;
  std::vector<std::pair<NodeId, std::uint32_t>> queue_;  ///< of enter()
  std::vector<std::uint64_t> visited_;                   ///< hash set of the set being made: key, or stale by stamp
  std::vector<std::uint32_t> visited_stamp_;
  std::uint32_t stamp_ = 0;
  std::size_t visited_count_ = 0;
};

}  // namespace hp

#include "text/grammar_matcher.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "text/limits.h"

namespace hp {
namespace {

constexpr std::int32_t kFarLeft = 0xFFFF;  ///< characters: no token reaches so far

void set_bit(TokenMask& mask, TokenId token) {
  mask[static_cast<std::size_t>(token) / 64] |= std::uint64_t{1} << (static_cast<std::size_t>(token) % 64);
}

std::uint64_t mix(std::uint64_t key) {
  key ^= key >> 31U;
  key *= 0x9E3779B97F4A7C15ULL;
  return key ^ (key >> 29U);
}

}  // namespace

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie,
                               std::optional<TokenId> wait_for)
    : grammar_(std::move(grammar)),
      trie_(std::move(trie)),
      wait_for_(wait_for),
      stacks_(1, Frame{.leave = kEnd, .parent = 0, .depth = 0}),
      mask_(trie_->mask_words()),
      patterns_(grammar_->dfas.size()),
      visited_(1024),
      visited_stamp_(1024, 0) {
  // Before the first token is a better time than between two; automata beyond a few wait until they are needed.
  for (std::uint32_t d = 1; d < std::min(grammar_->dfas.size(), text_limits::kEagerClassTries); ++d)
    patterns_[d] = trie_->pattern(grammar_->dfas[d]);
  begin_set();
  enter(grammar_->start, 0, now_);
}

std::uint32_t GrammarMatcher::push(NodeId leave, std::uint32_t parent) {
  const std::uint64_t key = (static_cast<std::uint64_t>(leave) << 32U) | parent;
  const auto [at, fresh] = stack_ids_.try_emplace(key, static_cast<std::uint32_t>(stacks_.size()));
  if (fresh) stacks_.push_back({leave, parent, stacks_[parent].depth + 1});
  return at->second;
}

void GrammarMatcher::begin_set() {
  ++stamp_;
  visited_count_ = 0;
}

/// Whether `key` is new to the set being made.
bool GrammarMatcher::first_visit(std::uint64_t key) {
  if (2 * visited_count_ > visited_.size()) {
    const auto old = std::exchange(visited_, std::vector<std::uint64_t>(visited_.size() * 2));
    const auto stamps = std::exchange(visited_stamp_, std::vector<std::uint32_t>(old.size() * 2, 0));
    visited_count_ = 0;
    for (std::size_t i = 0; i < old.size(); ++i) {
      if (stamps[i] == stamp_) first_visit(old[i]);
    }
  }
  const std::size_t size = visited_.size();
  for (std::size_t at = mix(key) & (size - 1);; at = (at + 1) & (size - 1)) {
    if (visited_stamp_[at] == stamp_ && visited_[at] == key) return false;
    if (visited_stamp_[at] == stamp_) continue;
    visited_stamp_[at] = stamp_;
    visited_[at] = key;
    ++visited_count_;
    return true;
  }
}

void GrammarMatcher::add(const Thread& thread, Threads& out) {
  // One alternative too many is left out: what remains is stricter, never wrong. The order is that of the grammar.
  if (out.size() < text_limits::kGrammarThreadsMax) out.push_back(thread);
}

/// Everything that `node` leads to without a byte.
void GrammarMatcher::enter(NodeId first, std::uint32_t first_stack, Threads& out) {
  queue_.assign(1, {first, first_stack});
  // Enough alternatives end the search too: nested choices can have more readings than could ever be listed.
  while (!queue_.empty() && out.size() < text_limits::kGrammarThreadsMax) {
    const auto [id, stack] = queue_.back();
    queue_.pop_back();
    if (!first_visit((static_cast<std::uint64_t>(id) << 32U) | stack)) continue;
    if (id == kEnd) {
      add(Thread{.node = kEnd, .stack = 0}, out);
      continue;
    }
    const Grammar::Node& node = grammar_->nodes[id];
    if (!node.bytes.empty() || !node.tokens.empty() || node.string >= 0) add(Thread{.node = id, .stack = stack}, out);
    // Too deep, only the shortest ways out are followed, so that a text that contains itself comes to an end.
    const std::uint32_t most = stacks_[stack].depth < text_limits::kGrammarDepthMax ? ~std::uint32_t{0} : node.height;
    const auto height = [&](NodeId n) { return grammar_->nodes[n].height; };
    if (node.ends_rule) queue_.emplace_back(stacks_[stack].leave, stacks_[stack].parent);
    for (auto call = node.calls.rbegin(); call != node.calls.rend(); ++call) {
      const bool short_enough = std::max(height(call->enter) + 1, height(call->leave)) <= most;
      if (short_enough) queue_.emplace_back(call->enter, push(call->leave, stack));
    }
    for (auto to = node.free.rbegin(); to != node.free.rend(); ++to) {
      if (height(*to) <= most) queue_.emplace_back(*to, stack);
    }
  }
}

void GrammarMatcher::step(std::span<const Thread> from, std::uint8_t byte, Threads& out) {
  begin_set();
  out.clear();
  for (const Thread& thread : from) {
    if (thread.node == kEnd) continue;
    const Grammar::Node& node = grammar_->nodes[thread.node];
    const bool deep = stacks_[thread.stack].depth >= text_limits::kGrammarDepthMax;
    for (const auto& edge : node.bytes) {
      if (deep && grammar_->nodes[edge.to].height > node.height) continue;
      if (edge.low <= byte && byte <= edge.high) enter(edge.to, thread.stack, out);
    }
    if (node.string < 0) continue;
    const Grammar::String& string = grammar_->strings[static_cast<std::size_t>(node.string)];
    const ByteDfa& dfa = *grammar_->dfas[string.dfa];
    if (byte == '"' && dfa.accepts[thread.state]) {
      if (thread.characters >= string.min) enter(string.to, thread.stack, out);
      continue;
    }
    const std::uint16_t to = dfa.next[thread.state][byte];
    if (to == ByteDfa::kDead) continue;
    const std::int32_t characters = thread.characters + (dfa.between[to] ? 1 : 0);
    if (string.max >= 0 && characters + (dfa.between[to] ? 0 : 1) > string.max) continue;
    // Beyond the minimum of an unlimited string nothing counts any more; equal threads must look equal.
    const bool counts = string.max >= 0 || characters < string.min;
    const Thread next{
        .node = thread.node, .stack = thread.stack, .state = to, .characters = counts ? characters : string.min};
    if (std::find(out.begin(), out.end(), next) == out.end()) add(next, out);
  }
}

bool GrammarMatcher::finished() const {
  return !wait_for_ && std::any_of(now_.begin(), now_.end(), [](const Thread& t) { return t.node == kEnd; });
}

void GrammarMatcher::accept(TokenId token) {
  if (wait_for_) {
    if (token == *wait_for_) wait_for_.reset();
    return;
  }
  if (token < 0 || token >= trie_->vocab_size()) return;
  const auto ends = trie_->ends();
  if (std::find(ends.begin(), ends.end(), token) != ends.end()) return;
  Threads next;
  if (!trie_->plain(token)) {
    begin_set();
    for (const Thread& thread : now_) {
      if (thread.node == kEnd) continue;
      for (const auto& edge : grammar_->nodes[thread.node].tokens) {
        if (edge.token == token) enter(edge.to, thread.stack, next);
      }
    }
    now_ = std::move(next);
    return;
  }
  for (const char c : trie_->bytes(token)) {
    step(now_, static_cast<std::uint8_t>(c), next);
    std::swap(now_, next);
  }
  if (stacks_.size() > text_limits::kGrammarStacksMax) drop_unused_stacks();
}

void GrammarMatcher::allowed(std::span<std::uint64_t> mask) {
  const auto clear_beyond = [&](std::size_t words) {
    for (std::size_t w = words; w < mask.size(); ++w) mask[w] = 0;
  };
  if (wait_for_) {
    clear_beyond(trie_->mask_words());
    for (const TokenId end : trie_->ends()) {
      mask[static_cast<std::size_t>(end) / 64] &= ~(std::uint64_t{1} << (static_cast<std::size_t>(end) % 64));
    }
    return;
  }
  const Allowed& known = allowed_of(now_);
  if (known.masks.empty()) {
    std::fill(mask_.begin(), mask_.end(), 0);
  } else {
    mask_ = *known.masks[0];
  }
  for (std::size_t m = 1; m < known.masks.size(); ++m) {
    for (std::size_t w = 0; w < mask_.size(); ++w) mask_[w] |= (*known.masks[m])[w];
  }
  for (const TokenId t : known.tokens) set_bit(mask_, t);
  const std::size_t words = std::min(mask.size(), mask_.size());
  for (std::size_t w = 0; w < words; ++w) mask[w] &= mask_[w];
  clear_beyond(words);
}

const GrammarMatcher::Allowed& GrammarMatcher::allowed_of(const Threads& threads) {
  std::string key = key_of(threads);
  if (const auto known = allowed_.find(key); known != allowed_.end()) return known->second;
  if (allowed_.size() >= text_limits::kMaskCacheMax) allowed_.clear();
  if (sets_.empty() || sets_.size() > text_limits::kThreadSetsMax) forget_sets();
  Allowed out;
  const auto add_ends = [&] { out.tokens.insert(out.tokens.end(), trie_->ends().begin(), trie_->ends().end()); };
  Threads plain;
  for (const Thread& thread : threads) {
    if (thread.node == kEnd) {
      add_ends();
      continue;
    }
    const Grammar::Node& node = grammar_->nodes[thread.node];
    for (const auto& edge : node.tokens) out.tokens.push_back(edge.token);
    if (node.string < 0) {
      plain.push_back(thread);
    } else {
      add_string(thread, out);
    }
  }
  walk(0, known_set(plain), [&](TokenId t) { out.tokens.push_back(t); });
  const bool any = !out.tokens.empty() || std::any_of(out.masks.begin(), out.masks.end(), [](const TokenMask* mask) {
    return std::any_of(mask->begin(), mask->end(), [](std::uint64_t w) { return w != 0; });
  });
  if (!any)
    add_ends();  // a vocabulary that lacks a byte, or tokens that came against the grammar: end rather than hang
  return allowed_.emplace(std::move(key), std::move(out)).first->second;
}

/// A string: most tokens by the automaton's profile; only those that close it depend on what follows.
void GrammarMatcher::add_string(const Thread& thread, Allowed& out) {
  const auto& string = grammar_->strings[static_cast<std::size_t>(grammar_->nodes[thread.node].string)];
  const auto profile = profile_of(string.dfa, thread.state);
  if (!profile->inside.empty()) {
    const std::int32_t left = string.max < 0 ? -1 : string.max - thread.characters;
    // A token of very many characters is kept back near a limit, where it is in the last mask only.
    const bool all = left < 0 || left > kFarLeft || profile->inside.size() == 1;
    out.masks.push_back(all ? &profile->inside.back()
                            : &profile->inside[static_cast<std::size_t>(std::min(left, StringProfile::kNeedMax))]);
    out.held.push_back(profile);
  }
  out.tokens.insert(out.tokens.end(), profile->few.begin(), profile->few.end());
  for (const ExitToken& exit : exits_of(thread, string, *profile)) {
    const std::int32_t characters = thread.characters + exit.characters;
    if (characters >= string.min && (string.max < 0 || characters <= string.max)) out.tokens.push_back(exit.token);
  }
}

/// The tokens that close the string and go on as the grammar does behind it.
const std::vector<GrammarMatcher::ExitToken>& GrammarMatcher::exits_of(const Thread& thread,
                                                                       const Grammar::String& string,
                                                                       const StringProfile& profile) {
  std::string key;
  for (const std::uint32_t v : {string.dfa, static_cast<std::uint32_t>(thread.state), string.to, thread.stack}) {
    key.append(reinterpret_cast<const char*>(&v), sizeof v);
  }
  const auto known = exits_.find(key);
  if (known != exits_.end()) return known->second;
  if (exits_.size() >= text_limits::kMaskCacheMax) exits_.clear();
  std::vector<ExitToken>& list = exits_[std::move(key)];
  Threads behind;
  begin_set();
  enter(string.to, thread.stack, behind);
  const std::uint32_t from = known_set(behind);
  for (const auto& exit : profile.exits) {
    const auto found = [&](TokenId token) { list.push_back({token, exit.characters}); };
    for (TokenId t = trie_->node(exit.node).token; t >= 0; t = trie_->same(t)) found(t);
    walk(exit.node, from, found);
  }
  return list;
}

std::uint32_t GrammarMatcher::known_set(std::span<const Thread> threads) {
  if (2 * (sets_.size() + 1) > set_places_.size()) {
    set_places_.assign(std::max<std::size_t>(1024, 2 * set_places_.size()), kUnknown);
    for (std::uint32_t s = 0; s < sets_.size(); ++s) *place_of(sets_[s].hash, threads_of(s)) = s;
  }
  std::uint64_t hash = threads.size();
  for (const Thread& t : threads) {
    hash = mix(hash ^ ((static_cast<std::uint64_t>(t.node) << 32U) | t.stack));
    hash = mix(hash + ((static_cast<std::uint64_t>(t.state) << 32U) | static_cast<std::uint32_t>(t.characters)));
  }
  std::uint32_t& place = *place_of(hash, threads);
  if (place != kUnknown) return place;
  Set set{.first_thread = static_cast<std::uint32_t>(set_threads_.size()),
          .threads = static_cast<std::uint32_t>(threads.size()),
          .alive = alive_bytes(threads),
          .first_to = static_cast<std::uint32_t>(set_to_.size()),
          .low = 0,
          .hash = hash};
  unsigned low = 0, end = 256;
  const auto alive = [&](unsigned byte) { return (set.alive[byte / 64] >> (byte % 64) & 1U) != 0; };
  while (low < 256 && !alive(low)) ++low;
  while (end > low && !alive(end - 1)) --end;
  set.low = static_cast<std::uint8_t>(low);
  set_to_.insert(set_to_.end(), end - low, kUnknown);
  set_threads_.insert(set_threads_.end(), threads.begin(), threads.end());
  sets_.push_back(set);
  return place = static_cast<std::uint32_t>(sets_.size() - 1);
}

/// Where in set_places_ the set of these threads is, or where it belongs.
std::uint32_t* GrammarMatcher::place_of(std::uint64_t hash, std::span<const Thread> threads) {
  const std::size_t size = set_places_.size();
  for (std::size_t at = hash & (size - 1);; at = (at + 1) & (size - 1)) {
    const std::uint32_t set = set_places_[at];
    if (set == kUnknown) return &set_places_[at];
    if (sets_[set].hash == hash && std::ranges::equal(threads_of(set), threads)) return &set_places_[at];
  }
}

/// Bytes that may lead somewhere from `threads`; any other leads nowhere.
std::array<std::uint64_t, 4> GrammarMatcher::alive_bytes(std::span<const Thread> threads) const {
  std::array<std::uint64_t, 4> out{};
  const auto set = [&](unsigned byte) { out[byte / 64] |= std::uint64_t{1} << (byte % 64); };
  for (const Thread& thread : threads) {
    if (thread.node == kEnd) continue;
    const Grammar::Node& node = grammar_->nodes[thread.node];
    for (const auto& edge : node.bytes) {
      for (unsigned byte = edge.low; byte <= edge.high; ++byte) set(byte);
    }
    if (node.string < 0) continue;
    const ByteDfa& dfa = *grammar_->dfas[grammar_->strings[static_cast<std::size_t>(node.string)].dfa];
    if (dfa.accepts[thread.state]) set('"');
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (dfa.next[thread.state][byte] != ByteDfa::kDead) set(byte);
    }
  }
  return out;
}

/// `byte` is one of those that may lead somewhere.
std::uint32_t GrammarMatcher::step_set(std::uint32_t set, std::uint8_t byte) {
  const std::size_t at = sets_[set].first_to + byte - sets_[set].low;
  if (set_to_[at] == kUnknown) {
    step(threads_of(set), byte, stepped_);
    const std::uint32_t to = known_set(stepped_);
    set_to_[at] = to;
  }
  return set_to_[at];
}

void GrammarMatcher::forget_sets() {
  sets_.clear();
  set_threads_.clear();
  set_to_.clear();
  std::fill(set_places_.begin(), set_places_.end(), kUnknown);
  known_set({});  // kNoThreads
}

/// Reports all tokens behind a node of the tree whose further bytes some thread of the set can follow.
template <typename Found>
void GrammarMatcher::walk(std::uint32_t node, std::uint32_t set, Found found) {
  if (set == kNoThreads) return;
  walk_.assign(1, {node, set});
  while (!walk_.empty()) {
    const auto [above, from] = walk_.back();
    walk_.pop_back();
    const TrieNode& parent = trie_->node(above);
    const std::array<std::uint64_t, 4> alive = sets_[from].alive;
    for (std::uint32_t n = parent.first_child; n < parent.first_child + parent.children; ++n) {
      const std::uint8_t byte = trie_->last_byte(n);
      if ((alive[byte / 64U] >> (byte % 64U) & 1U) == 0) continue;
      const std::uint32_t to = step_set(from, byte);
      if (to == kNoThreads) continue;
      const TrieNode& child = trie_->node(n);
      for (TokenId t = child.token; t >= 0; t = trie_->same(t)) found(t);
      if (child.children > 0) walk_.emplace_back(n, to);
    }
  }
}

/// Equal keys, equal masks: how many characters are left counts only as far as a token can see.
std::string GrammarMatcher::key_of(const Threads& threads) const {
  std::string key;
  const auto put = [&](std::uint32_t v) { key.append(reinterpret_cast<const char*>(&v), sizeof v); };
  for (const Thread& thread : threads) {
    put(thread.node);
    put(thread.stack);
    if (thread.node == kEnd || grammar_->nodes[thread.node].string < 0) continue;
    const auto& string = grammar_->strings[static_cast<std::size_t>(grammar_->nodes[thread.node].string)];
    const std::int32_t reach = trie_->quote_reach() + 1;
    const std::int32_t missing = std::clamp(string.min - thread.characters, 0, reach);
    std::int32_t left = string.max < 0 ? -1 : string.max - thread.characters;
    if (left > std::max(reach, StringProfile::kNeedMax)) left = left > kFarLeft ? kFarLeft + 1 : kFarLeft;
    put(thread.state);
    put(static_cast<std::uint32_t>(missing));
    put(static_cast<std::uint32_t>(left));
  }
  return key;
}

std::shared_ptr<const StringProfile> GrammarMatcher::profile_of(std::uint32_t dfa, std::uint16_t state) {
  if (dfa == 0) return trie_->any_string(state);
  if (!patterns_[dfa]) patterns_[dfa] = trie_->pattern(grammar_->dfas[dfa]);
  return patterns_[dfa]->at(state);
}

/// Keeps the return places that threads still have; ids change, so that masks are forgotten.
void GrammarMatcher::drop_unused_stacks() {
  const std::vector<Frame> old =
      std::exchange(stacks_, std::vector<Frame>(1, Frame{.leave = kEnd, .parent = 0, .depth = 0}));
  stack_ids_.clear();
  allowed_.clear();
  exits_.clear();
  forget_sets();
  for (Thread& thread : now_) {
    std::vector<NodeId> path;
    for (std::uint32_t s = thread.stack; s != 0; s = old[s].parent) path.push_back(old[s].leave);
    thread.stack = 0;
    for (auto leave = path.rbegin(); leave != path.rend(); ++leave) thread.stack = push(*leave, thread.stack);
  }
}

}  // namespace hp

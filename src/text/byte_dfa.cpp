#include "text/byte_dfa.h"

#include <map>
#include <utility>

#include "base/check.h"
#include "text/limits.h"

namespace hp {
namespace {

void set_range(ByteDfa& dfa, std::uint16_t from, unsigned low, unsigned high, std::uint16_t to) {
  for (unsigned byte = low; byte <= high; ++byte) dfa.next[from][byte] = to;
}

void set_hex(ByteDfa& dfa, std::uint16_t from, std::uint16_t to) {
  set_range(dfa, from, '0', '9', to);
  set_range(dfa, from, 'a', 'f', to);
  set_range(dfa, from, 'A', 'F', to);
}

/// UTF-8 beyond ASCII (Unicode 15, table 3-7) from `ready` back to `ready`.
void add_utf8(ByteDfa& dfa, std::uint16_t ready) {
  const std::uint16_t last = dfa.add_state(false, false);
  const std::uint16_t two = dfa.add_state(false, false);
  const std::uint16_t three = dfa.add_state(false, false);
  const std::uint16_t e0 = dfa.add_state(false, false);
  const std::uint16_t ed = dfa.add_state(false, false);
  const std::uint16_t f0 = dfa.add_state(false, false);
  const std::uint16_t f4 = dfa.add_state(false, false);
  set_range(dfa, ready, 0xC2, 0xDF, last);
  set_range(dfa, ready, 0xE1, 0xEF, two);
  set_range(dfa, ready, 0xE0, 0xE0, e0);
  set_range(dfa, ready, 0xED, 0xED, ed);
  set_range(dfa, ready, 0xF1, 0xF3, three);
  set_range(dfa, ready, 0xF0, 0xF0, f0);
  set_range(dfa, ready, 0xF4, 0xF4, f4);
  set_range(dfa, last, 0x80, 0xBF, ready);
  set_range(dfa, two, 0x80, 0xBF, last);
  set_range(dfa, three, 0x80, 0xBF, two);
  set_range(dfa, e0, 0xA0, 0xBF, last);
  set_range(dfa, ed, 0x80, 0x9F, last);
  set_range(dfa, f0, 0x90, 0xBF, two);
  set_range(dfa, f4, 0x80, 0x8F, two);
}

ByteDfa plain_strings() {
  ByteDfa dfa;
  const std::uint16_t ready = dfa.add_state(true, true);
  set_range(dfa, ready, 0x20, 0x7E, ready);
  dfa.next[ready]['"'] = dfa.next[ready]['\\'] = ByteDfa::kDead;
  add_utf8(dfa, ready);
  return dfa;
}

ByteDfa all_strings() {
  ByteDfa dfa = plain_strings();
  constexpr std::uint16_t kReady = 0;
  const std::uint16_t escape = dfa.add_state(false, false);
  const std::uint16_t hex4 = dfa.add_state(false, false);
  const std::uint16_t hex3 = dfa.add_state(false, false);
  const std::uint16_t hex3_low = dfa.add_state(false, false);  // after \ud: a surrogate would follow on 8 to f
  const std::uint16_t hex2 = dfa.add_state(false, false);
  const std::uint16_t hex1 = dfa.add_state(false, false);
  dfa.next[kReady]['\\'] = escape;
  for (const char c : std::string_view("\"\\/bfnrt")) dfa.next[escape][static_cast<std::uint8_t>(c)] = kReady;
  dfa.next[escape]['u'] = hex4;
  set_hex(dfa, hex4, hex3);
  dfa.next[hex4]['d'] = dfa.next[hex4]['D'] = hex3_low;
  set_hex(dfa, hex3, hex2);
  set_range(dfa, hex3_low, '0', '7', hex2);
  set_hex(dfa, hex2, hex1);
  set_hex(dfa, hex1, kReady);
  return dfa;
}

}  // namespace

std::uint16_t ByteDfa::add_state(bool between_characters, bool accepting) {
  HP_CHECK(size() < kDead, "{} states", size());
  next.emplace_back().fill(kDead);
  accepts.push_back(accepting);
  between.push_back(between_characters);
  return static_cast<std::uint16_t>(size() - 1);
}

const ByteDfa& any_string_dfa() {
  static const ByteDfa kDfa = all_strings();
  return kDfa;
}

Result<ByteDfa> other_strings_dfa(std::span<const std::string> excluded) {
  const ByteDfa plain = plain_strings();
  // States 0 to n-1 stand on the tree of excluded strings, each with the plain state it is in; then the plain states.
  struct Place {
    std::map<std::uint8_t, std::size_t> children;
    std::uint16_t plain = 0;
    bool end = false;
  };
  std::vector<Place> tree(1);
  for (const std::string& text : excluded) {
    std::size_t at = 0, done = 0;
    for (; done < text.size(); ++done) {
      const auto byte = static_cast<std::uint8_t>(text[done]);
      const std::uint16_t to = plain.next[tree[at].plain][byte];
      if (to == ByteDfa::kDead) break;  // spelled with an escape: cannot come out of this automaton
      const auto [child, fresh] = tree[at].children.try_emplace(byte, tree.size());
      at = child->second;
      if (fresh) tree.push_back({.children = {}, .plain = to, .end = false});
    }
    if (done == text.size()) tree[at].end = true;
  }
  if (tree.size() + plain.size() > text_limits::kDfaStatesMax) {
    return fail(ErrorCode::invalid_argument, "the property names are too long together; expected at most {} bytes",
                text_limits::kDfaStatesMax);
  }
  ByteDfa dfa;
  for (const Place& place : tree) dfa.add_state(plain.between[place.plain], plain.accepts[place.plain] && !place.end);
  const auto base = static_cast<std::uint16_t>(tree.size());
  for (std::size_t s = 0; s < plain.size(); ++s) dfa.add_state(plain.between[s], plain.accepts[s]);
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const auto off = [&](std::uint16_t to) {
      return to == ByteDfa::kDead ? to : static_cast<std::uint16_t>(base + to);
    };
    for (std::size_t s = 0; s < plain.size(); ++s) dfa.next[base + s][byte] = off(plain.next[s][byte]);
    for (std::size_t s = 0; s < tree.size(); ++s) {
      const auto child = tree[s].children.find(static_cast<std::uint8_t>(byte));
      dfa.next[s][byte] = child != tree[s].children.end() ? static_cast<std::uint16_t>(child->second)
                                                          : off(plain.next[tree[s].plain][byte]);
    }
  }
  return dfa;
}

Result<ByteDfa> with_length(const ByteDfa& dfa, std::int64_t min, std::int64_t max) {
  // A state and how many characters are complete; beyond `min` without a maximum they need no counting.
  using Key = std::pair<std::uint16_t, std::int64_t>;
  std::map<Key, std::uint16_t> known;
  std::vector<Key> queue;
  ByteDfa out;
  const auto state_of = [&](const Key& key) {
    const auto [at, fresh] = known.try_emplace(key, static_cast<std::uint16_t>(out.size()));
    if (fresh) {
      out.add_state(dfa.between[key.first], dfa.accepts[key.first] && key.second >= min);
      queue.push_back(key);
    }
    return at->second;
  };
  state_of({0, 0});
  for (std::size_t done = 0; done < queue.size(); ++done) {
    if (out.size() + 256 > text_limits::kDfaStatesMax) {
      return fail(ErrorCode::invalid_argument,
                  "a pattern with these lengths needs more than {} states; use smaller lengths or drop one of the two",
                  text_limits::kDfaStatesMax);
    }
    const auto [state, count] = queue[done];
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint16_t to = dfa.next[state][byte];
      if (to == ByteDfa::kDead) continue;
      std::int64_t then = count + (dfa.between[to] ? 1 : 0);
      if (max >= 0 && (then > max || (!dfa.between[to] && then + 1 > max))) continue;
      if (max < 0 && then > min) then = min;
      const std::uint16_t target = state_of({to, then});
      out.next[done][byte] = target;
    }
  }
  if (!prune(out)) return fail(ErrorCode::invalid_argument, "no string has both the pattern and the length");
  return out;
}

bool prune(ByteDfa& dfa) {
  std::vector<std::vector<std::uint16_t>> before(dfa.size());
  std::vector<std::uint16_t> queue;
  std::vector<bool> good(dfa.size(), false);
  for (std::size_t s = 0; s < dfa.size(); ++s) {
    std::uint16_t last = ByteDfa::kDead;
    for (const std::uint16_t to : dfa.next[s]) {
      if (to != ByteDfa::kDead && to != last) before[to].push_back(static_cast<std::uint16_t>(s));
      last = to;
    }
    if (dfa.accepts[s]) {
      good[s] = true;
      queue.push_back(static_cast<std::uint16_t>(s));
    }
  }
  while (!queue.empty()) {
    const std::uint16_t state = queue.back();
    queue.pop_back();
    for (const std::uint16_t s : before[state]) {
      if (good[s]) continue;
      good[s] = true;
      queue.push_back(s);
    }
  }
  for (auto& row : dfa.next) {
    for (std::uint16_t& to : row) {
      if (to != ByteDfa::kDead && !good[to]) to = ByteDfa::kDead;
    }
  }
  return !good.empty() && good[0];
}

}  // namespace hp

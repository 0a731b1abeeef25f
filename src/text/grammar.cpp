#include "text/grammar.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace hp {

GrammarBuilder::GrammarBuilder() {
  // Not owned: the any-string automaton lives as long as the program.
  grammar_.dfas.emplace_back(std::shared_ptr<const ByteDfa>(), &any_string_dfa());
}

NodeId GrammarBuilder::node() {
  grammar_.nodes.emplace_back();
  return static_cast<NodeId>(grammar_.nodes.size() - 1);
}

RuleId GrammarBuilder::rule() {
  const NodeId enter = node();
  const NodeId leave = node();
  grammar_.nodes[leave].ends_rule = true;
  rules_.push_back({enter, leave});
  return static_cast<RuleId>(rules_.size() - 1);
}

NodeId GrammarBuilder::literal(NodeId from, std::string_view text) {
  for (const char c : text) {
    const NodeId to = node();
    byte(from, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), to);
    from = to;
  }
  return from;
}

NodeId GrammarBuilder::token(NodeId from, TokenId token) {
  const NodeId to = node();
  grammar_.nodes[from].tokens.push_back({token, to});
  return to;
}

NodeId GrammarBuilder::call(NodeId from, RuleId rule) {
  const NodeId to = node();
  grammar_.nodes[from].calls.push_back({rules_[rule].enter, to});
  return to;
}

std::uint32_t GrammarBuilder::add_dfa(ByteDfa dfa) {
  grammar_.dfas.push_back(std::make_shared<const ByteDfa>(std::move(dfa)));
  return static_cast<std::uint32_t>(grammar_.dfas.size() - 1);
}

NodeId GrammarBuilder::string(NodeId from, std::uint32_t dfa, std::int32_t min, std::int32_t max) {
  const NodeId inside = literal(from, "\"");
  const NodeId to = node();
  grammar_.nodes[inside].string = static_cast<std::int32_t>(grammar_.strings.size());
  grammar_.strings.push_back({.dfa = dfa, .min = min, .max = max, .to = to});
  return to;
}

/// From which nodes the end of their rule can be reached, by finite texts.
std::vector<bool> GrammarBuilder::finishable() const {
  const auto& nodes = grammar_.nodes;
  std::vector<std::vector<NodeId>> before(nodes.size());  // a step away, calls apart
  struct Site {
    NodeId from, leave;
  };
  std::unordered_map<NodeId, std::vector<Site>> callers;                         // by the called rule's first node
  std::vector<std::vector<std::pair<NodeId, NodeId>>> calls_into(nodes.size());  // by leave: (from, enter)
  for (NodeId n = 0; n < nodes.size(); ++n) {
    for (const auto& edge : nodes[n].bytes) before[edge.to].push_back(n);
    for (const auto& edge : nodes[n].tokens) before[edge.to].push_back(n);
    for (const NodeId to : nodes[n].free) before[to].push_back(n);
    if (nodes[n].string >= 0) before[grammar_.strings[static_cast<std::size_t>(nodes[n].string)].to].push_back(n);
    for (const auto& call : nodes[n].calls) {
      callers[call.enter].push_back({n, call.leave});
      calls_into[call.leave].emplace_back(n, call.enter);
    }
  }
  std::vector<bool> good(nodes.size(), false);
  std::vector<NodeId> queue;
  const auto reach = [&](NodeId n) {
    if (good[n]) return;
    good[n] = true;
    queue.push_back(n);
  };
  for (const Rule& rule : rules_) reach(rule.leave);
  while (!queue.empty()) {
    const NodeId n = queue.back();
    queue.pop_back();
    for (const NodeId from : before[n]) reach(from);
    for (const auto& [from, enter] : calls_into[n]) {
      if (good[enter]) reach(from);
    }
    if (const auto sites = callers.find(n); sites != callers.end()) {
      for (const Site& site : sites->second) {
        if (good[site.leave]) reach(site.from);
      }
    }
  }
  return good;
}

/// A rule that can come to its own beginning again without a byte would be entered without end.
Status GrammarBuilder::check_left_recursion() const {
  const auto& nodes = grammar_.nodes;
  std::unordered_map<NodeId, std::size_t> rule_at;
  for (std::size_t r = 0; r < rules_.size(); ++r) rule_at.emplace(rules_[r].enter, r);
  // Rules whose end can be reached without a byte; grows until nothing changes.
  std::vector<bool> empty(rules_.size(), false);
  std::vector<std::vector<std::size_t>> first(rules_.size());
  std::vector<std::uint32_t> seen(nodes.size(), 0);
  std::uint32_t stamp = 0;
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t r = 0; r < rules_.size(); ++r) {
      first[r].clear();
      ++stamp;
      std::vector<NodeId> queue = {rules_[r].enter};
      while (!queue.empty()) {
        const NodeId n = queue.back();
        queue.pop_back();
        if (std::exchange(seen[n], stamp) == stamp) continue;
        if (n == rules_[r].leave && !empty[r]) empty[r] = changed = true;
        for (const NodeId to : nodes[n].free) queue.push_back(to);
        for (const auto& call : nodes[n].calls) {
          first[r].push_back(rule_at.at(call.enter));
          if (empty[rule_at.at(call.enter)]) queue.push_back(call.leave);
        }
      }
    }
  }
  std::vector<int> color(rules_.size(), 0);  // 1: on the path, 2: done
  for (std::size_t root = 0; root < rules_.size(); ++root) {
    std::vector<std::pair<std::size_t, std::size_t>> path;
    if (color[root] == 0) path.emplace_back(root, 0);
    while (!path.empty()) {
      auto& [rule, next] = path.back();
      color[rule] = 1;
      if (next == first[rule].size()) {
        color[rule] = 2;
        path.pop_back();
        continue;
      }
      const std::size_t to = first[rule][next++];
      if (color[to] == 1) {
        return fail(ErrorCode::invalid_argument, "a $ref leads back to itself without anything in between");
      }
      if (color[to] == 0) path.emplace_back(to, 0);
    }
  }
  return {};
}

Result<Grammar> GrammarBuilder::build(RuleId root) && {
  HP_TRY_VOID(check_left_recursion());
  const std::vector<bool> good = finishable();
  if (!good[rules_[root].enter]) {
    return fail(
        ErrorCode::invalid_argument,
        "nothing finite matches: a required part contains itself again, or its conditions contradict each other");
  }
  for (auto& node : grammar_.nodes) {
    std::erase_if(node.bytes, [&](const auto& e) { return !good[e.to]; });
    std::erase_if(node.tokens, [&](const auto& e) { return !good[e.to]; });
    std::erase_if(node.free, [&](NodeId to) { return !good[to]; });
    std::erase_if(node.calls, [&](const auto& c) { return !good[c.enter] || !good[c.leave]; });
  }
  grammar_.start = rules_[root].enter;
  return std::move(grammar_);
}

}  // namespace hp

#include "text/grammar.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <utility>

namespace hp {
namespace {

constexpr std::uint32_t kNever = ~std::uint32_t{0};

}  // namespace

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

/// Of every node the height, kNever where no finite text ends the rule. Nodes are settled from low to high, as in
/// Dijkstra's algorithm; a call is as high as what it leads to, and one more than the rule that it calls (Knuth, A
/// Generalization of Dijkstra's Algorithm, 1977).
std::vector<std::uint32_t> GrammarBuilder::heights() const {
  const auto& nodes = grammar_.nodes;
  std::vector<std::vector<NodeId>> before(nodes.size());                         // a step away, calls apart
  std::unordered_map<NodeId, std::vector<std::pair<NodeId, NodeId>>> callers;    // by enter: from, leave
  std::vector<std::vector<std::pair<NodeId, NodeId>>> calls_into(nodes.size());  // by leave: from, enter
  for (NodeId n = 0; n < nodes.size(); ++n) {
    for (const auto& edge : nodes[n].bytes) before[edge.to].push_back(n);
    for (const auto& edge : nodes[n].tokens) before[edge.to].push_back(n);
    for (const NodeId to : nodes[n].free) before[to].push_back(n);
    if (nodes[n].string >= 0) before[grammar_.strings[static_cast<std::size_t>(nodes[n].string)].to].push_back(n);
    for (const auto& call : nodes[n].calls) {
      callers[call.enter].emplace_back(n, call.leave);
      calls_into[call.leave].emplace_back(n, call.enter);
    }
  }
  std::vector<std::uint32_t> height(nodes.size(), kNever);
  using Entry = std::pair<std::uint32_t, NodeId>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
  for (const Rule& rule : rules_) queue.emplace(0, rule.leave);
  while (!queue.empty()) {
    const auto [h, n] = queue.top();
    queue.pop();
    if (height[n] != kNever) continue;
    height[n] = h;
    for (const NodeId from : before[n]) queue.emplace(h, from);
    for (const auto& [from, enter] : calls_into[n]) {
      if (height[enter] != kNever) queue.emplace(std::max(h, height[enter] + 1), from);
    }
    if (const auto sites = callers.find(n); sites != callers.end()) {
      for (const auto& [from, leave] : sites->second) {
        if (height[leave] != kNever) queue.emplace(std::max(height[leave], h + 1), from);
      }
    }
  }
  return height;
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
  const std::vector<std::uint32_t> height = heights();
  if (height[rules_[root].enter] == kNever) {
    return fail(
        ErrorCode::invalid_argument,
        "nothing finite matches: a required part contains itself again, or its conditions contradict each other");
  }
  const auto never = [&](NodeId n) { return height[n] == kNever; };
  for (NodeId n = 0; n < grammar_.nodes.size(); ++n) {
    Grammar::Node& node = grammar_.nodes[n];
    node.height = height[n];
    std::erase_if(node.bytes, [&](const auto& e) { return never(e.to); });
    std::erase_if(node.tokens, [&](const auto& e) { return never(e.to); });
    std::erase_if(node.free, never);
    std::erase_if(node.calls, [&](const auto& c) { return never(c.enter) || never(c.leave); });
  }
  grammar_.start = rules_[root].enter;
  return std::move(grammar_);
}

}  // namespace hp

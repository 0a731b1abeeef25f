// A grammar over bytes and special tokens as a pushdown automaton: nodes with byte edges, calls of rules, and string
// nodes that hand over to a ByteDfa. Built by GrammarBuilder, immutable afterwards; GrammarMatcher runs it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/byte_dfa.h"

namespace hp {

using NodeId = std::uint32_t;
using RuleId = std::uint32_t;

struct Grammar {
  struct ByteEdge {
    std::uint8_t low, high;
    NodeId to;
  };
  struct TokenEdge {
    TokenId token;
    NodeId to;
  };
  struct Call {
    NodeId enter, leave;  ///< the rule's first node; where its caller goes on
  };
  /// The inside of a JSON string; after its closing quote `to`. min and max count characters, max < 0: no limit.
  struct String {
    std::uint32_t dfa = 0;
    std::int32_t min = 0, max = -1;
    NodeId to = 0;
  };
  struct Node {
    std::vector<ByteEdge> bytes;
    std::vector<TokenEdge> tokens;
    std::vector<NodeId> free;  ///< without a byte
    std::vector<Call> calls;
    std::int32_t string = -1;  ///< index into strings
    bool ends_rule = false;
    std::uint32_t height = 0;  ///< how many calls within each other the shortest way to the rule's end needs
  };
  std::vector<Node> nodes;
  std::vector<String> strings;
  std::vector<std::shared_ptr<const ByteDfa>> dfas;  ///< dfas[0] is any_string_dfa()
  NodeId start = 0;
};

/// Makes nodes; every method goes on from a node and returns the node behind what it added.
class GrammarBuilder {
 public:
  GrammarBuilder();

  /// A new rule; its nodes run from enter(rule) to leave(rule).
  RuleId rule();
  [[nodiscard]] NodeId enter(RuleId rule) const { return rules_[rule].enter; }
  [[nodiscard]] NodeId leave(RuleId rule) const { return rules_[rule].leave; }

  NodeId node();
  void free(NodeId from, NodeId to) { grammar_.nodes[from].free.push_back(to); }
  void byte(NodeId from, std::uint8_t low, std::uint8_t high, NodeId to) {
    grammar_.nodes[from].bytes.push_back({low, high, to});
  }
  NodeId literal(NodeId from, std::string_view text);
  NodeId token(NodeId from, TokenId token);
  NodeId call(NodeId from, RuleId rule);
  std::uint32_t add_dfa(ByteDfa dfa);
  /// A whole JSON string, quotes included.
  NodeId string(NodeId from, std::uint32_t dfa, std::int32_t min, std::int32_t max);

  [[nodiscard]] std::size_t node_count() const { return grammar_.nodes.size(); }
  [[nodiscard]] std::size_t rule_count() const { return rules_.size(); }

  /// Drops what can never be finished. An error when `root` itself cannot (it has no finite text), or when a rule calls
  /// itself before any byte.
  Result<Grammar> build(RuleId root) &&;

 private:
  struct Rule {
    NodeId enter, leave;
  };
  [[nodiscard]] std::vector<std::uint32_t> heights() const;
  [[nodiscard]] Status check_left_recursion() const;

  Grammar grammar_;
  std::vector<Rule> rules_;
};

}  // namespace hp

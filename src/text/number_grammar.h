// Numbers within bounds as grammar nodes: decimal digits, no exponent.
#pragma once

#include <cstdint>
#include <optional>

#include "text/grammar.h"

namespace hp {

struct NumberBounds {
  std::optional<double> low, high;
  bool low_exclusive = false, high_exclusive = false;
  std::optional<double> multiple_of;
  bool integer = false;
};

/// Numbers of JSON without bounds: up to 15 digits, 10 after the point, two of exponent.
void add_any_number(GrammarBuilder& builder, NodeId from, NodeId to, bool integer);
/// Adds nothing when no number is within the bounds; an error when multiple_of is more than the digits can count.
Status add_bounded_number(GrammarBuilder& builder, NodeId from, NodeId to, const NumberBounds& bounds);

}  // namespace hp

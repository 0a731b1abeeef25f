// Bounds are scaled to whole numbers (Wide) by the number of digits after the point; a walk over the digits keeps
// whether they are still those of a bound, and the remainder for multiple_of.
#include "text/number_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <tuple>

namespace hp {
namespace {

__extension__ using Wide = __int128;

constexpr int kIntegerDigits = 15;  // exact in a double
constexpr int kFractionDigitsMax = 12;
constexpr std::int64_t kStepMax = 512;

Wide power_of_ten(int n) {
  Wide out = 1;
  while (n-- > 0) out *= 10;
  return out;
}

/// |v| as digits and the place of the point; exact for every double that prints shortly.
struct Decimal {
  std::string digits;
  int fraction = 0;  ///< digits after the point; below zero: zeros to append
};

Decimal to_decimal(double v) {
  const std::string text = fmt::format("{:e}", std::fabs(v));  // d.ddde±xx, shortest is {}: take that when it is plain
  const std::string shortest = fmt::format("{}", std::fabs(v));
  const std::string& chosen = shortest.empty() ? text : shortest;
  Decimal out;
  int exponent = 0;
  bool point = false;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const char c = chosen[i];
    if (c == 'e') {
      exponent = std::stoi(chosen.substr(i + 1));
      break;
    }
    if (c == '.') {
      point = true;
    } else {
      out.digits += c;
      if (point) ++out.fraction;
    }
  }
  out.fraction -= exponent;
  while (out.fraction > 0 && out.digits.size() > 1 && out.digits.back() == '0') {
    out.digits.pop_back();
    --out.fraction;
  }
  if (out.digits.find_first_not_of('0') == std::string::npos) out = {.digits = "0", .fraction = 0};
  return out;
}

int fraction_digits(const std::optional<double>& v) {
  return v ? std::clamp(to_decimal(*v).fraction, 0, kFractionDigitsMax) : 0;
}

/// v · 10^digits, rounded down, and whether that was exact; beyond the digits that we write, the nearest that we do.
std::pair<Wide, bool> scaled(double v, int digits) {
  const Wide limit = power_of_ten(kIntegerDigits + digits) - 1;
  if (std::fabs(v) >= std::pow(10.0, kIntegerDigits)) return {v < 0 ? -limit : limit, false};
  const Decimal d = to_decimal(v);
  Wide whole = 0;
  bool exact = true;
  for (int i = 0; i < static_cast<int>(d.digits.size()); ++i) {
    const int place = static_cast<int>(d.digits.size()) - 1 - i - d.fraction;  // this digit counts 10^place
    if (place + digits >= 0) {
      whole += (d.digits[static_cast<std::size_t>(i)] - '0') * power_of_ten(place + digits);
    } else {
      exact = exact && d.digits[static_cast<std::size_t>(i)] == '0';
    }
  }
  if (v < 0) return {exact ? -whole : -whole - 1, exact};
  return {whole, exact};
}

class DigitWalk {
 public:
  DigitWalk(GrammarBuilder& builder, NodeId to, int fraction, std::int64_t step)
      : builder_(builder), to_(to), fraction_(fraction), step_(step) {}

  /// Numbers from `low` to `high`, both scaled and not negative.
  void add(NodeId from, Wide low, Wide high) {
    for (int length = 1; length <= kIntegerDigits; ++length) {
      const Wide first = length == 1 ? Wide{0} : power_of_ten(length - 1 + fraction_);
      const Wide last = power_of_ten(length + fraction_) - 1;
      const Wide a = std::max(low, first), b = std::min(high, last);
      if (a > b) continue;
      low_ = padded(a, length + fraction_);
      high_ = padded(b, length + fraction_);
      length_ = length;
      known_.clear();
      builder_.free(from, place(0, true, true, 0));
    }
  }

 private:
  static std::string padded(Wide v, int digits) {
    std::string out(static_cast<std::size_t>(digits), '0');
    for (auto c = out.rbegin(); c != out.rend(); ++c, v /= 10) *c = static_cast<char>('0' + static_cast<int>(v % 10));
    return out;
  }
  [[nodiscard]] bool may_stop(std::size_t at, bool on_low, std::int64_t rest) const {
    if (at < static_cast<std::size_t>(length_)) return false;
    if (on_low && low_.find_first_not_of('0', at) != std::string::npos) return false;
    for (std::size_t i = at; i < low_.size(); ++i) rest = rest * 10 % step_;
    return rest == 0;
  }
  void add_digits(NodeId from, std::size_t at, bool on_low, bool on_high, std::int64_t rest) {
    const int first = on_low ? low_[at] - '0' : 0, last = on_high ? high_[at] - '0' : 9;
    for (int digit = first; digit <= last; ++digit) {
      const NodeId next =
          place(at + 1, on_low && digit == first, on_high && digit == last, (rest * 10 + digit) % step_);
      builder_.byte(from, static_cast<std::uint8_t>('0' + digit), static_cast<std::uint8_t>('0' + digit), next);
    }
  }
  /// The node where `at` digits are written.
  NodeId place(std::size_t at, bool on_low, bool on_high, std::int64_t rest) {
    const auto [known, fresh] = known_.try_emplace({at, on_low, on_high, rest}, 0);
    if (!fresh) return known->second;
    const NodeId here = known->second = builder_.node();
    if (may_stop(at, on_low, rest)) builder_.free(here, to_);
    if (at == low_.size()) return here;
    NodeId from = here;
    if (at == static_cast<std::size_t>(length_)) {
      from = builder_.node();
      builder_.byte(here, '.', '.', from);
    }
    add_digits(from, at, on_low, on_high, rest);
    return here;
  }

  GrammarBuilder& builder_;
  NodeId to_;
  int fraction_;
  std::int64_t step_;
  int length_ = 0;
  std::string low_, high_;
  std::map<std::tuple<std::size_t, bool, bool, std::int64_t>, NodeId> known_;
};

/// Up to `count` digits, at least one.
void add_digit_run(GrammarBuilder& builder, NodeId from, int count, NodeId to) {
  for (int i = 0; i < count; ++i) {
    const NodeId next = builder.node();
    builder.byte(from, '0', '9', next);
    builder.free(next, to);
    from = next;
  }
}

}  // namespace

void add_any_number(GrammarBuilder& builder, NodeId from, NodeId to, bool integer) {
  const NodeId sign = builder.node(), whole = builder.node();
  builder.byte(from, '-', '-', sign);
  builder.free(from, sign);
  builder.byte(sign, '0', '0', whole);
  const NodeId more = builder.node();
  builder.byte(sign, '1', '9', more);
  builder.free(more, whole);
  add_digit_run(builder, more, kIntegerDigits - 1, whole);
  builder.free(whole, to);
  if (integer) return;
  const NodeId mantissa = builder.node();
  builder.free(whole, mantissa);
  add_digit_run(builder, builder.literal(whole, "."), 10, mantissa);
  const NodeId exponent = builder.node(), magnitude = builder.node();
  builder.byte(mantissa, 'e', 'e', exponent);
  builder.byte(mantissa, 'E', 'E', exponent);
  builder.byte(exponent, '-', '-', magnitude);
  builder.byte(exponent, '+', '+', magnitude);
  builder.free(exponent, magnitude);
  add_digit_run(builder, magnitude, 2, to);
  builder.free(mantissa, to);
}

Status add_bounded_number(GrammarBuilder& builder, NodeId from, NodeId to, const NumberBounds& bounds) {
  const int wanted = std::max({fraction_digits(bounds.low), fraction_digits(bounds.high), 4});
  int digits = bounds.integer ? 0 : std::min(wanted, kFractionDigitsMax);
  std::int64_t step = 1;
  if (bounds.multiple_of) {
    // Other steps are not exact in binary: validators disagree about them.
    const double unit = *bounds.multiple_of;
    digits = bounds.integer ? 0 : fraction_digits(unit);
    const auto [scaled_step, exact] = scaled(unit, digits);
    if (!exact || std::floor(unit * 1024) != unit * 1024 || scaled_step <= 0 || scaled_step > kStepMax) {
      return fail(ErrorCode::invalid_argument, "multipleOf {}: expected a whole number or a binary fraction, up to {}",
                  unit, kStepMax);
    }
    step = static_cast<std::int64_t>(scaled_step);
  }
  const Wide limit = power_of_ten(kIntegerDigits + digits) - 1;
  Wide low = -limit, high = limit;
  if (bounds.low) {
    const auto [down, exact] = scaled(*bounds.low, digits);
    low = exact && !bounds.low_exclusive ? down : down + 1;
  }
  if (bounds.high) {
    const auto [down, exact] = scaled(*bounds.high, digits);
    high = exact && bounds.high_exclusive ? down - 1 : down;
  }
  low = std::max(low, -limit);
  high = std::min(high, limit);
  if (high >= 0) DigitWalk(builder, to, digits, step).add(from, std::max(low, Wide{0}), high);
  if (low < 0) DigitWalk(builder, to, digits, step).add(builder.literal(from, "-"), std::max(-high, Wide{1}), -low);
  return {};
}

}  // namespace hp

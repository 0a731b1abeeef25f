// Reading rules, and writing them for Prometheus.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "base/config.h"
#include "base/toml.h"
#include "ops/limits.h"
#include "ops/rule.h"

namespace hp::ops {
namespace data {
extern const std::string_view rules_toml;
}
namespace {

constexpr double kMaxSeconds = 30 * 86400.0;

std::string replaced(std::string text, std::string_view what, const std::string& with) {
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
    text.replace(at, what.size(), with);
  return text;
}

Result<double> number_of(std::string_view where, std::string_view key, const JsonValue& value, double low,
                         double high) {
  const std::optional<double> number = value.as_double();
  if (!number || !(*number >= low && *number <= high))
    return fail(ErrorCode::invalid_argument, "{}: {}: expected a number from {:g} to {:g}, found {}", where, key, low,
                high, value.dump());
  return *number;
}

/// Keys that a user may override.
Result<bool> set_number(Rule& rule, std::string_view where, std::string_view key, const JsonValue& value) {
  for (const auto& [name, member] : {std::pair{std::string_view("for_s"), &Rule::for_ms},
                                     {"clear_for_s", &Rule::clear_for_ms},
                                     {"window_s", &Rule::window_ms}}) {
    if (key != name) continue;
    HP_TRY(const double seconds, number_of(where, key, value, 0, kMaxSeconds));
    rule.*member = std::llround(seconds * 1000);
    return true;
  }
  if (key == "events") {
    HP_TRY(rule.events, number_of(where, key, value, 0, 1e9));
    return true;
  }
  if (key == "clear") {
    HP_TRY(rule.clear, number_of(where, key, value, -1e300, 1e300));
    return true;
  }
  if (key != "above" && key != "below") return false;
  HP_TRY(rule.threshold, number_of(where, key, value, -1e300, 1e300));
  rule.above = key == "above";
  return true;
}

Result<Rule> rule_of(const JsonValue& entry) {
  Rule rule;
  const std::array<std::pair<std::string_view, std::string Rule::*>, 5> texts = {
      {{"id", &Rule::id}, {"signal", &Rule::signal}, {"expr", &Rule::expr}, {"en", &Rule::en}, {"zh", &Rule::zh}}};
  for (const auto& [key, value] : *entry.as_object()) {
    HP_TRY(const bool known, set_number(rule, "rules.toml", key, value));
    if (known) continue;
    const auto text = std::find_if(texts.begin(), texts.end(), [&key = key](const auto& t) { return t.first == key; });
    if (text != texts.end()) {
      rule.*(text->second) = value.as_string() != nullptr ? *value.as_string() : "";
    } else if (key == "level") {
      rule.level = *value.as_string() == "hardware"   ? Level::hardware
                   : *value.as_string() == "business" ? Level::business
                                                      : Level::software;
    } else if (key == "incident") {
      rule.incident = static_cast<int>(value.as_int().value_or(0));
    } else {
      return fail(ErrorCode::internal, "rules.toml: unknown key '{}'", key);
    }
  }
  return rule;
}

Status apply_overrides(std::vector<Rule>& rules, std::string_view toml, std::string_view source_name) {
  static constexpr std::array<std::string_view, 7> kKeys = {"above",       "below",    "clear", "for_s",
                                                            "clear_for_s", "window_s", "events"};
  HP_TRY(const JsonValue tree, parse_toml(toml, source_name));
  std::vector<std::string_view> ids;
  for (const Rule& rule : rules) ids.push_back(rule.id);
  for (const auto& [id, table] : *tree.as_object()) {
    const auto rule = std::find_if(rules.begin(), rules.end(), [&id = id](const Rule& r) { return r.id == id; });
    if (rule == rules.end() || table.as_object() == nullptr) {
      const std::string_view near = nearest_name(id, ids);
      return fail(ErrorCode::invalid_argument, "{}: expected one table per rule, found '{}'{}", source_name, id,
                  near.empty() ? "; homeport ops rules lists them" : fmt::format("; did you mean [{}]?", near));
    }
    const std::string where = fmt::format("{}: {}", source_name, id);
    bool cleared = false;
    for (const auto& [key, value] : *table.as_object()) {
      HP_TRY(const bool known, set_number(*rule, where, key, value));
      cleared = cleared || key == "clear";
      if (!known) {
        const std::string_view near = nearest_name(key, kKeys);
        return fail(ErrorCode::invalid_argument, "{}: unknown key '{}'{}", where, key,
                    near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
      }
    }
    // A new threshold without its own hysteresis: the old end of the alert may lie on the wrong side.
    if (!cleared && (rule->above ? rule->clear > rule->threshold : rule->clear < rule->threshold))
      rule->clear = rule->threshold;
    if (rule->above ? rule->clear > rule->threshold : rule->clear < rule->threshold)
      return fail(ErrorCode::invalid_argument, "{}: clear: expected a value behind the threshold {:g}, found {:g}",
                  where, rule->threshold, rule->clear);
  }
  return {};
}

std::string duration(std::int64_t ms) {
  return ms % 1000 != 0 ? fmt::format("{}ms", ms) : fmt::format("{}s", ms / 1000);
}

std::string alert_name(std::string_view id) {
  std::string out = "Homeport";
  bool upper = true;
  for (const char c : id) {
    if (c == '_') {
      upper = true;
    } else {
      out += upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
      upper = false;
    }
  }
  return out;
}

std::string yaml_quoted(std::string_view text) {
  return "'" + replaced(std::string(text), "'", "''") + "'";
}

}  // namespace

std::string_view to_string(Level level) {
  switch (level) {
    case Level::hardware:
      return "hardware";
    case Level::business:
      return "business";
    case Level::software:
      break;
  }
  return "software";
}

Result<std::vector<Rule>> load_rules(std::string_view overrides, std::string_view source_name) {
  HP_TRY(const JsonValue tree, parse_toml(data::rules_toml, "rules.toml"));
  const JsonValue::Array& entries = *tree.find("rule")->as_array();
  HP_CHECK(entries.size() <= limits::kMaxRules, "{} rules", entries.size());
  std::vector<Rule> rules;
  for (const JsonValue& entry : entries) {
    HP_TRY(Rule rule, rule_of(entry));
    rules.push_back(std::move(rule));
  }
  if (!overrides.empty()) HP_TRY_VOID(apply_overrides(rules, overrides, source_name));
  return rules;
}

std::string rule_text(const Rule& rule, bool zh) {
  std::string text = zh ? rule.zh : rule.en;
  text = replaced(std::move(text), "{threshold:%}", fmt::format("{:g} %", rule.threshold * 100));
  return replaced(std::move(text), "{threshold}", fmt::format("{:g}", rule.threshold));
}

std::string prometheus_rules(const std::vector<Rule>& rules) {
  std::string out =
      "# Written by `homeport ops rules --format prometheus`; the product evaluates the same rules itself.\ngroups:\n";
  for (const Level level : {Level::hardware, Level::software, Level::business}) {
    out += fmt::format("  - name: homeport-{}\n    rules:\n", to_string(level));
    for (const Rule& rule : rules) {
      if (rule.level != level) continue;
      std::string expr = replaced(rule.expr, "{threshold}", fmt::format("{}", rule.threshold));
      expr = replaced(std::move(expr), "{window}", duration(rule.window_ms));
      expr = replaced(std::move(expr), "{events}", fmt::format("{}", rule.events));
      const bool looks_back = expr.find("{for}") != std::string::npos;
      expr = replaced(std::move(expr), "{for}", duration(rule.for_ms));
      out += fmt::format("      - alert: {}\n        expr: |-\n          {}\n", alert_name(rule.id),
                         replaced(std::move(expr), "\n", "\n          "));
      if (rule.for_ms > 0 && !looks_back) out += fmt::format("        for: {}\n", duration(rule.for_ms));
      const std::string_view severity = rule.id == "dead_man" ? "none"
                                        : rule.incident == 1  ? "critical"
                                        : rule.incident == 2  ? "warning"
                                                              : "info";
      out += fmt::format("        labels:\n          severity: {}\n          level: {}\n          incident: \"{}\"\n",
                         severity, to_string(level), rule.incident);
      out += fmt::format("        annotations:\n          summary: {}\n          summary_zh: {}\n",
                         yaml_quoted(rule_text(rule, false)), yaml_quoted(rule_text(rule, true)));
    }
  }
  return out;
}

}  // namespace hp::ops

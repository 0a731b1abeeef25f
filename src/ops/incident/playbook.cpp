// Reading playbooks.
#include "ops/incident/playbook.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "base/config.h"
#include "base/toml.h"
#include "ops/limits.h"

namespace hp::ops {
namespace data {
extern const std::string_view playbooks_toml;
}
namespace {

/// The members of one table, each asked for once; what was not asked for is an error.
class Table {
 public:
  Table(const JsonValue& value, std::string where) : value_(value), where_(std::move(where)) {}

  Status text(std::string_view key, std::string& out, bool required = false) {
    const JsonValue* v = take(key);
    if (v == nullptr)
      return required ? fail(ErrorCode::invalid_argument, "{}: '{}' is missing", where_, key) : Status();
    if (v->as_string() == nullptr) return wrong(key, "a text", *v);
    out = *v->as_string();
    return {};
  }
  Status seconds(std::string_view key, std::int64_t& out_ms) {
    const JsonValue* v = take(key);
    if (v == nullptr) return {};
    const auto number = v->as_double();
    if (!number || *number < 0 || *number > 86'400) return wrong(key, "seconds from 0 to 86400", *v);
    out_ms = std::llround(*number * 1000);
    return {};
  }
  Status integer(std::string_view key, int& out, int low, int high) {
    const JsonValue* v = take(key);
    if (v == nullptr) return {};
    const auto number = v->as_int();
    if (!number || *number < low || *number > high)
      return wrong(key, fmt::format("a number from {} to {}", low, high), *v);
    out = static_cast<int>(*number);
    return {};
  }
  Status flag(std::string_view key, bool& out) {
    const JsonValue* v = take(key);
    if (v == nullptr) return {};
    if (!v->as_bool()) return wrong(key, "true or false", *v);
    out = *v->as_bool();
    return {};
  }
  Status texts(std::string_view key, std::vector<std::string>& out) {
    const JsonValue* v = take(key);
    if (v == nullptr) return {};
    if (v->as_array() == nullptr) return wrong(key, "a list of texts", *v);
    for (const JsonValue& item : *v->as_array()) {
      if (item.as_string() == nullptr) return wrong(key, "a list of texts", *v);
      out.push_back(*item.as_string());
    }
    return {};
  }
  Status one_of(std::string_view key, std::span<const std::string_view> names, std::size_t& out) {
    std::string name;
    HP_TRY_VOID(text(key, name));
    if (name.empty()) return {};
    const auto found = std::ranges::find(names, name);
    if (found == names.end())
      return fail(ErrorCode::invalid_argument, "{}: '{}': expected one of {}, found '{}'", where_, key,
                  fmt::join(names, ", "), name);
    out = static_cast<std::size_t>(found - names.begin());
    return {};
  }
  const JsonValue::Array* list(std::string_view key) {
    const JsonValue* v = take(key);
    return v == nullptr ? nullptr : v->as_array();
  }
  /// Unknown keys.
  Status end() const {
    for (const auto& [key, value] : *value_.as_object()) {
      if (std::ranges::find(taken_, key) != taken_.end()) continue;
      const std::string_view near = nearest_name(key, taken_);
      return fail(ErrorCode::invalid_argument, "{}: unknown key '{}'{}", where_, key,
                  near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
    }
    return {};
  }

 private:
  const JsonValue* take(std::string_view key) {
    taken_.push_back(key);
    return value_.find(key);
  }
  [[nodiscard]] tl::unexpected<Error> wrong(std::string_view key, std::string_view expected, const JsonValue& v) const {
    return fail(ErrorCode::invalid_argument, "{}: '{}': expected {}, found {}", where_, key, expected, v.dump());
  }
  const JsonValue& value_;
  std::string where_;
  std::vector<std::string_view> taken_;
};

Result<PlaybookStep> step_of(const JsonValue& value, const std::string& where) {
  static constexpr std::array<std::string_view, 3> kTargets{"instance", "nodes", "cluster"};
  if (value.as_object() == nullptr) return fail(ErrorCode::invalid_argument, "{}: a step is a table", where);
  PlaybookStep step;
  std::size_t target = 2;
  Table table(value, where);
  HP_TRY_VOID(table.text("action", step.action, true));
  HP_TRY_VOID(table.text("argument", step.argument));
  HP_TRY_VOID(table.one_of("target", kTargets, target));
  HP_TRY_VOID(table.seconds("wait_s", step.wait_ms));
  HP_TRY_VOID(table.seconds("timeout_s", step.timeout_ms));
  HP_TRY_VOID(table.flag("undo", step.undo));
  HP_TRY_VOID(table.end());
  step.target = static_cast<StepTarget>(target);
  return step;
}

Result<Playbook> playbook_of(const JsonValue& value, std::string_view source) {
  static constexpr std::array<std::string_view, 2> kPer{"incident", "instance"};
  Playbook book;
  std::size_t per = 0;
  Table table(value, fmt::format("{}: playbook", source));
  HP_TRY_VOID(table.text("name", book.name, true));
  HP_TRY_VOID(table.integer("level", book.level, 1, 2));
  HP_TRY_VOID(table.texts("rules", book.rules));
  HP_TRY_VOID(table.one_of("per", kPer, per));
  HP_TRY_VOID(table.seconds("undo_pause_s", book.undo_pause_ms));
  book.per_instance = per == 1;
  if (const JsonValue::Array* steps = table.list("step")) {
    if (steps->size() > limits::kMaxPlaybookSteps)
      return fail(ErrorCode::invalid_argument, "{}: playbook {}: more than {} steps", source, book.name,
                  limits::kMaxPlaybookSteps);
    for (const JsonValue& entry : *steps) {
      HP_TRY(PlaybookStep step, step_of(entry, fmt::format("{}: playbook {}", source, book.name)));
      book.steps.push_back(std::move(step));
    }
  }
  HP_TRY_VOID(table.end());
  if (book.level == 0)
    return fail(ErrorCode::invalid_argument, "{}: playbook {}: 'level' is missing (1 or 2)", source, book.name);
  return book;
}

Result<RateLimit> limit_of(const JsonValue& value, std::string_view source) {
  static constexpr std::array<std::string_view, 2> kPer{"cluster", "target"};
  RateLimit limit;
  std::size_t per = 0;
  Table table(value, fmt::format("{}: limit", source));
  HP_TRY_VOID(table.text("action", limit.action, true));
  HP_TRY_VOID(table.one_of("per", kPer, per));
  HP_TRY_VOID(table.integer("count", limit.count, 0, 1'000'000));
  HP_TRY_VOID(table.seconds("window_s", limit.window_ms));
  HP_TRY_VOID(table.end());
  limit.per_target = per == 1;
  return limit;
}

Status add(PlaybookSet& set, std::string_view toml, std::string_view source) {
  HP_TRY(const JsonValue root, parse_toml(toml, source));
  std::vector<Playbook> fresh;
  Table table(root, std::string(source));
  if (const JsonValue::Array* books = table.list("playbook"))
    for (const JsonValue& entry : *books) {
      HP_TRY(Playbook book, playbook_of(entry, source));
      const auto same = std::ranges::find(set.playbooks, book.name, &Playbook::name);
      if (same != set.playbooks.end())
        *same = std::move(book);
      else
        fresh.push_back(std::move(book));
    }
  set.playbooks.insert(set.playbooks.begin(), fresh.begin(), fresh.end());
  if (const JsonValue::Array* all = table.list("limit"))
    for (const JsonValue& entry : *all) {
      HP_TRY(RateLimit limit, limit_of(entry, source));
      std::erase_if(set.limits, [&](const RateLimit& l) { return l.action == limit.action; });
      set.limits.push_back(std::move(limit));
    }
  return table.end();
}

}  // namespace

const Playbook* PlaybookSet::find(int level, std::string_view rule) const {
  const auto fits = [&](const Playbook& book) {
    return book.level == level && (book.rules.empty() || std::ranges::find(book.rules, rule) != book.rules.end());
  };
  const auto found = std::ranges::find_if(playbooks, fits);
  return found == playbooks.end() ? nullptr : &*found;
}

Result<PlaybookSet> load_playbooks(std::string_view overrides, std::string_view source) {
  PlaybookSet set;
  const Status own = add(set, data::playbooks_toml, "playbooks.toml");
  HP_CHECK(own.has_value(), "{}", own.error().message);
  HP_TRY_VOID(add(set, overrides, source));
  return set;
}

}  // namespace hp::ops

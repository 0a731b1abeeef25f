// `ops playbooks`: what would be done about an incident, as the watch reads it.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/json.h"
#include "cli/command.h"
#include "cli/operations_actions.h"
#include "cli/plan_common.h"
#include "ops/incident/playbook.h"
#include "ops/rule.h"

namespace hp::cli {
namespace {

std::string_view name_of(ops::StepTarget target) {
  return target == ops::StepTarget::instance ? "instance" : target == ops::StepTarget::nodes ? "nodes" : "cluster";
}

double seconds(std::int64_t ms) {
  return static_cast<double>(ms) / 1000;
}

std::string as_json(const ops::PlaybookSet& set) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("playbooks").begin_array();
  for (const ops::Playbook& book : set.playbooks) {
    json.begin_object().member("name", book.name).member("level", book.level).key("rules").begin_array();
    for (const std::string& rule : book.rules) json.value(rule);
    json.end_array().member("per", std::string_view(book.per_instance ? "instance" : "incident"));
    json.member("undo_pause_s", seconds(book.undo_pause_ms)).key("steps").begin_array();
    for (const ops::PlaybookStep& s : book.steps)
      json.begin_object()
          .member("action", s.action)
          .member("target", name_of(s.target))
          .member("argument", s.argument)
          .member("wait_s", seconds(s.wait_ms))
          .member("timeout_s", seconds(s.timeout_ms))
          .member("undo", s.undo)
          .end_object();
    json.end_array().end_object();
  }
  json.end_array().key("limits").begin_array();
  for (const ops::RateLimit& l : set.limits)
    json.begin_object()
        .member("action", l.action)
        .member("per", std::string_view(l.per_target ? "target" : "cluster"))
        .member("count", l.count)
        .member("window_s", seconds(l.window_ms))
        .end_object();
  json.end_array().end_object();
  return out + "\n";
}

std::string as_text(const ops::PlaybookSet& set) {
  std::string out;
  for (const ops::Playbook& book : set.playbooks) {
    out += fmt::format("{}: level {}, {}, a run per {}\n", book.name, book.level,
                       book.rules.empty() ? "every rule" : fmt::format("{}", fmt::join(book.rules, ", ")),
                       book.per_instance ? "instance" : "incident");
    for (const ops::PlaybookStep& s : book.steps)
      out += fmt::format("  {}{}{} on {}, then up to {:g} s{}\n", s.action, s.argument.empty() ? "" : " ", s.argument,
                         name_of(s.target), seconds(s.wait_ms), s.undo ? "" : ", stays after the recovery");
  }
  for (const ops::RateLimit& l : set.limits)
    out += fmt::format("at most {} {} in {:g} s per {}\n", l.count, l.action, seconds(l.window_ms),
                       l.per_target ? "target" : "cluster");
  return out;
}

tl::unexpected<Error> unknown(std::string_view what, std::string_view name, std::span<const std::string_view> names) {
  const std::string_view near = nearest_name(name, names);
  return fail(ErrorCode::invalid_argument, "there is no {} '{}'{}", what, name,
              near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
}

/// Names that a running watch would only meet when it is too late.
Status check_names(const ops::PlaybookSet& set, const std::vector<ops::Rule>& rules) {
  std::vector<std::string_view> ids;
  ids.reserve(rules.size());
  for (const ops::Rule& rule : rules) ids.push_back(rule.id);
  const auto steps = step_names();
  for (const ops::Playbook& book : set.playbooks) {
    for (const std::string& rule : book.rules)
      if (std::ranges::find(ids, rule) == ids.end()) return unknown("rule", rule, ids);
    for (const ops::PlaybookStep& s : book.steps)
      if (std::ranges::find(steps, s.action) == steps.end()) return unknown("action", s.action, steps);
  }
  for (const ops::RateLimit& l : set.limits)
    if (std::ranges::find(steps, l.action) == steps.end()) return unknown("action", l.action, steps);
  return {};
}

}  // namespace

Command ops_playbooks_command() {
  auto json = std::make_shared<bool>(false);
  return {.name = "ops playbooks",
          .summary = "What is done about an incident: the playbooks in force, checked.",
          .details =
              "The built-in playbooks with those of --ops-playbooks-file over them. A rule or an action that does not "
              "exist is an error.",
          .examples = "  homeport ops playbooks\n  homeport ops playbooks --ops-playbooks-file own.toml --json",
          .sections = {"ops"},
          .declare = [json](Arguments& a) { a.toggle("--json", *json, "Print JSON."); },
          .run = [json](const Invocation& in) -> Result<int> {
            const std::string& file = in.config.text("ops.playbooks_file");
            std::string own;
            if (!file.empty()) {
              HP_TRY(own, read_text_file(file));
            }
            HP_TRY(const ops::PlaybookSet set, ops::load_playbooks(own, file));
            HP_TRY(const std::vector<ops::Rule> rules, ops::load_rules());
            HP_TRY_VOID(check_names(set, rules));
            std::fputs((*json ? as_json(set) : as_text(set)).c_str(), stdout);
            return kExitOk;
          }};
}

}  // namespace hp::cli

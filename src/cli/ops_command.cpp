// `ops`: what watches. `ops dashboard` is for Grafana. `ops rules` shows every alert rule, or writes them for
// Prometheus.
#include <cstdio>
#include <memory>

#include "base/json.h"
#include "cli/command.h"
#include "cli/plan_common.h"
#include "ops/rule.h"

namespace hp::ops::data {
extern const std::string_view dashboard_json;
}

namespace hp::cli {
namespace {

struct RulesFlags {
  std::string format = "text", overrides;
  bool json = false;
};

std::string rules_json(const std::vector<ops::Rule>& rules) {
  std::string out;
  JsonWriter json(out);
  json.begin_array();
  for (const ops::Rule& r : rules) {
    json.begin_object().member("id", r.id).member("level", to_string(r.level)).member("signal", r.signal);
    json.member(r.above ? "above" : "below", r.threshold).member("for_s", static_cast<double>(r.for_ms) / 1000);
    json.member("window_s", static_cast<double>(r.window_ms) / 1000)
        .member("clear", r.clear)
        .member("events", r.events);
    json.member("clear_for_s", static_cast<double>(r.clear_for_ms) / 1000).member("incident", r.incident);
    json.member("en", ops::rule_text(r, false)).member("zh", ops::rule_text(r, true)).end_object();
  }
  json.end_array();
  return out + "\n";
}

std::string rules_table(const std::vector<ops::Rule>& rules) {
  std::string out;
  for (const ops::Rule& r : rules)
    out += fmt::format("{:<10}{:<18}{} {:g} for {} s (window {} s), ends at {:g} for {} s: {}\n", to_string(r.level),
                       r.id, r.above ? "above" : "below", r.threshold, r.for_ms / 1000, r.window_ms / 1000, r.clear,
                       r.clear_for_ms / 1000, ops::rule_text(r, false));
  return out;
}

}  // namespace

Command ops_command() {
  return {.name = "ops",
          .summary = "Watching: alert rules, playbooks, notices, a dashboard.",
          .details =
              "The rules that the product evaluates and Prometheus can evaluate as well, what is done about an "
              "incident, and whether the channels reach anybody.",
          .examples =
              "  homeport ops rules --format prometheus > homeport-rules.yml\n  homeport ops playbooks\n"
              "  homeport ops test-notice --ops-notices notices.toml",
          .subcommands = {ops_rules_command(), ops_playbooks_command(), ops_test_notice_command(),
                          ops_dashboard_command()}};
}

Command ops_dashboard_command() {
  return {.name = "ops dashboard",
          .summary = "A Grafana dashboard of the gateway, the nodes, their machines and GPUs, as JSON.",
          .details = "Import it in Grafana; it asks for the Prometheus that scrapes the gateway's /metrics.",
          .examples = "  homeport ops dashboard > homeport-dashboard.json",
          .run = [](const Invocation&) -> Result<int> {
            std::fwrite(ops::data::dashboard_json.data(), 1, ops::data::dashboard_json.size(), stdout);
            return kExitOk;
          }};
}

Command ops_rules_command() {
  auto flags = std::make_shared<RulesFlags>();
  return {.name = "ops rules",
          .summary = "Every alert rule: threshold, duration, hysteresis; also as a Prometheus rule file.",
          .details = "An overrides file is TOML with one table per rule id: [gpu_temperature] above = 80.",
          .examples = "  homeport ops rules --format prometheus\n  homeport ops rules --overrides rules.toml --json",
          .declare =
              [flags](Arguments& a) {
                a.text("--format", flags->format, "text or prometheus.", "FORMAT");
                a.text("--overrides", flags->overrides, "Own thresholds and times.", "FILE");
                a.toggle("--json", flags->json, "Print JSON.");
              },
          .run = [flags](const Invocation&) -> Result<int> {
            if (flags->format != "text" && flags->format != "prometheus")
              return fail(ErrorCode::invalid_argument, "--format: expected text or prometheus, found '{}'",
                          flags->format);
            std::string overrides;
            if (!flags->overrides.empty()) {
              HP_TRY(overrides, read_text_file(flags->overrides));
            }
            HP_TRY(const std::vector<ops::Rule> rules, ops::load_rules(overrides, flags->overrides));
            const std::string text = flags->json                     ? rules_json(rules)
                                     : flags->format == "prometheus" ? ops::prometheus_rules(rules)
                                                                     : rules_table(rules);
            std::fwrite(text.data(), 1, text.size(), stdout);
            return 0;
          }};
}

}  // namespace hp::cli

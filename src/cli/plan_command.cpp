// `plan`: the group, and its commands about whether and for how much. Those about machines are in
// plan_size_command.cpp.
#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/plan_common.h"
#include "planner/feasibility.h"

namespace hp::cli {
namespace {

bool same(const planner::TcoInputs& a, const planner::TcoInputs& b) {
  return std::ranges::all_of(planner::tco_fields(), [&](const auto& f) { return a.*(f.member) == b.*(f.member); });
}

struct TcoFlags {
  PlanOutput output;
  planner::TcoInputs inputs;
  planner::Money money;
  std::string prices;
  bool own = false;
};

}  // namespace

Command plan_command() {
  return {
      .name = "plan",
      .summary = "Decide with figures: whether to buy machines, which, for how much, and the files that run them.",
      .details = "Predictions carry their own errors, on measured points that were not used to calibrate.",
      .examples =
          "  homeport plan feasibility --workload 20 --sensitivity 4 --cost 0.5\n"
          "  homeport plan report --model deepseek-r1-distill-llama-70b --requests-per-second 5 --html report.html\n"
          "  homeport plan deploy --target kubernetes --requests-per-second 5 --output deploy/",
      .subcommands = {plan_feasibility_command(), plan_tco_command(), plan_size_command(), plan_report_command(),
                      plan_autoscale_command(), plan_deploy_command(), plan_memory_command(), plan_accuracy_command(),
                      plan_catalog_command()}};
}

Command plan_feasibility_command() {
  struct Flags {
    PlanOutput output;
    planner::FeasibilityInputs inputs{.workload = 10, .sensitivity = 3, .cost = 0.5};
    std::string prices;
  };
  auto flags = std::make_shared<Flags>();
  return {.name = "plan feasibility",
          .summary = "Should we deploy locally? The published index, its flaw, and a verdict from the cost model.",
          .details = "Workload counts requests a day in units of 10,000.",
          .examples =
              "  homeport plan feasibility --workload 20 --sensitivity 4 --cost 0.5\n"
              "  homeport plan feasibility --workload 0.5 --sensitivity 5 --cost 1 --lang zh --json",
          .declare =
              [flags](Arguments& a) {
                declare_fields(a, planner::feasibility_fields(), flags->inputs);
                a.text("--prices", flags->prices, "Price list: TOML with the table [tco].", "FILE");
                declare_output(a, flags->output);
              },
          .run = [flags](const Invocation&) -> Result<int> {
            planner::TcoInputs costs;
            if (!flags->prices.empty()) HP_TRY_VOID(apply_price_list(flags->prices, &costs, nullptr));
            HP_TRY_VOID(validate(flags->inputs));
            HP_TRY_VOID(validate(costs));
            HP_TRY(const planner::Language language, language_of(flags->output));
            return print_answer(answer_feasibility(flags->inputs, costs, language), flags->output);
          }};
}

Command plan_tco_command() {
  auto flags = std::make_shared<TcoFlags>();
  return {.name = "plan tco",
          .summary = "Three years of own machines, rented GPUs and an API per token, with break-even and sensitivity.",
          .details =
              "Without flags: the published scenario in 10,000 CNY. With any input (or --own): our comparison at the "
              "offered load.",
          .examples =
              "  homeport plan tco\n"
              "  homeport plan tco --requests-per-month 5e6 --api-output-per-million 16\n"
              "  homeport plan tco --own --prices prices.toml --currency USD --per-cny 0.14 --json",
          .declare =
              [flags](Arguments& a) {
                declare_fields(a, planner::tco_fields(), flags->inputs);
                a.toggle("--own", flags->own, "Our comparison with its default inputs.");
                a.text("--prices", flags->prices, "Price list: TOML with the table [tco].", "FILE");
                a.text("--currency", flags->money.code, "Currency to show amounts in.", "CODE");
                a.number("--per-cny", flags->money.per_cny, "Units of that currency for one CNY.");
                declare_output(a, flags->output);
              },
          .run = [flags](const Invocation&) -> Result<int> {
            HP_TRY(const planner::Language language, language_of(flags->output));
            if (flags->money.per_cny <= 0 || (flags->money.code != "CNY" && flags->money.per_cny == 1))
              return fail(ErrorCode::invalid_argument,
                          "per_cny: expected the units of {} for one CNY, above 0, found {}; for USD about 0.14",
                          flags->money.code, flags->money.per_cny);
            const planner::TcoInputs said = flags->inputs;
            if (!flags->prices.empty()) {
              // Flags win over the list: apply the list to the defaults, then what was said.
              planner::TcoInputs listed;
              HP_TRY_VOID(apply_price_list(flags->prices, &listed, nullptr));
              for (const auto& f : planner::tco_fields()) {
                if (said.*(f.member) == planner::TcoInputs{}.*(f.member))
                  flags->inputs.*(f.member) = listed.*(f.member);
              }
            }
            if (!flags->own && flags->prices.empty() && same(said, {}))
              return print_answer(planner::answer_published_tco(language), flags->output);
            HP_TRY_VOID(validate(flags->inputs));
            return print_answer(answer_tco(flags->inputs, flags->money, language), flags->output);
          }};
}

}  // namespace hp::cli

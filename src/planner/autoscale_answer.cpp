#include "base/json.h"
#include "planner/autoscale_sim.h"

namespace hp::planner {
namespace {

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

void write_result(JsonWriter& json, std::string_view name, const SimulationResult& r) {
  json.key(name).begin_object().member("slo_attainment", r.slo_attainment).member("utilization", r.utilization);
  json.member("replica_hours", r.replica_hours)
      .member("mean_replicas", r.mean_replicas)
      .member("peak_replicas", r.peak_replicas);
  json.member("ttft_p50_s", r.ttft_p50_s)
      .member("ttft_p99_s", r.ttft_p99_s)
      .member("requests", r.requests)
      .end_object();
}

std::string autoscale_json(const std::vector<Comparison>& all, const SimulationInputs& in, double attainment) {
  std::string out;
  JsonWriter json(out);
  json.begin_object()
      .member("seed", in.seed)
      .member("slo_target", attainment)
      .member("ttft_target_s", in.policy.ttft_target_s);
  json.member("warmup_s", in.policy.warmup_s).key("curves").begin_array();
  for (const Comparison& c : all) {
    json.begin_object().member("curve", c.curve);
    write_result(json, "static", c.fixed);
    write_result(json, "cpu_hpa", c.hpa);
    write_result(json, "law", c.law);
    json.member("hpa_target", c.hpa_target)
        .member("law_utilization_target", c.law_target)
        .member("law_down_window_s", c.law_window_s)
        .member("law_min_replicas", c.law_floor)
        .member("utilization_gain", c.gain())
        .end_object();
  }
  json.end_array().member("measured_in", "simulation").end_object();
  return out;
}

}  // namespace

Answer answer_autoscale(const std::vector<Comparison>& all, const SimulationInputs& inputs, double attainment,
                        Language language) {
  const auto word = [&](Phrase phrase) { return std::string(phrase.in(language)); };
  Table table{
      .title = say(language,
                   {"Cheapest setting of each policy that answers {} of requests within {} s (simulation, seed {})",
                    "各策略在 {} 的请求于 {} 秒内得到首词元时的最省设置（仿真，种子 {}）"},
                   percent(attainment), significant(inputs.policy.ttft_target_s), inputs.seed),
      .columns = {word({"curve, policy", "曲线与策略"}), word({"in time", "达标率"}), word({"utilization", "利用率"}),
                  word({"replica hours", "副本小时"}), word({"most replicas", "最多副本"}), "TTFT P99 s"}};
  std::string gains;
  Chart chart{.kind = Chart::Kind::bars,
              .title = word({"Utilization of what was provisioned", "已配置容量的利用率"}),
              .y_label = "%",
              .series = {{.name = word({"static", "静态"})},
                         {.name = word({"CPU-style HPA", "CPU 型 HPA"})},
                         {.name = word({"scaling law", "伸缩律"})}}};
  for (const Comparison& c : all) {
    const auto row = [&](std::string name, const SimulationResult& r) {
      table.rows.push_back({c.curve + ", " + name, percent(r.slo_attainment), percent(r.utilization),
                            grouped(r.replica_hours, 1), grouped(r.peak_replicas), grouped(r.ttft_p99_s, 2)});
    };
    row(word({"static", "静态"}), c.fixed);
    row(say(language, {"HPA at {}", "HPA 目标 {}"}, percent(c.hpa_target)), c.hpa);
    row(say(language, {"law at {}, {} s, from {}", "伸缩律 目标 {}，{} 秒，最少 {}"}, percent(c.law_target),
            significant(c.law_window_s), c.law_floor),
        c.law);
    chart.labels.push_back(c.curve);
    chart.series[0].y.push_back(100 * c.fixed.utilization);
    chart.series[1].y.push_back(100 * c.hpa.utilization);
    chart.series[2].y.push_back(100 * c.law.utilization);
    gains += fmt::format("{}{} {:+.0f} %", gains.empty() ? "" : ", ", c.curve, 100 * c.gain());
  }
  return {.json = autoscale_json(all, inputs, attainment),
          .document = {.title = word({"Elastic scaling, simulated", "弹性伸缩仿真"}),
                       .verdict = say(language,
                                      {"Utilization of the scaling law against static provisioning at equal service, "
                                       "in simulation: {} (the market claims +40 %).",
                                       "同等服务水平下伸缩律相对静态配置的利用率变化（仿真）：{}（市场宣称 +40 %）。"},
                                      gains),
                       .sections = {{.tables = {std::move(table)}, .charts = {std::move(chart)}}}}};
}

}  // namespace hp::planner

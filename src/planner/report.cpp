#include "planner/report.h"

#include <algorithm>
#include <cmath>

namespace hp::planner {
namespace {

constexpr double kSecondsPerMonth = 365.0 / 12 * 86400;
constexpr std::size_t kCharted = 6;

Chart price_chart(const SizeResult& result, Language language) {
  Chart chart{.kind = Chart::Kind::bars,
              .title = say(language, {"What the cheapest configurations cost with power", "最省配置的成本（含电费）"}),
              .y_label = say(language, {"10,000 CNY", "万元"})};
  const auto series = [&](Phrase name, const std::vector<Configuration>& all) {
    Chart::Series out{.name = std::string(name.in(language))};
    for (std::size_t i = 0; i < std::min(kCharted, all.size()); ++i) out.y.push_back(all[i].total_cost / 1e4);
    return out;
  };
  chart.series.push_back(series({"basic", "基础"}, result.basic));
  for (std::size_t i = 0; i < std::min(kCharted, result.basic.size()); ++i)
    chart.labels.push_back(fmt::format("{:.0f}x {}", result.basic[i].devices, result.basic[i].device.id));
  return chart;
}

Section first_page(const ReportRequest& request, const SizeResult& result, const Verdict& verdict, Language language) {
  Section out{.heading = say(language, {"The answer", "结论"})};
  const double total = verdict.choice == Choice::local    ? verdict.costs.local.total()
                       : verdict.choice == Choice::rented ? verdict.costs.rented.total()
                                                          : verdict.costs.api.total();
  const auto money = [&](double cny) {
    return grouped(cny * request.money.per_cny / 1e4, 1) + " x 10,000 " + request.money.code;
  };
  const Phrase what = verdict.choice == Choice::local ? Phrase{"Yes: deploy locally.", "应当：本地部署。"}
                      : verdict.choice == Choice::rented
                          ? Phrase{"No purchase: rent GPUs.", "不采购：租用 GPU。"}
                          : Phrase{"No purchase: use a hosted API.", "不采购：使用托管 API。"};
  out.paragraphs.push_back(say(language, {"Should we? {}", "是否值得？{}"}, what.in(language)));
  const Configuration& c = result.basic.front();
  out.paragraphs.push_back(say(language,
                               {"With what? {} x {} in {} servers ({}, tensor parallel {}), one of them spare.",
                                "用什么？{} x {}，共 {} 台服务器（{}，张量并行 {}），含冗余。"},
                               grouped(c.devices), c.device.name, grouped(c.servers), c.format,
                               grouped(c.tensor_parallel)));
  out.paragraphs.push_back(
      say(language,
          {"For how much? {} over {} years; own machines would cost {}, rented GPUs {}, the API {}.",
           "多少钱？{}（{} 年）；本地 {}，租用 GPU {}，API {}。"},
          money(total), fmt::format("{:g}", request.tco.years), money(verdict.costs.local.total()),
          money(verdict.costs.rented.total()), money(verdict.costs.api.total())));
  out.charts.push_back(price_chart(result, language));
  return out;
}

}  // namespace

TcoInputs tco_of_sizing(const TcoInputs& prices, const SizeInputs& load, const Configuration& c) {
  TcoInputs out = prices;
  const double working = std::max(1.0, c.servers - std::ceil(load.spare));
  out.requests_per_month = load.requests_per_second / prices.peak_to_mean * kSecondsPerMonth;
  out.prompt_tokens = load.prompt_tokens;
  out.output_tokens = load.output_tokens;
  out.prefix_hit_share = load.prefix_hit_share;
  out.server_price = c.purchase / c.servers;
  out.server_requests_per_hour = c.capacity_rps / working * 3600;
  out.spare_servers = load.spare;
  const double full = c.devices * c.device.power / 1000 / c.servers;
  out.server_busy_kw = full + 0.6;
  out.server_idle_kw = full * 0.25 + 0.6;
  out.years = load.years;
  out.tariff_per_kwh = load.tariff_per_kwh;
  out.pue = load.pue;
  return out;
}

Answer answer_report(const ReportRequest& request, const SizeResult& result, const std::vector<Accelerator>& catalog,
                     std::span<const Calibration> calibrations, Language language) {
  Answer size = answer_size(request.size, result, catalog, calibrations, language);
  Document document{.title = say(language, {"Homeport: plan for {}", "Homeport：{} 部署方案"}, request.size.model_name),
                    .verdict = size.document.verdict};
  std::string json;
  JsonWriter out(json);
  out.begin_object().key("sizing").raw(size.json);
  if (!result.basic.empty()) {
    const TcoInputs costs = tco_of_sizing(request.tco, request.size.inputs, result.basic.front());
    const FeasibilityInputs feasibility{.workload = costs.requests_per_month / (365.0 / 12) / 1e4,
                                        .sensitivity = request.sensitivity,
                                        .cost = request.cost_weight};
    const Verdict verdict = judge(feasibility, costs);
    Answer should = answer_feasibility(feasibility, costs, language), tco = answer_tco(costs, request.money, language);
    out.key("feasibility").raw(should.json).key("tco").raw(tco.json);
    document.verdict = should.document.verdict + (language == Language::zh ? "" : " ") + size.document.verdict;
    document.sections.push_back(first_page(request, result, verdict, language));
    for (Section& section : should.document.sections) document.sections.push_back(std::move(section));
    for (Section& section : tco.document.sections) document.sections.push_back(std::move(section));
  }
  for (Section& section : size.document.sections) document.sections.push_back(std::move(section));
  out.end_object();
  return {.json = std::move(json), .document = std::move(document)};
}

}  // namespace hp::planner

// The TCO in words, tables and JSON: the published table with what it leaves out, and our own comparison.
#include <algorithm>
#include <array>
#include <cmath>

#include "planner/tco.h"

namespace hp::planner {
namespace {

constexpr double kTenThousand = 1e4;

/// The published scenario in our own inputs: yearly amounts, because the source gives no tariff, power or wage.
TcoInputs published_inputs() {
  TcoInputs in;
  in.requests_per_month = 0;
  in.server_price = 1.8e6;
  in.spare_servers = 0;
  in.server_idle_kw = in.server_busy_kw = 0;
  in.electricity_fixed_per_year = 150000;
  in.rack_per_server_year = in.network_per_year = in.maintenance_share = 0;
  in.staff_cost = 240000;
  in.staff_local = 1.5;
  in.staff_cloud = 1;
  in.outage_loss_per_hour = 10000;
  in.outage_hours_local = 15;
  in.outage_hours_cloud = 120;
  return in;
}

struct CostItem {
  Phrase name;
  std::string_view key;
  double CostLines::*member;
};
constexpr std::array<CostItem, 8> kItems = {{
    {{"hardware less resale", "硬件（扣除残值）"}, "hardware", &CostLines::hardware},
    {{"electricity", "电费"}, "electricity", &CostLines::electricity},
    {{"rack and network", "机柜与网络"}, "rack_network", &CostLines::rack_network},
    {{"maintenance", "维保"}, "maintenance", &CostLines::maintenance},
    {{"operations staff", "运维人力"}, "staff", &CostLines::staff},
    {{"loss from outages", "中断损失"}, "outages", &CostLines::outages},
    {{"GPU rent", "GPU 租金"}, "rent", &CostLines::rent},
    {{"API tokens", "API 词元费"}, "tokens", &CostLines::tokens},
}};

std::string cell(const std::optional<double>& v) {
  return v ? grouped(*v) : "–";
}

void write_costs(JsonWriter& json, std::string_view name, const CostLines& lines, double scale) {
  json.key(name).begin_object();
  for (const CostItem& item : kItems) json.member(item.key, lines.*(item.member) * scale);
  json.member("total", lines.total() * scale).end_object();
}

std::string published_json(const PublishedTco& table) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("scenario", "published").member("unit", "10,000 CNY").member("years", 3);
  for (const bool cloud : {true, false}) {
    json.key(cloud ? "cloud" : "local").begin_object();
    for (const auto& line : table.lines) {
      const std::optional<double>& v = cloud ? line.cloud : line.local;
      json.key(line.key);
      v ? json.value(std::round(*v * 1e6) / 1e6) : json.null();
    }
    json.member("total", cloud ? table.cloud_total : table.local_total).end_object();
  }
  json.member("difference", table.cloud_total - table.local_total);
  json.member("cheaper", table.local_total < table.cloud_total ? "local" : "cloud");
  json.member("published_break_even_requests_per_month", 500000);
  json.member("break_even_follows_from_table", false).end_object();
  return out;
}

Table cost_table(const TcoResult& result, double scale, const std::string& unit, Language language) {
  Table table{.title = say(language, {"Cost over the whole time, {}", "全周期成本，{}"}, unit),
              .columns = {std::string(Phrase{"item", "项目"}.in(language)),
                          std::string(Phrase{"own machines", "本地部署"}.in(language)),
                          std::string(Phrase{"rented GPUs", "租用 GPU"}.in(language)),
                          std::string(Phrase{"hosted API", "托管 API"}.in(language))}};
  const auto row = [&](std::string name, double a, double b, double c) {
    const auto show = [&](double v) { return v == 0 ? std::string("–") : grouped(v * scale, 1); };
    table.rows.push_back({std::move(name), show(a), show(b), show(c)});
  };
  for (const CostItem& item : kItems)
    row(std::string(item.name.in(language)), result.local.*(item.member), result.rented.*(item.member),
        result.api.*(item.member));
  row(std::string(Phrase{"total", "合计"}.in(language)), result.local.total(), result.rented.total(),
      result.api.total());
  return table;
}

Table sensitivity_table(const std::vector<Sensitivity>& all, double scale, const std::string& unit, Language language) {
  Table table{
      .title = say(language,
                   {"Own machines minus API when one input changes, {}", "单个输入变化时“本地减 API”的变化，{}"}, unit),
      .columns = {std::string(Phrase{"input", "输入"}.in(language)),
                  std::string(Phrase{"value", "当前值"}.in(language)), "-20 %", "+20 %",
                  std::string(Phrase{"answer turns at", "结论翻转点"}.in(language))}};
  for (const Sensitivity& s : all) {
    const bool matters = std::max(std::fabs(s.change_low), std::fabs(s.change_high)) > 0.5 || s.flips_at.has_value();
    if (!matters) continue;
    table.rows.push_back({std::string(s.field->name), significant(s.value, 4), grouped(s.change_low * scale, 1),
                          grouped(s.change_high * scale, 1), s.flips_at ? significant(*s.flips_at, 4) : "–"});
  }
  return table;
}

Chart load_chart(const TcoInputs& inputs, const TcoResult& result, double scale, const std::string& unit,
                 Language language) {
  Chart chart{.title = say(language, {"Cost against load", "成本随负载变化"}),
              .x_label = say(language, {"requests a month", "每月请求数"}),
              .y_label = unit,
              .series = {{.name = say(language, {"own machines", "本地部署"})},
                         {.name = say(language, {"rented GPUs", "租用 GPU"})},
                         {.name = say(language, {"hosted API", "托管 API"})}}};
  const double most = 2 * std::max({inputs.requests_per_month, result.break_even.value_or(0), 1000.0});
  TcoInputs in = inputs;
  for (int i = 0; i <= 80; ++i) {
    in.requests_per_month = most * i / 80;
    if (!validate(in)) break;
    const TcoResult at = total_cost(in);
    chart.x.push_back(in.requests_per_month);
    chart.series[0].y.push_back(at.local.total() * scale);
    chart.series[1].y.push_back(at.rented.total() * scale);
    chart.series[2].y.push_back(at.api.total() * scale);
  }
  return chart;
}

std::string tco_json(const TcoInputs& in, const TcoResult& result, const std::vector<Sensitivity>& all,
                     const Money& money) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("scenario", "offered-load").member("unit", money.code).member("years", in.years);
  write_costs(json, "local", result.local, money.per_cny);
  write_costs(json, "rented", result.rented, money.per_cny);
  write_costs(json, "api", result.api, money.per_cny);
  json.member("servers", result.servers).member("utilization", result.utilization);
  json.member("api_per_request", result.api_per_request * money.per_cny);
  json.member("local_per_request", result.local_per_request * money.per_cny);
  json.key("break_even_requests_per_month");
  result.break_even ? json.value(*result.break_even) : json.null();
  json.key("inputs");
  write_inputs(json, tco_fields(), in);
  json.key("sensitivity").begin_array();
  for (const Sensitivity& s : all) {
    json.begin_object().member("input", s.field->name).member("value", s.value);
    json.member("minus_20_percent", s.change_low * money.per_cny)
        .member("plus_20_percent", s.change_high * money.per_cny);
    json.key("answer_turns_at");
    s.flips_at ? json.value(*s.flips_at) : json.null();
    json.end_object();
  }
  json.end_array().end_object();
  return out;
}

std::string tco_verdict(const TcoInputs& in, const TcoResult& r, double scale, const std::string& unit,
                        Language language) {
  const std::array<std::pair<double, Phrase>, 3> options = {{{r.local.total(), {"own machines", "本地部署"}},
                                                             {r.rented.total(), {"rented GPUs", "租用 GPU"}},
                                                             {r.api.total(), {"the hosted API", "托管 API"}}}};
  const auto best =
      std::min_element(options.begin(), options.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string text = say(
      language,
      {"At {} requests a month over {} years, {} cost least: {} {}.", "每月 {} 次请求、{} 年内，{}成本最低：{} {}。"},
      grouped(in.requests_per_month), significant(in.years), best->second.in(language), grouped(best->first * scale, 1),
      unit);
  if (!r.break_even)
    return text + say(language, {" There is no load at which own machines cost less than the API.",
                                 "任何负载下本地部署都不比 API 便宜。"});
  if (*r.break_even <= 0)
    return text + say(language, {" Own machines cost less than the API from the first request on, because of outages "
                                 "and staff, not of tokens.",
                                 "本地部署从第一次请求起就比 API 便宜，原因是中断损失与人力，而非词元费用。"});
  return text + say(language,
                    {" Own machines cost less than the API from {} requests a month.",
                     "每月超过 {} 次请求时本地部署比 API 便宜。"},
                    grouped(std::ceil(*r.break_even)));
}

}  // namespace

PublishedTco published_tco() {
  const TcoResult r = total_cost(published_inputs());
  const auto in_unit = [](double cny) { return cny / kTenThousand; };
  PublishedTco out;
  out.lines = {{{"hardware", "硬件"}, "hardware", std::nullopt, in_unit(r.local.hardware)},
               {{"electricity", "电费"}, "electricity", std::nullopt, in_unit(r.local.electricity)},
               {{"operations staff", "运维人力"}, "staff", in_unit(r.api.staff), in_unit(r.local.staff)},
               {{"loss from outages", "中断损失"}, "outages", in_unit(r.api.outages), in_unit(r.local.outages)}};
  out.cloud_total = in_unit(r.api.total());
  out.local_total = in_unit(r.local.total());
  return out;
}

Answer answer_published_tco(Language language) {
  const PublishedTco table = published_tco();
  Table shown{
      .title = say(language, {"3 years, 10,000 CNY", "三年，万元"}),
      .columns = {std::string(Phrase{"item", "项目"}.in(language)), std::string(Phrase{"cloud", "云端"}.in(language)),
                  std::string(Phrase{"local", "本地"}.in(language))}};
  for (const auto& line : table.lines)
    shown.rows.push_back({std::string(line.item.in(language)), cell(line.cloud), cell(line.local)});
  shown.rows.push_back(
      {std::string(Phrase{"total", "合计"}.in(language)), cell(table.cloud_total), cell(table.local_total)});
  Section notes{.heading = say(language, {"What the published table leaves out", "公开表格遗漏了什么"})};
  notes.paragraphs.push_back(
      say(language,
          {"It has no line that depends on the load: no tokens, no rent. By this table local is cheaper by {} at every "
           "load, even "
           "with no request at all, so the published break-even of 500,000 requests a month does not follow from it.",
           "表中没有任何一项随负载变化：没有词元费用，也没有租金。按此表，任何负载（甚至没有请求）下本地都便宜 {} "
           "万元，因此公开的“每月 50 万次请求盈亏平衡”无法由该表得出。"},
          grouped(table.cloud_total - table.local_total)));
  notes.paragraphs.push_back(say(language, {"The answer rests on one assumption, 120 hours of outage a year in the "
                                            "cloud against 15 at home at 10,000 CNY an hour. "
                                            "Without outages the same table reads 72 against 333.",
                                            "结论只依赖一个假设：云端每年中断 120 小时，本地 15 小时，每小时损失 1 "
                                            "万元。去掉中断损失后，同一张表为 72 对 333。"}));
  notes.paragraphs.push_back(
      say(language, {"Your own figures: homeport plan tco --requests-per-month N (plan tco --help lists every input).",
                     "使用自己的数据：homeport plan tco --requests-per-month N（plan tco --help 列出全部输入）。"}));
  Document document{.title = say(language, {"Total cost of ownership, as published", "总体拥有成本（公开版本）"}),
                    .verdict = say(language,
                                   {"Published scenario: cloud {}, local {} (10,000 CNY over 3 years).",
                                    "公开方案：云端 {} 万元，本地 {} 万元（三年）。"},
                                   grouped(table.cloud_total), grouped(table.local_total)),
                    .sections = {Section{.tables = {shown}}, notes}};
  return {.json = published_json(table), .document = std::move(document)};
}

Answer answer_tco(const TcoInputs& inputs, const Money& money, Language language) {
  const TcoResult result = total_cost(inputs);
  const std::vector<Sensitivity> all = sensitivities(inputs);
  const double scale = money.per_cny / kTenThousand;
  const std::string unit = language == Language::zh && money.code == "CNY" ? "万元" : "10,000 " + money.code;
  Section costs{
      .heading = say(language, {"Cost", "成本"}),
      .paragraphs = {say(language,
                         {"{} servers (spare ones included) at {} % average utilization; one request costs {} {} on "
                          "own machines, {} {} in API tokens.",
                          "{} 台服务器（含冗余），平均利用率 {} %；单次请求成本：本地 {} {}，API 词元费 {} {}。"},
                         grouped(result.servers), significant(result.utilization * 100),
                         significant(result.local_per_request * money.per_cny), money.code,
                         significant(result.api_per_request * money.per_cny), money.code)},
      .tables = {cost_table(result, scale, unit, language)},
      .charts = {load_chart(inputs, result, scale, unit, language)}};
  Section change{.heading = say(language, {"What would change the answer", "什么会改变结论"}),
                 .tables = {sensitivity_table(all, scale, unit, language)}};
  return {.json = tco_json(inputs, result, all, money),
          .document = {.title = say(language, {"Total cost of ownership", "总体拥有成本"}),
                       .verdict = tco_verdict(inputs, result, scale, unit, language),
                       .sections = {std::move(costs), std::move(change)}}};
}

}  // namespace hp::planner

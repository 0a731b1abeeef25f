// The verdict in words, with its reasons and what would change it.
#include <array>
#include <cmath>

#include "planner/feasibility.h"

namespace hp::planner {
namespace {

constexpr double kTenThousand = 1e4;

std::string verdict_sentence(const Verdict& v, Language language) {
  static constexpr std::array<Phrase, 3> kSentences = {{
      {"Deploy locally.", "建议本地部署。"},
      {"Do not buy machines: rent GPUs.", "不建议采购：租用 GPU。"},
      {"Do not buy machines: use a hosted API.", "不建议采购：使用托管 API。"},
  }};
  return std::string(kSentences[static_cast<std::size_t>(v.choice)].in(language));
}

std::vector<std::string> reasons(const FeasibilityInputs& in, const TcoInputs& costs, const Verdict& v,
                                 Language language) {
  std::vector<std::string> out;
  out.push_back(
      say(language,
          {"At {} requests a day, three years cost {} (own machines), {} (rented GPUs) or {} (API), in 10,000 CNY.",
           "每日 {} 次请求，三年成本：本地 {} 万元，租用 GPU {} 万元，API {} 万元。"},
          grouped(in.workload * kTenThousand), grouped(v.costs.local.total() / kTenThousand, 1),
          grouped(v.costs.rented.total() / kTenThousand, 1), grouped(v.costs.api.total() / kTenThousand, 1)));
  if (v.outside_too_rare)
    out.push_back(
        say(language,
            {"{} % of the time allows {} hours of outage a year; rented and hosted services are down {} hours, "
             "own machines {}.",
             "可用率 {} % 允许每年中断 {} 小时；租用与托管服务为 {} 小时，本地为 {} 小时。"},
            fmt::format("{:g}", in.availability), significant((1 - in.availability / 100) * 8760),
            significant(costs.outage_hours_cloud), significant(costs.outage_hours_local)));
  if (!v.accepted) {
    out.push_back(say(language,
                      {"Data of sensitivity 5 must not leave the building, so only own machines are possible, at {} "
                       "times the cheapest outside price.",
                       "敏感度为 5 的数据不得外传，因此只能本地部署，成本为最低外部报价的 {} 倍。"},
                      significant(v.ratio)));
  } else {
    out.push_back(say(language,
                      {"Sensitivity {} and cost weight {} accept own machines up to {} times the cheapest outside "
                       "offer; they cost {} times as much.",
                       "敏感度 {}、成本权重 {} 下，本地部署可接受的上限为最低外部报价的 {} 倍；实际为 {} 倍。"},
                      significant(in.sensitivity), significant(in.cost), significant(*v.accepted),
                      significant(v.ratio)));
  }
  out.push_back(say(language,
                    {"{} servers would work at {} % of their capacity on average.", "{} 台服务器的平均利用率为 {} %。"},
                    grouped(v.costs.servers), significant(v.costs.utilization * 100)));
  return out;
}

std::vector<std::string> changes(const FeasibilityInputs& in, const TcoInputs& costs, const Verdict& v,
                                 Language language) {
  std::vector<std::string> out;
  if (v.choice != Choice::local && v.from_workload)
    out.push_back(say(
        language, {"Load: own machines become right from {} requests a day.", "负载：每日达到 {} 次请求时应本地部署。"},
        grouped(std::ceil(*v.from_workload * kTenThousand))));
  if (v.choice != Choice::local && !v.from_workload)
    out.push_back(say(language, {"Load: no load makes own machines right at these prices.",
                                 "负载：按此价格，任何负载都不值得本地部署。"}));
  if (v.accepted && v.choice != Choice::local)
    out.push_back(
        say(language, {"Data: at sensitivity 5 only own machines are possible.", "数据：敏感度为 5 时只能本地部署。"}));
  FeasibilityInputs other = in;
  other.sensitivity = 1;
  FeasibilityInputs patient = in;
  patient.availability = 0;
  if (v.outside_too_rare && judge(patient, costs).choice != Choice::local)
    out.push_back(say(language, {"Availability: without this need an outside offer would be right.",
                                 "可用率：若无此要求，应选择外部服务。"}));
  if (v.choice == Choice::local && judge(other, costs).choice != Choice::local)
    out.push_back(say(language, {"Data: if it were public (sensitivity 1), an outside offer would be right.",
                                 "数据：若为公开数据（敏感度 1），应选择外部服务。"}));
  TcoInputs cheaper = costs;
  cheaper.outage_hours_cloud = costs.outage_hours_local;
  if (judge(in, cheaper).choice != v.choice)
    out.push_back(say(language,
                      {"Outages: with as few outages outside as at home ({} hours a year) the answer would be: {}",
                       "中断：若外部服务中断与本地同样少（每年 {} 小时），结论将是：{}"},
                      significant(costs.outage_hours_local), verdict_sentence(judge(in, cheaper), language)));
  if (out.empty())
    out.push_back(say(language, {"Neither the load, the data nor the outages alone change it.",
                                 "仅负载、数据或中断中的任何一项都不会改变结论。"}));
  return out;
}

std::string feasibility_json(const FeasibilityInputs& in, double index, const Verdict& v,
                             const std::vector<std::string>& why, const std::vector<std::string>& what) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("inputs");
  write_inputs(json, feasibility_fields(), in);
  json.key("published").begin_object().member("index", index).member("threshold", kPublishedThreshold);
  json.member("says_local", published_says_local(index)).member("maximum", kPublishedThreshold).end_object();
  json.key("verdict").begin_object().member("choice", to_string(v.choice)).member("local_over_cheapest", v.ratio);
  json.key("accepted_ratio");
  v.accepted ? json.value(*v.accepted) : json.null();
  json.key("local_from_workload");
  v.from_workload ? json.value(*v.from_workload) : json.null();
  json.member("local_total", v.costs.local.total()).member("rented_total", v.costs.rented.total());
  json.member("api_total", v.costs.api.total()).member("currency", "CNY");
  json.key("reasons").begin_array();
  for (const std::string& sentence : why) json.value(sentence);
  json.end_array().key("would_change").begin_array();
  for (const std::string& sentence : what) json.value(sentence);
  json.end_array().end_object().end_object();
  return out;
}

}  // namespace

Answer answer_feasibility(const FeasibilityInputs& inputs, const TcoInputs& costs, Language language) {
  const double index = published_index(inputs);
  const Verdict verdict = judge(inputs, costs);
  const std::vector<std::string> why = reasons(inputs, costs, verdict, language),
                                 what = changes(inputs, costs, verdict, language);
  Section published{.heading = say(language, {"The published index", "公开的可行性指数"})};
  published.paragraphs.push_back(
      say(language,
          {"Index {:.4f}; the published rule starts a local deployment above {:.1f}: {}.",
           "指数 {:.4f}；公开规则为大于 {:.1f} 时启动本地部署：{}。"},
          index, kPublishedThreshold,
          published_says_local(index) ? Phrase{"yes", "是"}.in(language) : Phrase{"no", "否"}.in(language)));
  published.paragraphs.push_back(say(language, {"The rule cannot say yes: its maximum is exactly 0.70 (no load, "
                                                "sensitivity 5, cost 0), and more load makes the index smaller, "
                                                "while load is what pays for machines. Hence our own verdict.",
                                                "该规则永远不会给出“是”：其最大值恰为 0.70（无负载、敏感度 5、成本 "
                                                "0），且负载越大指数越小，而负载正是采购的理由。因此我们另给结论。"}));
  return {.json = feasibility_json(inputs, index, verdict, why, what),
          .document = {
              .title = say(language, {"Feasibility of a local deployment", "本地部署可行性"}),
              .verdict = verdict_sentence(verdict, language),
              .sections = {{.heading = say(language, {"Why", "理由"}), .paragraphs = why},
                           {.heading = say(language, {"What would change it", "什么会改变结论"}), .paragraphs = what},
                           std::move(published)}}};
}

}  // namespace hp::planner

// The sizing in words, tables and JSON, with the errors of its predictions.
#include <algorithm>
#include <array>
#include <cmath>

#include "planner/accuracy.h"
#include "planner/sizing.h"

namespace hp::planner {
namespace {

constexpr std::size_t kShown = 6;

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

std::string word(Phrase phrase, Language language) {
  return std::string(phrase.in(language));
}

std::string split(const Configuration& c) {
  return fmt::format("{}x {} ({}, TP{} x{}){}", grouped(c.devices), c.device.id, c.format, grouped(c.tensor_parallel),
                     grouped(c.replicas), c.own_nodes ? "" : " *");
}

Table tier_table(const std::vector<Configuration>& all, double load, std::string title, Language language) {
  Table table{
      .title = std::move(title),
      .columns = {word({"devices (format, split)", "设备（格式，切分）"}, language),
                  word({"servers", "服务器"}, language), word({"TTFT P99 ms", "首词元 P99 ms"}, language),
                  word({"ITL P99 ms", "词元间隔 P99 ms"}, language), word({"max req/s", "最大 req/s"}, language),
                  word({"load", "负载率"}, language), word({"free KV tokens", "KV 词元容量"}, language), "kW",
                  word({"buy, 10,000 CNY", "采购 万元"}, language),
                  word({"with power, 10,000 CNY", "含电费 万元"}, language)}};
  for (std::size_t i = 0; i < std::min(kShown, all.size()); ++i) {
    const Configuration& c = all[i];
    table.rows.push_back({split(c), grouped(c.servers), grouped(c.latency.first_token_p99 * 1000),
                          grouped(c.latency.inter_token_p99 * 1000, 1), significant(c.capacity_rps),
                          percent(load / c.capacity_rps), grouped(c.memory.kv_tokens), significant(c.kilowatts),
                          grouped(c.purchase / 1e4, 1), grouped(c.total_cost / 1e4, 1)});
  }
  return table;
}

Table host_table(const SizeResult& result, Language language) {
  Table table{.title = word({"Each server besides its accelerators", "每台服务器的其余配置"}, language),
              .columns = {word({"tier", "档位"}, language), word({"CPU cores", "CPU 核"}, language),
                          word({"RAM GB", "内存 GB"}, language), word({"NVMe TB", "NVMe TB"}, language),
                          word({"network Gbit/s", "网络 Gbit/s"}, language)}};
  const auto row = [&](Phrase name, const std::vector<Configuration>& all) {
    if (all.empty()) return;
    const Configuration& c = all.front();
    table.rows.push_back({word(name, language),
                          c.cpu_cores > 0 ? grouped(c.cpu_cores) : word({"its own", "自身"}, language),
                          grouped(c.ram_gb), grouped(c.disk_tb), grouped(c.network_gbit)});
  };
  row({"basic", "基础"}, result.basic);
  row({"performance", "性能"}, result.performance);
  return table;
}

Table memory_table(const Configuration& c, Language language) {
  Table table{.title = say(language, {"Memory of one replica, {}", "单副本显存，{}"}, split(c)),
              .columns = {word({"part", "部分"}, language), "GB"}};
  const auto row = [&](Phrase name, double bytes) {
    table.rows.push_back({word(name, language), grouped(bytes / 1e9, 2)});
  };
  row({"usable", "可用"}, c.memory.available);
  row({"weights", "权重"}, c.memory.weights);
  row({"step (activations)", "激活"}, c.memory.step);
  row({"runtime", "运行时"}, c.memory.runtime);
  row({"KV cache", "KV 缓存"}, c.memory.kv_bytes());
  return table;
}

struct GivenHardware {
  Phrase name;
  std::string_view id;
  double count;
};
constexpr std::array<GivenHardware, 3> kPublished = {{
    {{"published basic tier: 2x A100 80 GB", "公开基础档：2x A100 80 GB"}, "a100-80g", 2},
    {{"published performance tier: 4x H100 80 GB", "公开性能档：4x H100 80 GB"}, "h100-80g", 4},
    {{"published claim: 2x RTX 6000 Ada", "公开数据：2x RTX 6000 Ada"}, "rtx-6000-ada", 2},
}};

Section published_section(const SizeRequest& request, const std::vector<Accelerator>& catalog,
                          std::span<const Calibration> calibrations, Language language) {
  Section out{.heading = word({"The published 67B configurations, judged", "对公开 67B 配置的评判"}, language)};
  for (const GivenHardware& given : kPublished) {
    const Result<Accelerator> device = find_accelerator(catalog, given.id);
    if (!device) continue;
    Table table{.title = word(given.name, language),
                .columns = {word({"format", "格式"}, language), word({"weights GB", "权重 GB"}, language),
                            word({"fits", "可装入"}, language),
                            word({"full contexts beside it", "可容纳完整上下文数"}, language),
                            word({"first token ms (512)", "首词元 ms（512）"}, language),
                            word({"tok/s, one user", "单用户 tok/s"}, language)}};
    for (const Judgement& j : judge_hardware(request.model, *device, given.count, calibrations))
      table.rows.push_back({j.format, grouped(j.memory.weights / 1e9, 1),
                            j.fits ? word({"yes", "是"}, language) : word({"no", "否"}, language),
                            j.fits ? grouped(std::floor(j.contexts)) : "–", j.fits ? grouped(j.first_token_ms) : "–",
                            j.fits ? grouped(j.tokens_per_second, 1) : "–"});
    out.tables.push_back(std::move(table));
  }
  out.paragraphs.push_back(word({"Published: 2x RTX 6000 Ada 287 ms and 12 tok/s, 4x H100 at most 120 ms. In bf16 the "
                                 "67B model's 135 GB fit neither into 2x 48 GB nor, "
                                 "with room for more than a few users, into 2x 80 GB.",
                                 "公开数据：2x RTX 6000 Ada 首词元 287 ms、12 tok/s；4x H100 不超过 120 ms。bf16 的 "
                                 "67B 模型（135 GB）装不进 2x 48 GB；2x 80 GB 只能为少数用户留出空间。"},
                                language));
  return out;
}

void write_configuration(JsonWriter& json, const Configuration& c) {
  json.begin_object()
      .member("accelerator", c.device.id)
      .member("format", c.format)
      .member("tensor_parallel", c.tensor_parallel);
  json.member("replicas", c.replicas)
      .member("devices", c.devices)
      .member("servers", c.servers)
      .member("chunk_tokens", c.chunk_tokens);
  json.key("predicted")
      .begin_object()
      .member("ttft_p99_ms", c.latency.first_token_p99 * 1000)
      .member("ttft_mean_ms", c.latency.first_token_mean * 1000);
  json.member("itl_p99_ms", c.latency.inter_token_p99 * 1000).member("itl_mean_ms", c.latency.inter_token_mean * 1000);
  json.member("capacity_rps", c.capacity_rps)
      .member("output_tokens_per_second", c.latency.output_tokens_per_second * c.replicas);
  json.member("utilization", c.latency.utilization)
      .member("sequences_per_replica", c.latency.sequences_mean)
      .member("kilowatts", c.kilowatts)
      .end_object();
  json.key("memory")
      .begin_object()
      .member("available_bytes", c.memory.available)
      .member("weight_bytes", c.memory.weights);
  json.member("step_bytes", c.memory.step)
      .member("runtime_bytes", c.memory.runtime)
      .member("kv_bytes_per_token", c.memory.kv_per_token);
  json.member("kv_tokens", c.memory.kv_tokens).end_object();
  json.key("host")
      .begin_object()
      .member("cpu_cores", c.cpu_cores)
      .member("ram_gb", c.ram_gb)
      .member("disk_tb", c.disk_tb);
  json.member("network_gbit", c.network_gbit).end_object();
  json.key("cost")
      .begin_object()
      .member("purchase", c.purchase)
      .member("total", c.total_cost)
      .member("currency", "CNY")
      .end_object();
  json.member("calibrated_on", c.calibrated_on).member("transferred", c.transferred);
  json.member("own_nodes", c.own_nodes).end_object();
}

std::string size_json(const SizeRequest& request, const SizeResult& result, std::span<const Calibration> calibrations) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("model", request.model_name).key("inputs");
  write_inputs(json, size_fields(), request.inputs);
  for (const bool basic : {true, false}) {
    json.key(basic ? "basic" : "performance").begin_array();
    for (const Configuration& c : basic ? result.basic : result.performance) write_configuration(json, c);
    json.end_array();
  }
  json.key("rejected").begin_array();
  for (const std::string& line : result.rejected) json.value(line);
  json.end_array().key("prediction_errors");
  write_errors(json, calibrations);
  json.end_object();
  return out;
}

std::string size_verdict(const SizeRequest& request, const SizeResult& result, Language language) {
  if (result.basic.empty())
    return say(language,
               {"No machine of the catalog serves {} within these targets from one server per replica. What comes "
                "nearest: relax ttft_p99_ms or itl_p99_ms, "
                "a smaller format (--format int4), or a distilled model (deepseek-r1-distill-llama-70b and smaller).",
                "目录中没有单机副本能在这些目标内运行 {}。最接近的做法：放宽 ttft_p99_ms 或 "
                "itl_p99_ms、更小的格式（--format int4），或使用蒸馏模型（deepseek-r1-distill-llama-70b 及更小）。"},
               request.model_name);
  const Configuration& c = result.basic.front();
  return say(language,
             {"{} at {} requests/s: {} in {} servers (spare included), {} x 10,000 CNY to buy; first token P99 {} ms, "
              "between tokens P99 {} ms.",
              "{}，每秒 {} 次请求：{}，共 {} 台服务器（含冗余），采购 {} 万元；首词元 P99 {} ms，词元间隔 P99 {} ms。"},
             request.model_name, significant(request.inputs.requests_per_second), split(c), grouped(c.servers),
             grouped(c.purchase / 1e4, 1), grouped(c.latency.first_token_p99 * 1000),
             grouped(c.latency.inter_token_p99 * 1000, 1));
}

}  // namespace

Answer answer_size(const SizeRequest& request, const SizeResult& result, const std::vector<Accelerator>& catalog,
                   std::span<const Calibration> calibrations, Language language) {
  Section tiers{
      .heading = word(
          {"Configurations: what our own nodes run first, then by cost", "配置（先列本产品节点可运行的，再按成本）"},
          language),
      .tables = {
          tier_table(result.basic, request.inputs.requests_per_second,
                     word({"basic: the targets as given", "基础档：满足给定目标"}, language), language),
          tier_table(result.performance, 2 * request.inputs.requests_per_second,
                     word({"performance: half the latency, twice the load", "性能档：延迟减半，负载加倍"}, language),
                     language),
          host_table(result, language)}};
  if (!result.basic.empty()) tiers.tables.push_back(memory_table(result.basic.front(), language));
  if (!result.basic.empty() && result.basic.front().transferred)
    tiers.paragraphs.push_back(say(language,
                                   {"The first configuration's speed rests on efficiencies measured with {}.",
                                    "首选配置的速度基于 {} 上测得的效率。"},
                                   result.basic.front().calibrated_on));
  const auto others = [](const Configuration& c) { return !c.own_nodes; };
  if (std::ranges::any_of(result.basic, others) || std::ranges::any_of(result.performance, others))
    tiers.paragraphs.push_back(
        word({"* Needs another OpenAI-compatible server program behind Homeport's gateway: this version's nodes run on "
              "one device, on Hopper GPUs in bf16, fp8 or int4, and on CPUs.",
              "* 需要在 Homeport 网关后运行其他兼容 OpenAI 的服务程序：本版本节点只在单卡（Hopper GPU，bf16、fp8 或 "
              "int4）和 CPU "
              "上运行。"},
             language));
  Document document{.title = say(language, {"Sizing of {}", "{} 的硬件规划"}, request.model_name),
                    .verdict = size_verdict(request, result, language)};
  document.sections.push_back(std::move(tiers));
  if (!result.rejected.empty()) {
    std::string line;
    for (const std::string& why : result.rejected) line += (line.empty() ? "" : "; ") + why;
    document.sections.push_back({.heading = word({"Left out", "未入选"}, language), .paragraphs = {line + "."}});
  }
  if (request.model_name == "deepseek-llm-67b")
    document.sections.push_back(published_section(request, catalog, calibrations, language));
  document.sections.push_back(error_section(calibrations, language));
  return {.json = size_json(request, result, calibrations), .document = std::move(document)};
}

}  // namespace hp::planner

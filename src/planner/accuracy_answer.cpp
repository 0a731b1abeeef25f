// How wrong the predictions are: the section that every answer carries, and the answer with every measured point.
#include <cmath>

#include "planner/accuracy.h"

namespace hp::planner {
namespace {

std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : "–";
}

void write_one(JsonWriter& json, std::string_view key, const PredictionErrors& e) {
  const auto share = [&](std::string_view name, double value) {
    json.key(name);
    std::isfinite(value) ? json.value(value) : json.null();
  };
  json.key(key).begin_object().member("points", e.points);
  share("ttft_mape", e.first_token);
  share("itl_mape", e.inter_token);
  share("throughput_mape", e.throughput);
  share("end_to_end_mape", e.end_to_end);
  json.end_object();
}

std::string accuracy_json(std::span<const Calibration> calibrations) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("prediction_errors");
  write_errors(json, calibrations);
  json.key("points").begin_array();
  for (const Calibration& c : calibrations) {
    for (const CheckedPoint& p : c.checked) {
      const Measurement& m = p.measured;
      json.begin_object().member("engine", m.engine).member("device", m.device).member("model", m.model);
      json.member("format", m.format).member("kind", m.prefill ? "prefill" : "decode").member("size", m.size);
      json.member("context", m.context)
          .member("measured_seconds", m.seconds())
          .member("predicted_seconds", p.predicted_seconds);
      json.member("error", p.error()).member("source", m.source).end_object();
    }
  }
  json.end_array().end_object();
  return out;
}

}  // namespace

Section error_section(std::span<const Calibration> calibrations, Language language) {
  const auto word = [&](Phrase phrase) { return std::string(phrase.in(language)); };
  Section out{.heading = word({"How wrong the predictions are", "预测误差"})};
  Table table{
      .title = word({"mean absolute error on measured points that were not used to calibrate",
                     "未用于校准的实测点上的平均绝对百分比误差"}),
      .columns = {word({"engine and machine", "引擎与机器"}), word({"points", "点数"}), word({"first token", "首词元"}),
                  word({"inter-token", "词元间隔"}), word({"throughput", "吞吐"}), word({"end to end", "端到端"}),
                  word({"… a model never measured", "…从未测过的模型"})}};
  for (const Calibration& c : calibrations)
    table.rows.push_back({c.engine + ", " + c.device, grouped(c.errors.points), percent(c.errors.first_token),
                          percent(c.errors.inter_token), percent(c.errors.throughput), percent(c.errors.end_to_end),
                          percent(c.other_model_errors.end_to_end)});
  out.tables.push_back(std::move(table));
  out.paragraphs.push_back(word(
      {"Every point is predicted by a fit that has not seen it (a fifth is held back at a time; in the last column "
       "every point of its model). Machines without own measurements borrow the efficiencies of the measured "
       "machine of their kind; their true error is larger and unknown. Queueing: M/G/1 per replica with an "
       "exponential tail (P99), Poisson number of running sequences. homeport plan accuracy lists every point.",
       "每个实测点都由未见过它的拟合来预测（每次留出五分之一；最后一列则留出该模型的全部点）。没有实测数据的机器借用"
       "同类实测机器的效率，其真实误差更大且未知。排队模型：每副本 "
       "M/G/1，指数尾（P99），运行中序列数服从泊松分布。homeport plan accuracy 列出每个点。"}));
  return out;
}

void write_errors(JsonWriter& json, std::span<const Calibration> calibrations) {
  json.begin_array();
  for (const Calibration& c : calibrations) {
    json.begin_object().member("engine", c.engine).member("device", c.device);
    write_one(json, "held_back", c.errors);
    write_one(json, "other_model", c.other_model_errors);
    json.end_object();
  }
  json.end_array();
}

Answer answer_accuracy(std::span<const Calibration> calibrations, Language language) {
  const auto word = [&](Phrase phrase) { return std::string(phrase.in(language)); };
  Document document{.title = word({"Predictions against measurements", "预测与实测对照"}),
                    .sections = {error_section(calibrations, language)}};
  Section every{.heading = word({"Every point, by a fit that has not seen it", "逐点对照（拟合未见过该点）"})};
  for (const Calibration& c : calibrations) {
    Table table{
        .title = c.engine + ", " + c.device,
        .columns = {word({"model, format", "模型与格式"}), word({"step", "步"}), word({"measured ms", "实测 ms"}),
                    word({"predicted ms", "预测 ms"}), word({"error", "误差"})}};
    for (const CheckedPoint& p : c.checked) {
      const Measurement& m = p.measured;
      table.rows.push_back(
          {m.model + " " + m.format,
           m.prefill ? fmt::format("prefill {:g}", m.size) : fmt::format("decode {:g} at {:g}", m.size, m.context),
           significant(m.seconds() * 1000), significant(p.predicted_seconds * 1000),
           fmt::format("{:+.1f} %", 100 * p.error())});
    }
    every.tables.push_back(std::move(table));
  }
  document.sections.push_back(std::move(every));
  return {.json = accuracy_json(calibrations), .document = std::move(document)};
}

}  // namespace hp::planner

// Reading measured points, and the errors of the predictions against those that were held back.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "base/toml.h"
#include "planner/calibration.h"

namespace hp::planner {
namespace data {
extern const std::string_view measurements_toml;
}
namespace {

constexpr double kAnswerTokens = 128;  // of the end-to-end check

Status add_rows(std::vector<Measurement>& out, const JsonValue& series, const Measurement& common, bool prefill,
                std::string_view where) {
  const JsonValue* rows = series.find(prefill ? "prefill" : "decode");
  if (rows == nullptr) return {};
  if (rows->as_array() == nullptr)
    return fail(ErrorCode::invalid_argument, "{}: expected rows [size, context, tokens/s]", where);
  for (const JsonValue& row : *rows->as_array()) {
    const JsonValue::Array* cells = row.as_array();
    if (cells == nullptr || cells->size() != 3)
      return fail(ErrorCode::invalid_argument, "{}: expected rows [size, context, tokens/s], found {}", where,
                  row.dump());
    std::array<double, 3> v{};
    for (std::size_t i = 0; i < 3; ++i) v[i] = (*cells)[i].as_double().value_or(-1);
    if (v[0] < 1 || v[1] < 0 || v[2] <= 0)
      return fail(ErrorCode::invalid_argument, "{}: expected size >= 1, context >= 0, tokens/s > 0, found {}", where,
                  row.dump());
    Measurement m = common;
    m.prefill = prefill;
    m.size = v[0];
    m.context = v[1];
    m.tokens_per_second = v[2];
    out.push_back(std::move(m));
  }
  return {};
}

Status add_series(std::vector<Measurement>& out, const JsonValue& series, std::string_view source_name) {
  Measurement common;
  for (const auto& [key, member] : {std::pair{"engine", &Measurement::engine},
                                    {"device", &Measurement::device},
                                    {"model", &Measurement::model},
                                    {"format", &Measurement::format},
                                    {"source", &Measurement::source}}) {
    const JsonValue* value = series.find(key);
    if (value == nullptr || value->as_string() == nullptr)
      return fail(ErrorCode::invalid_argument, "{}: series: {}: expected text", source_name, key);
    common.*member = *value->as_string();
  }
  const std::string where = fmt::format("{}: {} {} on {}", source_name, common.model, common.format, common.device);
  if (Result<ModelConfig> model = catalog_model(common.model); !model)
    return fail(std::move(model).error().with_context(where));
  if (find_format(common.format) == nullptr)
    return fail(ErrorCode::invalid_argument, "{}: format: expected one of {}, found '{}'", where, format_names(),
                common.format);
  HP_TRY_VOID(add_rows(out, series, common, true, where + ": prefill"));
  return add_rows(out, series, common, false, where + ": decode");
}

Status add_file(std::vector<Measurement>& out, std::string_view toml, std::string_view source_name) {
  HP_TRY(const JsonValue tree, parse_toml(toml, source_name));
  const JsonValue* all = tree.find("series");
  if (all == nullptr || all->as_array() == nullptr)
    return fail(ErrorCode::invalid_argument, "{}: expected [[series]] entries, found none", source_name);
  for (const JsonValue& series : *all->as_array()) HP_TRY_VOID(add_series(out, series, source_name));
  return {};
}

struct Mean {
  double sum = 0;
  int count = 0;
  void add(double v) { sum += v, ++count; }
  [[nodiscard]] double value() const { return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN(); }
};

bool same_series(const Measurement& a, const Measurement& b) {
  return a.engine == b.engine && a.device == b.device && a.model == b.model && a.format == b.format;
}

}  // namespace

Result<std::vector<Measurement>> load_measurements(std::string_view extra_toml, std::string_view source_name) {
  std::vector<Measurement> out;
  HP_TRY_VOID(add_file(out, data::measurements_toml, "measurements.toml"));
  if (!extra_toml.empty()) HP_TRY_VOID(add_file(out, extra_toml, source_name));
  return out;
}

Result<std::vector<Measurement>> measurements_of_bench(const JsonValue& bench, std::string_view device,
                                                       std::string_view source_name) {
  const auto number = [](const JsonValue* object, std::string_view key) {
    const JsonValue* value = object == nullptr ? nullptr : object->find(key);
    return value == nullptr ? -1.0 : value->as_double().value_or(-1);
  };
  const JsonValue *shape = bench.find("shape"), *format = bench.find("format"), *rows = bench.find("rows");
  if (shape == nullptr || format == nullptr || format->as_string() == nullptr || rows == nullptr ||
      rows->as_array() == nullptr)
    return fail(ErrorCode::invalid_argument,
                "{}: expected what `homeport bench --json` prints (shape, format, rows), found no such keys",
                source_name);
  Measurement common{.engine = "homeport", .device = std::string(device), .source = std::string(source_name)};
  for (const std::string& id : catalog_model_ids()) {
    const ModelConfig config = *catalog_model(id);
    if (config.layers == number(shape, "layers") && config.hidden == number(shape, "hidden") &&
        config.vocab == number(shape, "vocab") && common.model.empty())
      common.model = id;
  }
  if (common.model.empty())
    return fail(
        ErrorCode::invalid_argument,
        "{}: no model of the catalog has {:g} layers, hidden {:g}, vocabulary {:g}; homeport plan catalog lists "
        "them",
        source_name, number(shape, "layers"), number(shape, "hidden"), number(shape, "vocab"));
  common.format = *format->as_string();
  if (find_format(common.format) == nullptr)
    return fail(ErrorCode::invalid_argument, "{}: format: expected one of {}, found '{}'", source_name, format_names(),
                common.format);
  std::vector<Measurement> out;
  for (const JsonValue& row : *rows->as_array()) {
    Measurement m = common;
    m.prefill = row.find("tokens") != nullptr;
    m.size = number(&row, m.prefill ? "tokens" : "sequences");
    m.context = std::max(0.0, number(&row, "context"));
    m.tokens_per_second = number(&row, "tokens_per_second");
    if (m.size < 1 || m.tokens_per_second <= 0)
      return fail(ErrorCode::invalid_argument, "{}: rows: expected tokens or sequences and tokens_per_second, found {}",
                  source_name, row.dump());
    out.push_back(std::move(m));
  }
  return out;
}

Result<std::vector<Calibration>> calibrate_all(std::span<const Measurement> points,
                                               const std::vector<Accelerator>& catalog) {
  std::vector<Calibration> out;
  for (const Measurement& first : points) {
    const auto same = [&](const Measurement& m) { return m.engine == first.engine && m.device == first.device; };
    if (std::any_of(out.begin(), out.end(),
                    [&](const Calibration& c) { return c.engine == first.engine && c.device == first.device; }))
      continue;
    std::vector<Measurement> group;
    std::copy_if(points.begin(), points.end(), std::back_inserter(group), same);
    HP_TRY(const Accelerator device, find_accelerator(catalog, first.device));
    out.push_back(calibrate(group, device));
  }
  return out;
}

PredictionErrors prediction_errors(std::span<const CheckedPoint> checked) {
  Mean first_token, inter_token, throughput, end_to_end;
  PredictionErrors out;
  for (const CheckedPoint& p : checked) {
    ++out.points;
    const double ratio = p.predicted_seconds / p.measured.seconds();
    (p.measured.prefill ? first_token : inter_token).add(std::fabs(ratio - 1));
    if (!p.measured.prefill) throughput.add(std::fabs(1 / ratio - 1));
  }
  // A whole answer at every batch size: the series' first prefill row, then 128 tokens.
  for (const CheckedPoint& d : checked) {
    if (d.measured.prefill) continue;
    const auto p = std::find_if(checked.begin(), checked.end(), [&](const CheckedPoint& c) {
      return c.measured.prefill && same_series(c.measured, d.measured);
    });
    if (p == checked.end()) continue;
    const double measured = p->measured.seconds() + kAnswerTokens * d.measured.seconds();
    end_to_end.add(std::fabs((p->predicted_seconds + kAnswerTokens * d.predicted_seconds) / measured - 1));
  }
  out.first_token = first_token.value();
  out.inter_token = inter_token.value();
  out.throughput = throughput.value();
  out.end_to_end = end_to_end.value();
  return out;
}

}  // namespace hp::planner

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
    return fail(ErrorCode::invalid_argument, "{}: expected rows [size, context, tokens/s, use]", where);
  for (const JsonValue& row : *rows->as_array()) {
    const JsonValue::Array* cells = row.as_array();
    if (cells == nullptr || cells->size() != 4)
      return fail(ErrorCode::invalid_argument, "{}: expected rows [size, context, tokens/s, use], found {}", where,
                  row.dump());
    std::array<double, 4> v{};
    for (std::size_t i = 0; i < 4; ++i) v[i] = (*cells)[i].as_double().value_or(-1);
    if (v[0] < 1 || v[1] < 0 || v[2] <= 0 || (v[3] != 0 && v[3] != 1))
      return fail(ErrorCode::invalid_argument,
                  "{}: expected size >= 1, context >= 0, tokens/s > 0, use 0 or 1, found {}", where, row.dump());
    Measurement m = common;
    m.prefill = prefill;
    m.size = v[0];
    m.context = v[1];
    m.tokens_per_second = v[2];
    m.calibrates = v[3] == 1;
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
    if (std::none_of(group.begin(), group.end(), [](const Measurement& m) { return m.calibrates; }))
      return fail(ErrorCode::invalid_argument,
                  "measurements of {} on {}: expected at least one row with use = 1, found none", first.engine,
                  first.device);
    out.push_back(calibrate(group, device));
  }
  return out;
}

PredictionErrors prediction_errors(std::span<const CheckedPoint> checked) {
  Mean first_token, inter_token, throughput, end_to_end;
  PredictionErrors out;
  for (const CheckedPoint& p : checked) {
    if (p.measured.calibrates) continue;
    ++out.points;
    const double ratio = p.predicted_seconds / p.measured.seconds();
    (p.measured.prefill ? first_token : inter_token).add(std::fabs(ratio - 1));
    if (!p.measured.prefill) throughput.add(std::fabs(1 / ratio - 1));
  }
  // A whole answer at every batch size: the series' first prefill row, then 128 tokens; at least one part held back.
  for (const CheckedPoint& d : checked) {
    if (d.measured.prefill) continue;
    const auto p = std::find_if(checked.begin(), checked.end(), [&](const CheckedPoint& c) {
      return c.measured.prefill && same_series(c.measured, d.measured);
    });
    if (p == checked.end() || (p->measured.calibrates && d.measured.calibrates)) continue;
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

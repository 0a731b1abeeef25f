#include "planner/accelerators.h"

#include <algorithm>
#include <array>

#include "base/config.h"
#include "base/toml.h"
#include "planner/inputs.h"

namespace hp::planner {
namespace data {
extern const std::string_view accelerators_toml;
}
namespace {

using F = InputField<Accelerator>;
using A = Accelerator;
constexpr std::array<F, 11> kFields = {
    F{"memory", &A::memory, "GB", 0.5, 1e6, {}},    F{"bandwidth", &A::bandwidth, "GB/s", 1, 1e6, {}},
    F{"bf16", &A::bf16, "TFLOP/s", 1e-4, 1e6, {}},  F{"fp8", &A::fp8, "TFLOP/s", 0, 1e6, {}},
    F{"int8", &A::int8, "TOP/s", 0, 1e6, {}},       F{"fp4", &A::fp4, "TFLOP/s", 0, 1e6, {}},
    F{"fp32", &A::fp32, "TFLOP/s", 0, 1e6, {}},     F{"link", &A::link, "GB/s", 0, 1e6, {}},
    F{"power", &A::power, "W", 1, 1e5, {}},         F{"price", &A::price, "CNY", 0, 1e9, {}},
    F{"per_server", &A::per_server, "", 1, 72, {}},
};

Result<std::string> text_of(const JsonValue& entry, std::string_view key, std::string_view where) {
  const JsonValue* value = entry.find(key);
  if (value == nullptr || value->as_string() == nullptr || value->as_string()->empty())
    return fail(ErrorCode::invalid_argument, "{}: {}: expected text, found {}", where, key,
                value == nullptr ? "nothing" : value->type_name());
  return *value->as_string();
}

Result<Accelerator> accelerator_of(const JsonValue& entry, std::string_view source_name) {
  Accelerator out;
  HP_TRY(out.id, text_of(entry, "id", source_name));
  const std::string where = fmt::format("{}: {}", source_name, out.id);
  HP_TRY(out.name, text_of(entry, "name", where));
  HP_TRY(out.source, text_of(entry, "source", where));
  HP_TRY(const std::string kind, text_of(entry, "kind", where));
  if (kind != "gpu" && kind != "npu" && kind != "cpu")
    return fail(ErrorCode::invalid_argument, "{}: kind: expected gpu, npu or cpu, found '{}'", where, kind);
  out.kind = kind == "gpu" ? A::Kind::gpu : kind == "npu" ? A::Kind::npu : A::Kind::cpu;
  if (const JsonValue* runs = entry.find("homeport")) out.homeport = runs->as_bool().value_or(false);
  JsonValue::Object figures;
  for (const auto& [key, value] : *entry.as_object()) {
    if (key != "id" && key != "name" && key != "source" && key != "kind" && key != "homeport")
      figures.emplace_back(key, value);
  }
  HP_TRY_VOID(set_inputs<Accelerator>(kFields, out, JsonValue(std::move(figures)), where));
  HP_TRY_VOID(check_inputs<Accelerator>(kFields, out));
  return out;
}

Status add_entries(std::vector<Accelerator>& catalog, std::string_view toml, std::string_view source_name) {
  HP_TRY(const JsonValue tree, parse_toml(toml, source_name));
  const JsonValue* entries = tree.find("accelerator");
  if (entries == nullptr || entries->as_array() == nullptr)
    return fail(ErrorCode::invalid_argument, "{}: expected [[accelerator]] entries, found none", source_name);
  for (const JsonValue& entry : *entries->as_array()) {
    if (entry.as_object() == nullptr)
      return fail(ErrorCode::invalid_argument, "{}: accelerator: expected tables, found {}", source_name,
                  entry.type_name());
    HP_TRY(Accelerator accelerator, accelerator_of(entry, source_name));
    const auto old = std::find_if(catalog.begin(), catalog.end(), [&](const A& a) { return a.id == accelerator.id; });
    old == catalog.end() ? catalog.push_back(std::move(accelerator)) : void(*old = std::move(accelerator));
  }
  return {};
}

std::string unknown(const std::vector<Accelerator>& catalog, std::string_view id) {
  std::vector<std::string_view> ids;
  for (const Accelerator& a : catalog) ids.push_back(a.id);
  const std::string_view near = nearest_name(id, ids);
  return fmt::format("'{}' is not in the catalog of accelerators{}", id,
                     near.empty() ? "; homeport plan catalog lists them" : fmt::format("; did you mean '{}'?", near));
}

}  // namespace

Result<std::vector<Accelerator>> load_accelerators(std::string_view override_toml, std::string_view source_name) {
  std::vector<Accelerator> catalog;
  HP_TRY_VOID(add_entries(catalog, data::accelerators_toml, "accelerators.toml"));
  if (!override_toml.empty()) HP_TRY_VOID(add_entries(catalog, override_toml, source_name));
  return catalog;
}

Status apply_prices(std::vector<Accelerator>& catalog, const JsonValue& prices, std::string_view source_name) {
  if (prices.as_object() == nullptr)
    return fail(ErrorCode::invalid_argument, "{}: expected lines id = price, found {}", source_name,
                prices.type_name());
  for (const auto& [id, price] : *prices.as_object()) {
    const auto at = std::find_if(catalog.begin(), catalog.end(), [&id = id](const A& a) { return a.id == id; });
    if (at == catalog.end()) return fail(ErrorCode::invalid_argument, "{}: {}", source_name, unknown(catalog, id));
    const std::optional<double> value = price.as_double();
    if (!value || *value < 0 || *value > 1e9)
      return fail(ErrorCode::invalid_argument, "{}: {}: expected a price from 0 to 1000000000 CNY, found {}",
                  source_name, id, price.dump());
    at->price = *value;
  }
  return {};
}

Result<Accelerator> find_accelerator(const std::vector<Accelerator>& catalog, std::string_view id) {
  for (const Accelerator& a : catalog) {
    if (a.id == id) return a;
  }
  return fail(ErrorCode::invalid_argument, "accelerator: {}", unknown(catalog, id));
}

}  // namespace hp::planner

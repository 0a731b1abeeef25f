// What configuration looks like to people: the annotated file, the manual's table, suggestions for misspelt names.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/config.h"
#include "base/json.h"

namespace hp {
namespace {

std::string_view type_name(ConfigType type) {
  switch (type) {
    case ConfigType::boolean:
      return "boolean";
    case ConfigType::integer:
      return "integer";
    case ConfigType::number:
      return "number";
    case ConfigType::text:
      break;
  }
  return "text";
}

std::string range_text(const ConfigKey& key) {
  if (std::isinf(key.min) && std::isinf(key.max)) return {};
  return fmt::format("{} to {}", key.min, key.max);
}

/// A JSON string is a TOML basic string too.
std::string toml_literal(const ConfigKey& key) {
  if (key.type != ConfigType::text) return std::string(key.default_value);
  std::string out;
  append_json_string(out, key.default_value);
  return out;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string annotated_config(std::span<const ConfigKey> keys) {
  std::string out =
      "# Homeport's configuration. Every key is optional and stands here with its default.\n"
      "# Flags beat the environment, the environment beats this file.\n";
  std::string_view section;
  for (const ConfigKey& key : keys) {
    const std::size_t dot = key.name.find('.');
    const std::string_view table = key.name.substr(0, dot);
    if (table != section) out += fmt::format("\n[{}]\n", section = table);
    const std::string range = range_text(key);
    out += fmt::format("# {}\n# {}{}{}{}; --{}; {}\n# {} = {}\n", key.help, type_name(key.type),
                       key.unit.empty() ? "" : fmt::format(" ({})", key.unit), range.empty() ? "" : ", ", range,
                       key.flag, key.environment_name(), key.name.substr(dot + 1), toml_literal(key));
  }
  return out;
}

std::string config_markdown(std::span<const ConfigKey> keys) {
  std::string out =
      "| key | flag | environment | type | default | range | meaning |\n"
      "|---|---|---|---|---|---|---|\n";
  for (const ConfigKey& key : keys) {
    out += fmt::format("| `{}` | `--{}` | `{}` | {}{} | `{}` | {} | {} |\n", key.name, key.flag, key.environment_name(),
                       type_name(key.type), key.unit.empty() ? "" : fmt::format(", {}", key.unit), toml_literal(key),
                       range_text(key), key.help);
  }
  return out;
}

std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates) {
  constexpr std::size_t kMaxLength = 64;  // longer names are no misspelling, and the distance is quadratic
  if (name.size() > kMaxLength) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace hp

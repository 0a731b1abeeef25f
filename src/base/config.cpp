// Reading and checking of configuration sources: the only file that sees toml++. What is written for people is
// config_text.cpp's.
#include "base/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/mapped_file.h"

namespace hp {
namespace {

constexpr std::string_view kEnvironmentPrefix = "HOMEPORT_";

std::string expectation(const ConfigKey& key) {
  switch (key.type) {
    case ConfigType::boolean:
      return "true or false";
    case ConfigType::integer:
      return fmt::format("an integer from {} to {}", key.min, key.max);
    case ConfigType::number:
      return fmt::format("a number from {} to {}", key.min, key.max);
    case ConfigType::text:
      break;
  }
  return "text";
}

Error wrong_value(const ConfigKey& key, std::string_view where, std::string_view found) {
  return {ErrorCode::invalid_argument, fmt::format("{}: expected {}, found {}", where, expectation(key), found),
          std::string(key.name)};
}

Error unknown_key(std::string_view where, std::string_view name, std::string_view nearest) {
  const std::string hint = nearest.empty() ? "see the list of keys" : fmt::format("did you mean '{}'?", nearest);
  return {ErrorCode::invalid_argument, fmt::format("{}: unknown key '{}'; {}", where, name, hint), std::string(name)};
}

bool in_range(const ConfigKey& key, double v) {
  return v >= key.min && v <= key.max;  // false for NaN
}

template <typename T>
std::optional<T> parse_whole(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "true" || text == "on" || text == "1") return true;
  if (text == "false" || text == "off" || text == "0") return false;
  return std::nullopt;
}

}  // namespace

std::string ConfigKey::environment_name() const {
  std::string out(kEnvironmentPrefix);
  for (const char c : name) out += c == '.' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return out;
}

/// Turns one source into values, without touching a Config until all of it is good.
struct Config::Reader {
  std::span<const ConfigKey> keys;
  std::vector<Entry> entries;

  static Result<Value> from_text(const ConfigKey& key, std::string_view text, std::string_view where) {
    const auto quoted = [&] { return fmt::format("'{}'", text); };
    switch (key.type) {
      case ConfigType::boolean:
        if (const auto v = parse_boolean(text)) return Value(*v);
        break;
      case ConfigType::integer:
        if (const auto v = parse_whole<std::int64_t>(text); v && in_range(key, static_cast<double>(*v)))
          return Value(*v);
        break;
      case ConfigType::number:
        if (const auto v = parse_whole<double>(text); v && in_range(key, *v)) return Value(*v);
        break;
      case ConfigType::text:
        return Value(std::string(text));
    }
    return fail(wrong_value(key, where, quoted()));
  }

  static Result<Value> from_toml(const ConfigKey& key, const toml::node& node, std::string_view where) {
    if (key.type == ConfigType::boolean && node.is_boolean()) return Value(node.as_boolean()->get());
    if (key.type == ConfigType::text && node.is_string()) return Value(node.as_string()->get());
    if (key.type == ConfigType::integer && node.is_integer()) {
      const std::int64_t v = node.as_integer()->get();
      if (in_range(key, static_cast<double>(v))) return Value(v);
      return fail(wrong_value(key, where, fmt::format("{}", v)));
    }
    if (key.type == ConfigType::number && node.is_number()) {
      const double v =
          node.is_integer() ? static_cast<double>(node.as_integer()->get()) : node.as_floating_point()->get();
      if (in_range(key, v)) return Value(v);
      return fail(wrong_value(key, where, fmt::format("{}", v)));
    }
    std::ostringstream type;
    type << node.type();
    return fail(wrong_value(key, where, fmt::format("a value of type {}", type.str())));
  }

  /// Tables are sections: "server" + "port" is "server.port".
  Status table(const toml::table& table, const std::string& prefix, std::string_view source_name) {
    for (const auto& [toml_key, node] : table) {
      const std::string name = prefix + std::string(toml_key.str());
      const std::string where = fmt::format("{}:{}", source_name, node.source().begin.line);
      if (node.is_table() && prefix.empty()) {
        HP_TRY_VOID(this->table(*node.as_table(), name + ".", source_name));
        continue;
      }
      std::size_t i = 0;
      while (i < keys.size() && keys[i].name != name) ++i;
      if (i == keys.size()) {
        std::vector<std::string_view> names;
        for (const ConfigKey& key : keys) names.push_back(key.name);
        return fail(unknown_key(where, name, nearest_name(name, names)));
      }
      HP_TRY(Value value, from_toml(keys[i], node, fmt::format("{}: {}", where, name)));
      assign(entries, i, std::move(value), ConfigSource::file);
    }
    return {};
  }
};

Config::Config(std::span<const ConfigKey> keys) : keys_(keys) {
  for (const ConfigKey& key : keys) {
    Result<Value> value = Reader::from_text(key, key.default_value, key.name);
    HP_CHECK(value.has_value(), "default of {}", value.error().message);
    entries_.push_back({std::move(*value), ConfigSource::default_value});
  }
}

void Config::assign(std::vector<Entry>& entries, std::size_t i, Value value, ConfigSource source) {
  if (source >= entries[i].source) entries[i] = {std::move(value), source};
}

Status Config::read_file(const std::filesystem::path& path) {
  HP_TRY(const MappedFile file, MappedFile::open(path));
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() > kMaxFileBytes)
    return fail(ErrorCode::invalid_argument, "{}: expected a configuration of at most {} bytes, found {}",
                path.string(), kMaxFileBytes, bytes.size());
  return read_toml({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

Status Config::read_toml(std::string_view text, std::string_view source_name) {
  Reader reader{keys_, entries_};
  try {
    const toml::table table = toml::parse(text, source_name);
    HP_TRY_VOID(reader.table(table, "", source_name));
  } catch (const toml::parse_error& e) {
    return fail(ErrorCode::invalid_argument, "{}:{}: not valid TOML: {}", source_name, e.source().begin.line,
                e.description());
  }
  entries_ = std::move(reader.entries);
  return {};
}

Result<std::vector<std::string>> Config::read_environment(const char* const* environment) {
  std::vector<Entry> entries = entries_;
  std::vector<std::string> unknown;
  for (; *environment != nullptr; ++environment) {
    const std::string_view line = *environment;
    if (!line.starts_with(kEnvironmentPrefix)) continue;
    const std::size_t equals = std::min(line.find('='), line.size());
    const std::string_view name = line.substr(0, equals);
    std::size_t i = 0;
    while (i < keys_.size() && keys_[i].environment_name() != name) ++i;
    if (i == keys_.size()) {
      unknown.emplace_back(name);
      continue;
    }
    HP_TRY(Value value, Reader::from_text(keys_[i], line.substr(std::min(equals + 1, line.size())), name));
    assign(entries, i, std::move(value), ConfigSource::environment);
  }
  entries_ = std::move(entries);
  return unknown;
}

Status Config::set_flag(std::string_view flag, std::string_view value) {
  std::vector<std::string_view> flags;
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i].flag == flag) {
      HP_TRY(Value parsed, Reader::from_text(keys_[i], value, fmt::format("--{}", flag)));
      assign(entries_, i, std::move(parsed), ConfigSource::flag);
      return {};
    }
    flags.push_back(keys_[i].flag);
  }
  return fail(unknown_key("command line", flag, nearest_name(flag, flags)));
}

const Config::Entry& Config::entry(std::string_view name, ConfigType type) const {
  std::size_t i = 0;
  while (i < keys_.size() && keys_[i].name != name) ++i;
  HP_CHECK(i < keys_.size(), "no configuration key '{}'", name);
  HP_CHECK(keys_[i].type == type, "configuration key '{}' read as another type", name);
  return entries_[i];
}

bool Config::boolean(std::string_view name) const {
  return std::get<bool>(entry(name, ConfigType::boolean).value);
}

std::int64_t Config::integer(std::string_view name) const {
  return std::get<std::int64_t>(entry(name, ConfigType::integer).value);
}

double Config::number(std::string_view name) const {
  return std::get<double>(entry(name, ConfigType::number).value);
}

const std::string& Config::text(std::string_view name) const {
  return std::get<std::string>(entry(name, ConfigType::text).value);
}

std::string Config::shown(std::string_view name) const {
  for (std::size_t i = 0; i < keys_.size(); ++i)
    if (keys_[i].name == name) return std::visit([](const auto& v) { return fmt::format("{}", v); }, entries_[i].value);
  HP_CHECK(false, "no configuration key '{}'", name);
}

ConfigSource Config::source(std::string_view name) const {
  for (std::size_t i = 0; i < keys_.size(); ++i)
    if (keys_[i].name == name) return entries_[i].source;
  HP_CHECK(false, "no configuration key '{}'", name);
}

}  // namespace hp

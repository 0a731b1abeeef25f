// Configuration: one table describes every key; flags, environment names, the TOML file, the annotated default file and
// the documentation come from it. Flags beat the environment, the environment beats the file, the file beats the
// default. Does not parse argv (cli does) and does not know what a key means.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace hp {

enum class ConfigType { boolean, integer, number, text };

struct ConfigKey {
  std::string_view name;  ///< "server.port": table and key of the TOML file
  std::string_view flag;  ///< "port" for --port
  ConfigType type = ConfigType::text;
  std::string_view default_value;  ///< as it would stand on the command line
  std::string_view unit = {};      ///< "ms", "bytes", "tokens"; may be empty
  std::string_view help = {};      ///< one sentence
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();

  /// HOMEPORT_SERVER_PORT
  [[nodiscard]] std::string environment_name() const;
};

/// Every key of the program.
std::span<const ConfigKey> config_keys();

/// Where a value came from, weakest first.
enum class ConfigSource { default_value, file, environment, flag };

class Config {
 public:
  static constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;

  /// All defaults. `keys` must outlive the Config; a default that breaks its own key's type or range is a bug.
  explicit Config(std::span<const ConfigKey> keys = config_keys());

  /// Each reads one source; the order of the calls does not matter. On an error nothing of that source is kept.
  Status read_file(const std::filesystem::path& path);
  Status read_toml(std::string_view text, std::string_view source_name);
  /// `environment` ends with a null pointer, like environ. The result names HOMEPORT_* variables that are no key's: not
  /// an error, because tests and wrappers may have their own, but worth a warning.
  Result<std::vector<std::string>> read_environment(const char* const* environment);
  /// `flag` without dashes.
  Status set_flag(std::string_view flag, std::string_view value);

  /// A name that is not in the table, or of another type, is a bug.
  [[nodiscard]] bool boolean(std::string_view name) const;
  [[nodiscard]] std::int64_t integer(std::string_view name) const;
  [[nodiscard]] double number(std::string_view name) const;
  [[nodiscard]] const std::string& text(std::string_view name) const;
  [[nodiscard]] ConfigSource source(std::string_view name) const;
  [[nodiscard]] std::string shown(std::string_view name) const;  ///< any type, as text

 private:
  using Value = std::variant<bool, std::int64_t, double, std::string>;
  struct Entry {
    Value value;
    ConfigSource source = ConfigSource::default_value;
  };
  struct Reader;
  [[nodiscard]] const Entry& entry(std::string_view name, ConfigType type) const;
  static void assign(std::vector<Entry>& entries, std::size_t i, Value value, ConfigSource source);

  std::span<const ConfigKey> keys_;
  std::vector<Entry> entries_;  // one per key, in the table's order
};

/// The file that `homeport` would behave the same without: every key, explained, commented out.
std::string annotated_config(std::span<const ConfigKey> keys = config_keys());

/// The table of the manual, in Markdown.
std::string config_markdown(std::span<const ConfigKey> keys = config_keys());

/// The candidate closest to `name` by edit distance, or empty when none is close.
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace hp

// A command's own flags and positionals, without CLI11's types in a header. The flags that stand for configuration keys
// are program.cpp's business.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace hp::cli {

/// Every value must live as long as the parse. Names are CLI11's: "-p,--prompt"; what `value` holds is the default.
class Arguments {
 public:
  explicit Arguments(CLI::App& app) : app_(&app) {}

  void text(std::string_view names, std::string& value, std::string_view help, std::string_view placeholder = "TEXT");
  void integer(std::string_view names, std::int64_t& value, std::string_view help, std::int64_t min, std::int64_t max);
  void number(std::string_view names, double& value, std::string_view help, double min, double max);
  /// The command itself checks the range.
  void number(std::string_view names, double& value, std::string_view help);
  void toggle(std::string_view names, bool& value, std::string_view help);
  /// "1,4,16"
  void integers(std::string_view names, std::vector<std::int64_t>& value, std::string_view help, std::int64_t min,
                std::int64_t max);
  void positional(std::string_view name, std::string& value, std::string_view help, bool required);
  /// All that is left of the line.
  void rest(std::string_view name, std::vector<std::string>& value, std::string_view help);

 private:
  CLI::App* app_;
};

}  // namespace hp::cli

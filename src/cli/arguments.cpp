#include "cli/arguments.h"

#include <CLI/CLI.hpp>

namespace hp::cli {
namespace {

constexpr const char* kGroup = "Options";

}  // namespace

void Arguments::text(std::string_view names, std::string& value, std::string_view help, std::string_view placeholder) {
  app_->add_option(std::string(names), value, std::string(help))->group(kGroup)->type_name(std::string(placeholder));
}

void Arguments::integer(std::string_view names, std::int64_t& value, std::string_view help, std::int64_t min,
                        std::int64_t max) {
  app_->add_option(std::string(names), value, std::string(help))
      ->group(kGroup)
      ->type_name("N")
      ->check(CLI::Range(min, max))
      ->capture_default_str();
}

void Arguments::number(std::string_view names, double& value, std::string_view help, double min, double max) {
  app_->add_option(std::string(names), value, std::string(help))
      ->group(kGroup)
      ->type_name("X")
      ->check(CLI::Range(min, max))
      ->capture_default_str();
}

void Arguments::number(std::string_view names, double& value, std::string_view help) {
  app_->add_option(std::string(names), value, std::string(help))->group(kGroup)->type_name("X")->capture_default_str();
}

void Arguments::toggle(std::string_view names, bool& value, std::string_view help) {
  app_->add_flag(std::string(names), value, std::string(help))->group(kGroup);
}

void Arguments::integers(std::string_view names, std::vector<std::int64_t>& value, std::string_view help,
                         std::int64_t min, std::int64_t max) {
  app_->add_option(std::string(names), value, std::string(help))
      ->group(kGroup)
      ->type_name("N,N,...")
      ->delimiter(',')
      ->check(CLI::Range(min, max))
      ->capture_default_str();
}

void Arguments::positional(std::string_view name, std::string& value, std::string_view help, bool required) {
  app_->add_option(std::string(name), value, std::string(help))->required(required)->type_name("");
}

void Arguments::rest(std::string_view name, std::vector<std::string>& value, std::string_view help) {
  app_->add_option(std::string(name), value, std::string(help))->type_name("");
}

}  // namespace hp::cli

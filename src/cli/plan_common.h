// What the plan commands share: forms of output, price lists, flags out of the planner's field tables.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cli/arguments.h"
#include "planner/document.h"
#include "planner/inputs.h"
#include "planner/sizing.h"
#include "planner/tco.h"

namespace hp::cli {

struct PlanOutput {
  bool json = false, csv = false;
  std::string html;      ///< a file to write the page to; "-" prints it
  std::string language;  ///< empty: from LC_ALL or LANG
};
void declare_output(Arguments& arguments, PlanOutput& output);
Result<planner::Language> language_of(const PlanOutput& output);
/// Prints the answer in the form asked for.
Result<int> print_answer(const planner::Answer& answer, const PlanOutput& output);

/// One flag per field, --like-this; the ranges are the planner's to check.
template <typename T>
void declare_fields(Arguments& arguments, std::span<const planner::InputField<T>> fields, T& inputs) {
  for (const planner::InputField<T>& field : fields) {
    const std::string help = fmt::format("{} ({:g} to {:g}{}{}).", field.help.en, field.min, field.max,
                                         field.unit.empty() ? "" : " ", field.unit);
    arguments.number("--" + planner::flag_of(field.name), inputs.*(field.member), help);
  }
}

Result<std::string> read_text_file(const std::string& path);

/// A price list: TOML with the tables [tco] (fields of plan tco) and [accelerators] (id = price). Null: not wanted
/// here.
Status apply_price_list(const std::string& path, planner::TcoInputs* tco, std::vector<planner::Accelerator>* catalog);

struct Catalogs {
  std::vector<planner::Accelerator> accelerators;
  std::vector<planner::Calibration> calibrations;
};
struct CatalogFiles {
  std::string catalog, measurements, prices;
};
Result<Catalogs> load_catalogs(const CatalogFiles& files, planner::TcoInputs* tco);

/// A model's name in the catalog, or a path to a config.json.
Result<ModelConfig> model_from(const std::string& name);

/// Flags of size, report and deploy alike.
struct SizeFlags {
  planner::SizeRequest request;
  CatalogFiles files;
  std::string model = "deepseek-r1-distill-qwen-32b", formats, accelerators, curve, access_log;
};
void declare_size(Arguments& arguments, SizeFlags& flags);
/// Model, lists and load filled in, everything checked.
Status complete(SizeFlags& flags, const Catalogs& catalogs);

}  // namespace hp::cli

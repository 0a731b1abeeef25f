#include "model/gguf_set.h"

#include <string>
#include <utility>

#include "model/limits.h"

namespace hp {
namespace {

/// "…-00002-of-00005.gguf" for split 2 of a set whose first file is `first`.
Result<std::filesystem::path> split_path(const std::filesystem::path& first, std::int64_t number, std::int64_t count) {
  const std::string name = first.filename().string();
  const std::string ending = fmt::format("-{:05}-of-{:05}.gguf", 1, count);
  if (!name.ends_with(ending))
    return fail(ErrorCode::invalid_argument, "'{}' says split.count {}, but its name does not end in '{}'",
                first.string(), count, ending);
  const std::string stem = name.substr(0, name.size() - ending.size());
  return first.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", stem, number, count);
}

Status check_split(const GgufFile& file, std::int64_t number, std::int64_t count) {
  const std::int64_t no = file.get_int("split.no").value_or(-1), of = file.get_int("split.count").value_or(-1);
  if (no == number && of == count) return {};
  return fail(ErrorCode::corrupt_data, "'{}' says split.no {} of split.count {}, expected {} of {}", file.name(), no,
              of, number, count);
}

}  // namespace

Result<GgufSet> GgufSet::open(const std::filesystem::path& path) {
  GgufSet set;
  HP_TRY(GgufFile first, GgufFile::open(path));
  const std::int64_t count = first.get_int("split.count").value_or(1);
  const std::int64_t tensors = first.get_int("split.tensors.count").value_or(-1);
  const std::int64_t number = first.get_int("split.no").value_or(0);
  if (count < 1 || count > static_cast<std::int64_t>(limits::kMaxShards))
    return fail(ErrorCode::corrupt_data, "'{}': split.count is {}, expected 1 to {}", first.name(), count,
                limits::kMaxShards);
  if (number != 0)
    return fail(ErrorCode::invalid_argument, "'{}' is split {} of {}: open the first one, '…-00001-of-{:05}.gguf'",
                first.name(), number + 1, count, count);
  std::size_t found = first.tensors().size();
  set.files_.push_back(std::move(first));
  for (std::int64_t i = 1; i < count; ++i) {
    HP_TRY(const std::filesystem::path next, split_path(path, i + 1, count));
    auto file = GgufFile::open(next);
    if (!file)
      return fail(
          std::move(file.error()).with_context(fmt::format("split {} of {} of '{}'", i + 1, count, path.string())));
    HP_TRY_VOID(check_split(*file, i, count));
    found += file->tensors().size();
    set.files_.push_back(std::move(*file));
  }
  if (count > 1 && tensors >= 0 && std::cmp_not_equal(found, tensors))
    return fail(ErrorCode::corrupt_data, "'{}': split.tensors.count is {}, the {} files have {}", path.string(),
                tensors, count, found);
  return set;
}

const GgufTensor* GgufSet::find(std::string_view name) const {
  for (const GgufFile& file : files_)
    if (const GgufTensor* t = file.find(name)) return t;
  return nullptr;
}

}  // namespace hp

#include "model/safetensors_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "base/json.h"
#include "model/limits.h"

namespace hp {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kJsonDepth = 8;

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct Range {
  std::uint64_t begin = 0, end = 0;
  std::size_t tensor = 0;
};

}  // namespace

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, DType>, 12> kTypes = {{{"F64", DType::f64},
                                                                                 {"F32", DType::f32},
                                                                                 {"F16", DType::f16},
                                                                                 {"BF16", DType::bf16},
                                                                                 {"F8_E4M3", DType::f8_e4m3},
                                                                                 {"F8_E5M2", DType::f8_e5m2},
                                                                                 {"F8_E8M0", DType::f8_e8m0},
                                                                                 {"I64", DType::i64},
                                                                                 {"I32", DType::i32},
                                                                                 {"I16", DType::i16},
                                                                                 {"I8", DType::i8},
                                                                                 {"U8", DType::u8}}};
  for (const auto& [text, type] : kTypes)
    if (text == name) return type;
  return std::nullopt;
}

/// Turns one file's bytes into its tensor table.
class SafetensorsParser {
 public:
  SafetensorsParser(std::span<const std::byte> bytes, SafetensorsFile& out) : bytes_(bytes), out_(out) {}
  Status run();

 private:
  Status tensor(const std::string& name, const JsonValue& entry);
  Result<Shape> shape(const std::string& name, const JsonValue& entry) const;
  Result<Range> range(const std::string& name, const JsonValue& entry) const;
  Status check_contiguous();

  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
  SafetensorsFile& out_;
  std::vector<Range> ranges_;
};

Result<Shape> SafetensorsParser::shape(const std::string& name, const JsonValue& entry) const {
  const JsonValue* member = entry.find("shape");
  const JsonValue::Array* dims = member != nullptr ? member->as_array() : nullptr;
  if (dims == nullptr || dims->size() > Shape::kMaxRank)
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' needs a shape, an array of at most {} numbers", out_.name(),
                name, Shape::kMaxRank);
  std::vector<std::int64_t> sizes;
  std::int64_t elements = 1;
  for (const JsonValue& dim : *dims) {
    const std::int64_t d = dim.as_int().value_or(0);
    // 16: no element takes more bytes, so the byte count cannot overflow either.
    if (d < 1 || d > limits::kMaxDimension || elements > std::numeric_limits<std::int64_t>::max() / 16 / d)
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' has the impossible dimension {}", out_.name(), name,
                  dim.dump());
    sizes.push_back(d);
    elements *= d;
  }
  // A scalar is read as one row of one element.
  if (sizes.empty()) sizes.push_back(1);
  return Shape::from(sizes);
}

Result<Range> SafetensorsParser::range(const std::string& name, const JsonValue& entry) const {
  const JsonValue* member = entry.find("data_offsets");
  const JsonValue::Array* pair = member != nullptr ? member->as_array() : nullptr;
  if (pair == nullptr || pair->size() != 2)
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' needs data_offsets, an array of two numbers", out_.name(),
                name);
  const std::int64_t begin = (*pair)[0].as_int().value_or(-1);
  const std::int64_t end = (*pair)[1].as_int().value_or(-1);
  if (begin < 0 || end < begin || static_cast<std::uint64_t>(end) > data_.size())
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' has data_offsets {}, but the file has {} bytes of data",
                out_.name(), name, member->dump(), data_.size());
  return Range{.begin = static_cast<std::uint64_t>(begin), .end = static_cast<std::uint64_t>(end)};
}

Status SafetensorsParser::tensor(const std::string& name, const JsonValue& entry) {
  const JsonValue* type = entry.find("dtype");
  const std::string* type_name = type != nullptr ? type->as_string() : nullptr;
  if (name.empty() || type_name == nullptr)
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' has no name or no dtype", out_.name(), name);
  const std::optional<DType> dtype = dtype_from_safetensors(*type_name);
  if (!dtype)
    return fail(ErrorCode::unsupported, "'{}': tensor '{}' has dtype '{}', which is not supported", out_.name(), name,
                *type_name);
  HP_TRY(const Shape dims, shape(name, entry));
  HP_TRY(Range place, range(name, entry));
  const TensorView view{.dtype = *dtype, .shape = dims, .data = data_.data() + place.begin};
  if (view.bytes() != place.end - place.begin)
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' {} {} takes {} bytes, data_offsets give {}", out_.name(),
                name, traits(*dtype).name, dims.to_string(), view.bytes(), place.end - place.begin);
  const std::uint64_t position = bytes_.size() - data_.size() + place.begin;
  if (position % traits(*dtype).block_bytes != 0)
    return fail(ErrorCode::unsupported, "'{}': tensor '{}' lies at byte {}, no multiple of its element size {}",
                out_.name(), name, position, traits(*dtype).block_bytes);
  if (!out_.index_.emplace(name, out_.tensors_.size()).second)
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' stands twice", out_.name(), name);
  place.tensor = out_.tensors_.size();
  ranges_.push_back(place);
  out_.tensors_.push_back({.name = name, .view = view});
  return {};
}

/// The format forbids holes and overlaps: the tensors together are exactly the data.
Status SafetensorsParser::check_contiguous() {
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::uint64_t expected = 0;
  for (const Range& r : ranges_) {
    if (r.begin != expected)
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' begins at data offset {}, expected {}: a hole or overlap",
                  out_.name(), out_.tensors_[r.tensor].name, r.begin, expected);
    expected = r.end;
  }
  if (expected != data_.size())
    return fail(ErrorCode::corrupt_data, "'{}': the tensors take {} bytes, the file has {} bytes of data", out_.name(),
                expected, data_.size());
  return {};
}

Status SafetensorsParser::run() {
  std::uint64_t length = 0;
  if (bytes_.size() < kLengthBytes)
    return fail(ErrorCode::corrupt_data, "'{}' has {} bytes: too short for a safetensors file", out_.name(),
                bytes_.size());
  std::memcpy(&length, bytes_.data(), kLengthBytes);
  if (length > limits::kMaxSafetensorsHeader || length > bytes_.size() - kLengthBytes)
    return fail(ErrorCode::corrupt_data, "'{}' claims a header of {} bytes; {} are left and {} are allowed",
                out_.name(), length, bytes_.size() - kLengthBytes, limits::kMaxSafetensorsHeader);
  auto header = JsonValue::parse(as_text(bytes_.subspan(kLengthBytes, length)), kJsonDepth);
  if (!header) return fail(std::move(header.error()).with_context(out_.name()));
  const JsonValue::Object* entries = header->as_object();
  if (entries == nullptr || entries->size() > limits::kMaxTensors)
    return fail(ErrorCode::corrupt_data, "'{}': the header is no object of at most {} tensors", out_.name(),
                limits::kMaxTensors);
  data_ = bytes_.subspan(kLengthBytes + length);
  for (const auto& [name, entry] : *entries)
    if (name != "__metadata__") HP_TRY_VOID(tensor(name, entry));
  return check_contiguous();
}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  HP_TRY(MappedFile file, MappedFile::open(path));
  HP_TRY(SafetensorsFile out, parse(file.bytes(), path.string()));
  out.file_ = std::move(file);
  return out;
}

Result<SafetensorsFile> SafetensorsFile::parse(std::span<const std::byte> bytes, std::string name) {
  SafetensorsFile out;
  out.name_ = std::move(name);
  HP_TRY_VOID(SafetensorsParser(bytes, out).run());
  return out;
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

namespace {

/// Tensor name to file name, as the index says.
Result<std::map<std::string, std::string>> read_index(const std::filesystem::path& path) {
  HP_TRY(const MappedFile file, MappedFile::open(path));
  if (file.bytes().size() > limits::kMaxSafetensorsHeader)
    return fail(ErrorCode::corrupt_data, "'{}' has {} bytes, {} are allowed", path.string(), file.bytes().size(),
                limits::kMaxSafetensorsHeader);
  auto json = JsonValue::parse(as_text(file.bytes()), kJsonDepth);
  if (!json) return fail(std::move(json.error()).with_context(path.string()));
  const JsonValue* member = json->find("weight_map");
  const JsonValue::Object* weights = member != nullptr ? member->as_object() : nullptr;
  if (weights == nullptr || weights->empty() || weights->size() > limits::kMaxTensors)
    return fail(ErrorCode::corrupt_data, "'{}' needs a weight_map of 1 to {} tensors", path.string(),
                limits::kMaxTensors);
  std::map<std::string, std::string> out;
  for (const auto& [tensor, value] : *weights) {
    const std::string* name = value.as_string();
    // A plain name only: an index must not lead out of its folder.
    if (name == nullptr || name->empty() || *name == "." || *name == ".." || name->find('/') != std::string::npos ||
        name->find('\0') != std::string::npos)
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' names the file {}, expected a plain file name",
                  path.string(), tensor, value.dump());
    if (!out.emplace(tensor, *name).second)
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' stands twice", path.string(), tensor);
  }
  return out;
}

}  // namespace

Result<std::vector<SafetensorsFile>> open_safetensors_folder(const std::filesystem::path& folder) {
  std::vector<SafetensorsFile> files;
  const std::filesystem::path index_path = folder / "model.safetensors.index.json";
  std::error_code error;
  if (!std::filesystem::exists(index_path, error)) {
    HP_TRY(SafetensorsFile only, SafetensorsFile::open(folder / "model.safetensors"));
    files.push_back(std::move(only));
    return files;
  }
  HP_TRY(const auto weights, read_index(index_path));
  std::set<std::string> names;
  for (const auto& entry : weights) names.insert(entry.second);
  if (names.size() > limits::kMaxShards)
    return fail(ErrorCode::corrupt_data, "'{}' names {} files, {} are allowed", index_path.string(), names.size(),
                limits::kMaxShards);
  std::size_t found = 0;
  for (const std::string& name : names) {
    HP_TRY(SafetensorsFile file, SafetensorsFile::open(folder / name));
    for (const SafetensorsTensor& t : file.tensors()) {
      const auto it = weights.find(t.name);
      if (it == weights.end() || it->second != name)
        return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' lies in '{}', the index says '{}'", index_path.string(),
                    t.name, name, it == weights.end() ? "nothing" : it->second);
      ++found;
    }
    files.push_back(std::move(file));
  }
  if (found == weights.size()) return files;
  for (const auto& [tensor, name] : weights) {
    const auto has = [&t = tensor](const SafetensorsFile& f) { return f.find(t) != nullptr; };
    if (std::none_of(files.begin(), files.end(), has))
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' is not in '{}'", index_path.string(), tensor, name);
  }
  return files;
}

}  // namespace hp

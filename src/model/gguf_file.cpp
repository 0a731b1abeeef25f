#include "model/gguf_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/utf8.h"
#include "model/limits.h"

namespace hp {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint64_t kDefaultAlignment = 32;

enum GgufType : std::uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

}  // namespace

std::optional<DType> dtype_from_ggml(std::uint32_t id) {
  switch (id) {
    case 0:
      return DType::f32;
    case 1:
      return DType::f16;
    case 2:
      return DType::q4_0;
    case 3:
      return DType::q4_1;
    case 6:
      return DType::q5_0;
    case 7:
      return DType::q5_1;
    case 8:
      return DType::q8_0;
    case 10:
      return DType::q2_k;
    case 11:
      return DType::q3_k;
    case 12:
      return DType::q4_k;
    case 13:
      return DType::q5_k;
    case 14:
      return DType::q6_k;
    case 20:
      return DType::iq4_nl;
    case 23:
      return DType::iq4_xs;
    case 24:
      return DType::i8;
    case 25:
      return DType::i16;
    case 26:
      return DType::i32;
    case 27:
      return DType::i64;
    case 28:
      return DType::f64;
    case 30:
      return DType::bf16;
    default:
      return std::nullopt;
  }
}

/// Walks the header with a cursor that cannot pass the end.
class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, GgufFile& out) : bytes_(bytes), out_(out) {}
  Status run();

 private:
  template <typename T>
  Result<T> number(std::string_view what) {
    if (bytes_.size() - at_ < sizeof(T)) return truncated(what, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  [[nodiscard]] tl::unexpected<Error> truncated(std::string_view what, std::uint64_t need) const {
    return fail(ErrorCode::corrupt_data, "'{}' is cut short: {} needs {} bytes at offset {}, {} are left", out_.name(),
                what, need, at_, bytes_.size() - at_);
  }
  Result<std::string> text(std::string_view what);
  Result<GgufFile::Value> value(std::uint32_t type, std::string_view key);
  Result<GgufFile::Value> array(std::string_view key);
  Status metadata(std::uint64_t count);
  Status tensor_table(std::uint64_t count);
  Status tensor(std::uint64_t& offset);
  Status place(std::span<const std::uint64_t> offsets);

  std::span<const std::byte> bytes_;
  GgufFile& out_;
  std::size_t at_ = 0;
};

Result<std::string> GgufParser::text(std::string_view what) {
  HP_TRY(const auto length, number<std::uint64_t>(what));
  if (length > limits::kMaxStringBytes)
    return fail(ErrorCode::corrupt_data, "'{}': {} claims a string of {} bytes", out_.name(), what, length);
  if (bytes_.size() - at_ < length) return truncated(what, length);
  std::string out(reinterpret_cast<const char*>(bytes_.data() + at_), length);
  at_ += length;
  return out;
}

Result<GgufFile::Value> GgufParser::value(std::uint32_t type, std::string_view key) {
  const auto read = [&]<typename T, typename As>(T, As) -> Result<GgufFile::Value> {
    HP_TRY(const T v, number<T>(key));
    return GgufFile::Value(static_cast<As>(v));
  };
  switch (type) {
    case kU8:
      return read(std::uint8_t{}, std::int64_t{});
    case kI8:
      return read(std::int8_t{}, std::int64_t{});
    case kU16:
      return read(std::uint16_t{}, std::int64_t{});
    case kI16:
      return read(std::int16_t{}, std::int64_t{});
    case kU32:
      return read(std::uint32_t{}, std::int64_t{});
    case kI32:
      return read(std::int32_t{}, std::int64_t{});
    case kI64:
      return read(std::int64_t{}, std::int64_t{});
    case kU64:
      return read(std::uint64_t{}, std::uint64_t{});
    case kF32:
      return read(float{}, double{});
    case kF64:
      return read(double{}, double{});
    case kArray:
      return array(key);
    case kBool: {
      HP_TRY(const auto v, number<std::uint8_t>(key));
      if (v > 1) return fail(ErrorCode::corrupt_data, "'{}': '{}' is a boolean of value {}", out_.name(), key, v);
      return GgufFile::Value(v == 1);
    }
    case kString: {
      HP_TRY(std::string s, text(key));
      return GgufFile::Value(std::move(s));
    }
    default:
      return fail(ErrorCode::corrupt_data, "'{}': '{}' has the unknown type {}", out_.name(), key, type);
  }
}

Result<GgufFile::Value> GgufParser::array(std::string_view key) {
  HP_TRY(const auto type, number<std::uint32_t>(key));
  HP_TRY(const auto count, number<std::uint64_t>(key));
  if (type == kArray) return fail(ErrorCode::unsupported, "'{}': '{}' is an array of arrays", out_.name(), key);
  // Every element takes at least one byte, so a count beyond what is left is a lie and reserves nothing.
  if (count > limits::kMaxArrayElements || count > bytes_.size() - at_)
    return fail(ErrorCode::corrupt_data, "'{}': '{}' claims {} elements, {} bytes are left", out_.name(), key, count,
                bytes_.size() - at_);
  std::vector<std::string> strings;
  std::vector<double> doubles;
  std::vector<std::int64_t> ints;
  for (std::uint64_t i = 0; i < count; ++i) {
    HP_TRY(GgufFile::Value v, value(type, key));
    if (auto* s = std::get_if<std::string>(&v)) {
      strings.push_back(std::move(*s));
    } else if (const auto* d = std::get_if<double>(&v)) {
      doubles.push_back(*d);
    } else if (const auto* b = std::get_if<bool>(&v)) {
      ints.push_back(*b ? 1 : 0);
    } else if (const auto* n = std::get_if<std::int64_t>(&v)) {
      ints.push_back(*n);
    } else {
      ints.push_back(static_cast<std::int64_t>(std::get<std::uint64_t>(v)));
    }
  }
  if (type == kString) return GgufFile::Value(std::move(strings));
  if (type == kF32 || type == kF64) return GgufFile::Value(std::move(doubles));
  return GgufFile::Value(std::move(ints));
}

Status GgufParser::metadata(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    HP_TRY(std::string key, text("a metadata key"));
    if (key.empty() || !is_valid_utf8(key))
      return fail(ErrorCode::corrupt_data, "'{}': metadata key {} is empty or not UTF-8", out_.name(), i);
    HP_TRY(const auto type, number<std::uint32_t>(key));
    HP_TRY(GgufFile::Value v, value(type, key));
    if (!out_.metadata_.emplace(key, std::move(v)).second)
      return fail(ErrorCode::corrupt_data, "'{}': metadata key '{}' stands twice", out_.name(), key);
  }
  return {};
}

Status GgufParser::tensor(std::uint64_t& offset) {
  HP_TRY(std::string name, text("a tensor name"));
  HP_TRY(const auto rank, number<std::uint32_t>(name));
  if (name.empty() || !is_valid_utf8(name) || rank < 1 || rank > Shape::kMaxRank)
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' has {} dimensions, 1 to {} are possible", out_.name(), name,
                rank, Shape::kMaxRank);
  std::vector<std::int64_t> dims(rank);
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < rank; ++i) {
    HP_TRY(const auto dim, number<std::uint64_t>(name));
    if (dim == 0 || dim > static_cast<std::uint64_t>(limits::kMaxDimension) ||
        elements > std::numeric_limits<std::uint64_t>::max() / 16 / dim)
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' has the impossible dimension {}", out_.name(), name, dim);
    dims[rank - 1 - i] = static_cast<std::int64_t>(dim);
    elements *= dim;
  }
  HP_TRY(const auto type, number<std::uint32_t>(name));
  HP_TRY(offset, number<std::uint64_t>(name));
  const std::optional<DType> dtype = dtype_from_ggml(type);
  if (!dtype)
    return fail(ErrorCode::unsupported, "'{}': tensor '{}' has ggml type {}, which is not supported", out_.name(), name,
                type);
  const Shape shape = Shape::from(dims);
  if (shape.inner() % traits(*dtype).block_size != 0)
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' {} of {} has rows that are no multiple of {}", out_.name(),
                name, shape.to_string(), traits(*dtype).name, traits(*dtype).block_size);
  if (!out_.index_.emplace(name, out_.tensors_.size()).second)
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' stands twice", out_.name(), name);
  out_.tensors_.push_back({.name = std::move(name), .view = {.dtype = *dtype, .shape = shape}});
  return {};
}

/// Turns relative offsets into pointers, once the start of the data section is known.
Status GgufParser::place(std::span<const std::uint64_t> offsets) {
  std::uint64_t alignment = kDefaultAlignment;
  if (const auto given = out_.get_int("general.alignment")) {
    if (*given <= 0 || *given > static_cast<std::int64_t>(limits::kMaxAlignment) || *given % 8 != 0)
      return fail(ErrorCode::corrupt_data, "'{}': general.alignment is {}", out_.name(), *given);
    alignment = static_cast<std::uint64_t>(*given);
  }
  const std::uint64_t start = (at_ + alignment - 1) / alignment * alignment;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    GgufTensor& t = out_.tensors_[i];
    const std::uint64_t size = t.view.bytes();
    const std::uint64_t room = start <= bytes_.size() ? bytes_.size() - start : 0;
    if (offsets[i] % alignment != 0 || offsets[i] > room || size > room - offsets[i])
      return fail(ErrorCode::corrupt_data,
                  "'{}': tensor '{}' {} {} takes {} bytes at data offset {}, but the data section has {}", out_.name(),
                  t.name, traits(t.view.dtype).name, t.view.shape.to_string(), size, offsets[i], room);
    t.view.data = bytes_.data() + start + offsets[i];
  }
  return {};
}

Status GgufParser::run() {
  HP_TRY(const auto magic, number<std::uint32_t>("the magic number"));
  if (magic != kMagic) return fail(ErrorCode::corrupt_data, "'{}' is not a GGUF file", out_.name());
  HP_TRY(out_.version_, number<std::uint32_t>("the version"));
  if (out_.version_ != 2 && out_.version_ != 3)
    return fail(ErrorCode::unsupported, "'{}' is GGUF version {}; versions 2 and 3 are supported", out_.name(),
                out_.version_);
  HP_TRY(const auto tensor_count, number<std::uint64_t>("the tensor count"));
  HP_TRY(const auto key_count, number<std::uint64_t>("the metadata count"));
  if (tensor_count > limits::kMaxTensors || key_count > limits::kMaxMetadataKeys)
    return fail(ErrorCode::corrupt_data, "'{}' claims {} tensors and {} metadata keys", out_.name(), tensor_count,
                key_count);
  HP_TRY_VOID(metadata(key_count));
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    std::uint64_t offset = 0;
    HP_TRY_VOID(tensor(offset));
    offsets.push_back(offset);
  }
  return place(offsets);
}

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
  HP_TRY(MappedFile file, MappedFile::open(path));
  HP_TRY(GgufFile out, parse(file.bytes(), path.string()));
  out.file_ = std::move(file);
  return out;
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, std::string name) {
  GgufFile out;
  out.name_ = std::move(name);
  HP_TRY_VOID(GgufParser(bytes, out).run());
  return out;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

namespace {

template <typename T>
const T* get(const GgufFile& file, std::string_view key) {
  const auto it = file.metadata().find(key);
  return it == file.metadata().end() ? nullptr : std::get_if<T>(&it->second);
}

}  // namespace

std::optional<std::int64_t> GgufFile::get_int(std::string_view key) const {
  if (const auto* v = get<std::int64_t>(*this, key)) return *v;
  const auto* u = get<std::uint64_t>(*this, key);
  if (u != nullptr && std::in_range<std::int64_t>(*u)) return static_cast<std::int64_t>(*u);
  return std::nullopt;
}

std::optional<double> GgufFile::get_double(std::string_view key) const {
  if (const auto* v = get<double>(*this, key)) return *v;
  const auto whole = get_int(key);
  return whole ? std::optional(static_cast<double>(*whole)) : std::nullopt;
}

std::optional<bool> GgufFile::get_bool(std::string_view key) const {
  const auto* v = get<bool>(*this, key);
  return v != nullptr ? std::optional(*v) : std::nullopt;
}

const std::string* GgufFile::get_string(std::string_view key) const {
  return get<std::string>(*this, key);
}
const std::vector<std::string>* GgufFile::get_strings(std::string_view key) const {
  return get<std::vector<std::string>>(*this, key);
}
const std::vector<std::int64_t>* GgufFile::get_ints(std::string_view key) const {
  return get<std::vector<std::int64_t>>(*this, key);
}
const std::vector<double>* GgufFile::get_doubles(std::string_view key) const {
  return get<std::vector<double>>(*this, key);
}

}  // namespace hp

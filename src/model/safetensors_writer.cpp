#include "model/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/json.h"

namespace hp {
namespace {

constexpr std::size_t kHeaderAlignment = 8;

Error write_error(const std::filesystem::path& path) {
  return {errno == ENOSPC ? ErrorCode::resource_exhausted : ErrorCode::io_error,
          fmt::format("cannot write '{}': {}", path.string(), std::strerror(errno))};
}

std::filesystem::path partial(const std::filesystem::path& path) {
  return path.string() + ".partial";
}

}  // namespace

std::string_view safetensors_dtype_name(DType type) {
  switch (type) {
    case DType::f64:
      return "F64";
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::f8_e4m3:
      return "F8_E4M3";
    case DType::f8_e5m2:
      return "F8_E5M2";
    case DType::f8_e8m0:
      return "F8_E8M0";
    case DType::i64:
      return "I64";
    case DType::i32:
      return "I32";
    case DType::i16:
      return "I16";
    case DType::i8:
      return "I8";
    case DType::u8:
      return "U8";
    default:
      return {};
  }
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& path,
                                                    std::span<const SafetensorsEntry> entries) {
  SafetensorsWriter out;
  out.path_ = path;
  std::string header;
  {
    JsonWriter w(header);
    w.begin_object().key("__metadata__").begin_object().member("format", "pt").end_object();
    for (const SafetensorsEntry& e : entries) {
      HP_CHECK(!safetensors_dtype_name(e.dtype).empty(), "'{}' is of type {}", e.name, traits(e.dtype).name);
      w.key(e.name).begin_object().member("dtype", safetensors_dtype_name(e.dtype)).key("shape").begin_array();
      for (int i = 0; i < e.shape.rank(); ++i) w.value(e.shape[i]);
      w.end_array().key("data_offsets").begin_array().value(std::uint64_t{out.left_});
      out.left_ += e.bytes();
      w.value(std::uint64_t{out.left_}).end_array().end_object();
    }
    w.end_object();
  }
  header.append((kHeaderAlignment - header.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  out.file_.reset(std::fopen(partial(path).c_str(), "wb"));
  if (out.file_ == nullptr) return tl::unexpected(write_error(partial(path)));
  const std::uint64_t length = header.size();
  if (std::fwrite(&length, sizeof(length), 1, out.file_.get()) != 1 ||
      std::fwrite(header.data(), 1, header.size(), out.file_.get()) != header.size()) {
    return tl::unexpected(write_error(partial(path)));
  }
  return out;
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  HP_CHECK(bytes.size() <= left_, "{} bytes where {} are left", bytes.size(), left_);
  left_ -= bytes.size();
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) {
    return tl::unexpected(write_error(partial(path_)));
  }
  return {};
}

Status SafetensorsWriter::finish() {
  HP_CHECK(left_ == 0, "{} bytes are missing", left_);
  if (std::fflush(file_.get()) != 0 || ::fsync(::fileno(file_.get())) != 0) {
    return tl::unexpected(write_error(partial(path_)));
  }
  file_.reset();
  std::error_code error;
  std::filesystem::rename(partial(path_), path_, error);
  if (error) return fail(ErrorCode::io_error, "cannot rename '{}': {}", partial(path_).string(), error.message());
  return {};
}

}  // namespace hp

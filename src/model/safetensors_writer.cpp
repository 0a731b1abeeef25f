#include "model/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>

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
  std::vector<std::size_t> order(entries.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return traits(entries[a].dtype).block_bytes > traits(entries[b].dtype).block_bytes;
  });
  out.offsets_.resize(entries.size());
  out.sizes_.resize(entries.size());
  {
    JsonWriter w(header);
    w.begin_object().key("__metadata__").begin_object().member("format", "pt").end_object();
    for (const std::size_t i : order) {
      const SafetensorsEntry& e = entries[i];
      HP_CHECK(!safetensors_dtype_name(e.dtype).empty(), "'{}' is of type {}", e.name, traits(e.dtype).name);
      w.key(e.name).begin_object().member("dtype", safetensors_dtype_name(e.dtype)).key("shape").begin_array();
      for (int d = 0; d < e.shape.rank(); ++d) w.value(e.shape[d]);
      w.end_array().key("data_offsets").begin_array().value(std::uint64_t{out.left_});
      out.offsets_[i] = out.left_;
      out.sizes_[i] = e.bytes();
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
  for (std::size_t& offset : out.offsets_) offset += sizeof(length) + header.size();
  return out;
}

Status SafetensorsWriter::write(std::size_t entry, std::size_t at, std::span<const std::byte> bytes) {
  HP_CHECK(at + bytes.size() <= sizes_[entry], "{} bytes at {} of {}", bytes.size(), at, sizes_[entry]);
  left_ -= bytes.size();
  const auto to = static_cast<off_t>(offsets_[entry] + at);
  if (::fseeko(file_.get(), to, SEEK_SET) != 0 ||
      std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) {
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

#include "model/rounded_store.h"

#include <unistd.h>

#include <cstring>
#include <utility>

namespace hp {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kComplete = "complete";

/// At a file's end, behind values and scales.
struct Trailer {
  std::uint64_t scale_bytes;
  double error, size;
};

}  // namespace

Status RoundedWriter::write(std::span<const std::byte> values, std::span<const std::byte> scales,
                            const QuantError& error) {
  if (std::fwrite(values.data(), 1, values.size(), file_.get()) != values.size())
    return fail(ErrorCode::io_error, "cannot write '{}': {}", path_.string(), std::strerror(errno));
  scales_.insert(scales_.end(), scales.begin(), scales.end());
  error_.add(error);
  return {};
}

Status RoundedWriter::finish() {
  const Trailer trailer{.scale_bytes = scales_.size(), .error = error_.error, .size = error_.size};
  const bool written = std::fwrite(scales_.data(), 1, scales_.size(), file_.get()) == scales_.size() &&
                       std::fwrite(&trailer, sizeof trailer, 1, file_.get()) == 1 && std::fflush(file_.get()) == 0 &&
                       ::fdatasync(::fileno(file_.get())) == 0;
  if (!written) return fail(ErrorCode::io_error, "cannot write '{}': {}", path_.string(), std::strerror(errno));
  file_.reset();
  std::error_code error;
  fs::rename(path_.string() + ".partial", path_, error);
  if (error) return fail(ErrorCode::io_error, "cannot rename '{}.partial': {}", path_.string(), error.message());
  return {};
}

bool RoundedStore::has(std::string_view tensor) const {
  std::error_code error;
  return fs::exists(path_of(tensor), error);
}

Result<RoundedMatrix> RoundedStore::read(std::string_view tensor) const {
  RoundedMatrix out;
  HP_TRY(out.file, MappedFile::open(path_of(tensor)));
  const auto bytes = out.file.bytes();
  Trailer trailer{};
  if (bytes.size() < sizeof trailer)
    return fail(ErrorCode::corrupt_data, "'{}' is too short", path_of(tensor).string());
  const std::size_t body = bytes.size() - sizeof trailer;
  std::memcpy(&trailer, bytes.data() + body, sizeof trailer);
  if (trailer.scale_bytes > body)
    return fail(ErrorCode::corrupt_data, "'{}' is too short for its {} bytes of scales", path_of(tensor).string(),
                trailer.scale_bytes);
  out.values = bytes.first(body - trailer.scale_bytes);
  out.scales = bytes.subspan(out.values.size(), trailer.scale_bytes);
  out.error = {.error = trailer.error, .size = trailer.size};
  return out;
}

Result<RoundedWriter> RoundedStore::write(std::string_view tensor) const {
  std::error_code error;
  fs::create_directories(folder_, error);
  RoundedWriter out;
  out.path_ = path_of(tensor);
  out.file_.reset(std::fopen((out.path_.string() + ".partial").c_str(), "wb"));
  if (!out.file_)
    return fail(ErrorCode::io_error, "cannot write '{}.partial': {}", out.path_.string(), std::strerror(errno));
  return out;
}

void RoundedStore::remove(std::string_view tensor) const {
  std::error_code error;
  fs::remove(path_of(tensor), error);
}

bool RoundedStore::complete() const {
  return has(kComplete);
}

Status RoundedStore::mark_complete() const {
  std::error_code error;
  fs::create_directories(folder_, error);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path_of(kComplete).c_str(), "wb"),
                                                             &std::fclose);
  if (!file) return fail(ErrorCode::io_error, "cannot write '{}'", path_of(kComplete).string());
  return {};
}

void RoundedStore::remove_all() const {
  std::error_code error;
  fs::remove_all(folder_, error);
}

}  // namespace hp

#include "hub/part_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <numeric>

#include <fmt/ranges.h>

#include "base/json.h"
#include "hub/limits.h"
#include "net/sha256.h"

namespace hp::hub {
namespace {

std::filesystem::path with(const std::filesystem::path& target, const char* ending) {
  return target.string() + ending;
}

tl::unexpected<Error> cannot(std::string_view what, const std::filesystem::path& path, int code) {
  const bool full = code == ENOSPC || code == EDQUOT || code == EFBIG;
  return fail(full ? ErrorCode::resource_exhausted : ErrorCode::io_error, "cannot {} '{}': {}{}", what, path.string(),
              std::strerror(code), full ? "; what has arrived is kept: make room and run again" : "");
}

}  // namespace

const std::uint64_t PartFile::kPart = kPartBytes;

PartFile::PartFile(std::filesystem::path target, HubFile file, int descriptor)
    : target_(std::move(target)),
      file_(std::move(file)),
      descriptor_(descriptor),
      arrived_(std::max<std::size_t>((file_.size + kPart - 1) / kPart, 1)) {}

PartFile::~PartFile() {
  ::close(descriptor_);
}

Result<std::unique_ptr<PartFile>> PartFile::open(const std::filesystem::path& target, const HubFile& file) {
  std::error_code error;
  std::filesystem::create_directories(target.parent_path(), error);
  if (error) return cannot("make the folder", target.parent_path(), error.value());
  const auto path = with(target, ".part");
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return cannot("open", path, errno);
  std::unique_ptr<PartFile> part(new PartFile(target, file, descriptor));
  // All of its room at once: a disk that is too small says so now, not after an hour.
  const int full = file.size > 0 ? ::posix_fallocate(descriptor, 0, static_cast<off_t>(file.size)) : 0;
  if (full != 0 && full != EOPNOTSUPP && full != EINVAL) return cannot("reserve the bytes of", path, full);
  if (::ftruncate(descriptor, static_cast<off_t>(file.size)) != 0) return cannot("size", path, errno);
  part->load();
  return part;
}

void PartFile::load() {
  std::ifstream in(with(target_, ".part.state"));
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto json = JsonValue::parse(text);
  if (!json) return;
  const JsonValue *size = json->find("size"), *hash = json->find("hash"), *parts = json->find("arrived");
  const std::string* known = hash != nullptr ? hash->as_string() : nullptr;
  if (size == nullptr || size->as_int() != static_cast<std::int64_t>(file_.size) || known == nullptr ||
      *known != file_.sha256 + file_.git_sha || parts == nullptr || parts->as_array() == nullptr ||
      parts->as_array()->size() != arrived_.size())
    return;
  for (std::size_t i = 0; i < arrived_.size(); ++i) {
    const auto n = (*parts->as_array())[i].as_int().value_or(0);
    arrived_[i] = n > 0 ? std::min(static_cast<std::uint64_t>(n), size_of(i)) : 0;
  }
}

std::uint64_t PartFile::size_of(std::size_t part) const {
  return std::min(file_.size - std::min(file_.size, begin_of(part)), kPart);
}

std::uint64_t PartFile::arrived(std::size_t part) const {
  const std::lock_guard lock(mutex_);
  return arrived_[part];
}

std::uint64_t PartFile::arrived() const {
  const std::lock_guard lock(mutex_);
  return std::accumulate(arrived_.begin(), arrived_.end(), std::uint64_t{0});
}

Status PartFile::append(std::size_t part, std::string_view bytes) {
  const std::uint64_t have = arrived(part);
  if (bytes.size() > size_of(part) - have)
    return fail(ErrorCode::corrupt_data, "'{}': the server sent more bytes than it was asked for", file_.path);
  for (std::size_t done = 0; done < bytes.size();) {
    const auto n = ::pwrite(descriptor_, bytes.data() + done, bytes.size() - done,
                            static_cast<off_t>(begin_of(part) + have + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return cannot("write", with(target_, ".part"), n < 0 ? errno : ENOSPC);
    done += static_cast<std::size_t>(n);
  }
  const std::lock_guard lock(mutex_);
  arrived_[part] = have + bytes.size();
  return {};
}

void PartFile::restart(std::size_t part) {
  const std::lock_guard lock(mutex_);
  arrived_[part] = 0;
}

Status PartFile::save() {
  const std::lock_guard lock(mutex_);
  if (ended_) return {};
  const auto path = with(target_, ".part.state"), fresh = with(target_, ".part.state.new");
  std::ofstream(fresh) << fmt::format(R"({{"size":{},"hash":"{}","arrived":[{}]}})", file_.size,
                                      file_.sha256 + file_.git_sha, fmt::join(arrived_, ","))
                       << "\n";
  std::error_code error;
  std::filesystem::rename(fresh, path, error);
  return error ? cannot("write", path, error.value()) : Status();
}

Result<std::string> PartFile::hash() const {
  net::Digest digest(file_.sha256.empty() ? net::Digest::Kind::sha1 : net::Digest::Kind::sha256);
  if (file_.sha256.empty()) {  // git hashes a header first
    const std::string head = fmt::format("blob {}", file_.size);
    digest.update(std::as_bytes(std::span(head.c_str(), head.size() + 1)));
  }
  std::vector<std::byte> buffer(std::size_t{4} << 20);
  for (std::uint64_t at = 0; at < file_.size;) {
    const auto n = ::pread(descriptor_, buffer.data(), buffer.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return cannot("read", with(target_, ".part"), n < 0 ? errno : EIO);
    digest.update(std::span(buffer).first(static_cast<std::size_t>(n)));
    at += static_cast<std::uint64_t>(n);
  }
  return digest.hex();
}

Status PartFile::complete() {
  std::error_code ignored;
  const std::string& expected = file_.sha256.empty() ? file_.git_sha : file_.sha256;
  if (!expected.empty()) {
    HP_TRY(const std::string found, hash());
    if (found != expected) {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      std::filesystem::remove(with(target_, ".part"), ignored);
      std::filesystem::remove(with(target_, ".part.state"), ignored);
      return fail(
          ErrorCode::corrupt_data,
          "'{}': expected the hash {}, what arrived has {}; it was removed. Run again; if it stays so, the hub's "
          "copy or the way to it is broken",
          file_.path, expected, found);
    }
  }
  if (::fsync(descriptor_) != 0) return cannot("write", with(target_, ".part"), errno);
  const std::lock_guard lock(mutex_);
  ended_ = true;
  std::error_code error;
  std::filesystem::rename(with(target_, ".part"), target_, error);
  if (error) return cannot("name", target_, error.value());
  std::filesystem::remove(with(target_, ".part.state"), ignored);
  return {};
}

bool is_complete(const std::filesystem::path& target, const HubFile& file) {
  std::error_code error;
  return std::filesystem::file_size(target, error) == file.size && !error;
}

}  // namespace hp::hub

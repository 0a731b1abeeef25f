#include "arch/cpu/spilled_rows.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace hp {
namespace {

constexpr std::size_t kSmall = 32U << 20U;  // bytes that are not worth letting go

}  // namespace

Result<SpilledRows> SpilledRows::make(const std::filesystem::path& folder, std::size_t rows, std::size_t width) {
  SpilledRows out;
  out.rows_ = rows;
  out.width_ = width;
  const std::size_t bytes = rows * width * sizeof(float);
  if (bytes == 0) return out;
  std::string name = (folder / "rows.XXXXXX").string();
  const int fd = ::mkstemp(name.data());
  if (fd < 0) return fail(ErrorCode::io_error, "cannot make a file in '{}': {}", folder.string(), std::strerror(errno));
  ::unlink(name.c_str());
  const int missing = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  void* const at = missing != 0 ? MAP_FAILED : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int reason = missing != 0 ? missing : errno;
  ::close(fd);
  if (at == MAP_FAILED)
    return fail(ErrorCode::resource_exhausted, "no room in '{}' for {} MB of hidden states: {}", folder.string(),
                bytes >> 20U, std::strerror(reason));
  out.data_ = static_cast<float*>(at);
  return out;
}

SpilledRows::SpilledRows(SpilledRows&& other) noexcept {
  *this = std::move(other);
}

SpilledRows& SpilledRows::operator=(SpilledRows&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(rows_, other.rows_);
  std::swap(width_, other.width_);
  return *this;
}

SpilledRows::~SpilledRows() {
  if (data_ != nullptr) ::munmap(data_, rows_ * width_ * sizeof(float));
}

void SpilledRows::release() const {
  const std::size_t bytes = rows_ * width_ * sizeof(float);
  if (bytes > kSmall) ::madvise(data_, bytes, MADV_DONTNEED);  // of a shared mapping: the file keeps the values
}

}  // namespace hp

#include "ops/bundle/archive.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <vector>

namespace hp::ops {
namespace {

constexpr int kLevel = 3;
constexpr std::size_t kTarBlock = 512;

/// A ustar header (POSIX.1-1988): octal numbers, a checksum over the header with blanks in its place.
std::string tar_header(std::string_view name, std::size_t bytes) {
  std::string header(kTarBlock, '\0');
  const auto put = [&](std::size_t at, std::string_view text) { header.replace(at, text.size(), text); };
  put(0, name.substr(0, 99));
  put(100, "0000600");
  put(108, "0000000");
  put(116, "0000000");
  put(124, fmt::format("{:011o}", bytes));
  put(136, fmt::format("{:011o}", std::time(nullptr)));
  put(148, "        ");
  put(156, "0");
  put(257, std::string_view("ustar\00000", 8));
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  put(148, fmt::format("{:06o}", sum));
  header[154] = '\0';
  return header;
}

}  // namespace

struct Archive::State {
  std::filesystem::path path, fresh;
  int fd = -1;
  ZSTD_CCtx* zstd = ZSTD_createCCtx();
  std::size_t written = 0, max_bytes = 0;
  std::vector<char> out = std::vector<char>(ZSTD_CStreamOutSize());

  ~State() {
    ZSTD_freeCCtx(zstd);
    if (fd >= 0) {
      ::close(fd);
      ::unlink(fresh.c_str());
    }
  }

  Status write(std::string_view bytes, ZSTD_EndDirective how) {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (std::size_t left = 1; left > 0;) {
      ZSTD_outBuffer buffer{out.data(), out.size(), 0};
      left = ZSTD_compressStream2(zstd, &buffer, &in, how);
      if (ZSTD_isError(left) != 0) return fail(ErrorCode::internal, "zstd: {}", ZSTD_getErrorName(left));
      for (std::size_t at = 0; at < buffer.pos;) {
        const ssize_t n = ::write(fd, out.data() + at, buffer.pos - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return fail(ErrorCode::io_error, "{}: {}", fresh.string(), std::strerror(errno));
        at += static_cast<std::size_t>(n);
      }
      written += buffer.pos;
      if (how == ZSTD_e_continue && in.pos == in.size) break;
    }
    return {};
  }
};

Archive::Archive(std::unique_ptr<State> state) : state_(std::move(state)) {}
Archive::~Archive() = default;

Result<std::unique_ptr<Archive>> Archive::create(const std::filesystem::path& path, std::size_t max_bytes) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->fresh = path.string() + ".new";
  state->max_bytes = max_bytes;
  ::unlink(state->fresh.c_str());
  state->fd = ::open(state->fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (state->fd < 0) return fail(ErrorCode::io_error, "{}: {}", path.string(), std::strerror(errno));
  ZSTD_CCtx_setParameter(state->zstd, ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(state->zstd, ZSTD_c_checksumFlag, 1);
  return std::unique_ptr<Archive>(new Archive(std::move(state)));
}

Status Archive::add(std::string_view name, std::string_view content) {
  // What does not compress at all must still fit, with the end of the archive after it.
  if (state_->written + ZSTD_compressBound(content.size() + 4 * kTarBlock) > state_->max_bytes)
    return fail(ErrorCode::resource_exhausted, "{}: no room left in the archive", name);
  HP_TRY_VOID(state_->write(tar_header(name, content.size()), ZSTD_e_continue));
  HP_TRY_VOID(state_->write(content, ZSTD_e_continue));
  const std::size_t rest = content.size() % kTarBlock;
  // Flushed, so that `written` is the truth for the next file.
  return state_->write(std::string(rest == 0 ? 0 : kTarBlock - rest, '\0'), ZSTD_e_flush);
}

Result<std::size_t> Archive::close() {
  HP_TRY_VOID(state_->write(std::string(2 * kTarBlock, '\0'), ZSTD_e_end));
  if (::fsync(state_->fd) != 0 || ::close(std::exchange(state_->fd, -1)) != 0 ||
      ::rename(state_->fresh.c_str(), state_->path.c_str()) != 0) {
    const std::string why = std::strerror(errno);
    ::unlink(state_->fresh.c_str());
    return fail(ErrorCode::io_error, "{}: {}", state_->path.string(), why);
  }
  return state_->written;
}

}  // namespace hp::ops

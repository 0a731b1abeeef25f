#include "base/access_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace hp {

Result<std::unique_ptr<AccessLog>> AccessLog::open(std::string path) {
  std::unique_ptr<AccessLog> log(new AccessLog(std::move(path)));
  HP_TRY_VOID(log->reopen());
  return log;
}

AccessLog::~AccessLog() {
  if (file_ >= 0) ::close(file_);
}

void AccessLog::write(std::string json) {
  if (path_.empty()) return log::write_object(log::Level::info, json);
  json += '\n';
  (void)!::write(file_, json.data(), json.size());
}

// The descriptor's number stays: a write on another thread goes to the old file or the new one.
Status AccessLog::reopen() {
  if (path_.empty()) return {};
  const int fresh = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  if (fresh < 0) return fail(ErrorCode::io_error, "cannot write the access log {}: {}", path_, std::strerror(errno));
  if (file_ < 0) {
    file_ = fresh;
    return {};
  }
  ::dup3(fresh, file_, O_CLOEXEC);
  ::close(fresh);
  return {};
}

}  // namespace hp

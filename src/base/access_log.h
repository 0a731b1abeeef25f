// Where a server's access lines go: one JSON object per line into a file of their own, or into the process log. A file
// is only appended to, one write per line, and opened anew on reopen(), so that others can rotate it. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hp {

class AccessLog {
 public:
  /// An empty path stands for the process log.
  static Result<std::unique_ptr<AccessLog>> open(std::string path);
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  /// `json`: one object without a line break. A full disk loses lines, never a request.
  void write(std::string json);
  Status reopen();

 private:
  explicit AccessLog(std::string path) : path_(std::move(path)) {}
  const std::string path_;
  std::atomic<int> file_{-1};
};

}  // namespace hp

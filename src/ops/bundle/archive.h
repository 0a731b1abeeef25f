// A .tar.zst that is written file by file and never grows beyond its limit. The only file that sees zstd.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hp::ops {

class Archive {
 public:
  /// Beside its final name until close(): a bundle is whole or not there. Readable by its owner only.
  static Result<std::unique_ptr<Archive>> create(const std::filesystem::path& path, std::size_t max_bytes);
  ~Archive();
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;

  /// resource_exhausted when it might not fit: the archive stays good without this file.
  Status add(std::string_view name, std::string_view content);
  /// Bytes of the finished file.
  Result<std::size_t> close();

 private:
  struct State;
  explicit Archive(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace hp::ops

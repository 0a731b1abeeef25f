// A GGUF model: one file, or the splits NAME-00001-of-0000N.gguf that were cut from one. Metadata is the first file's;
// tensors lie anywhere.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/gguf_file.h"

namespace hp {

class GgufSet {
 public:
  /// `path` is the file or its first split; an error names the split that is missing.
  static Result<GgufSet> open(const std::filesystem::path& path);

  [[nodiscard]] const GgufFile& first() const { return files_.front(); }
  [[nodiscard]] const std::vector<GgufFile>& files() const { return files_; }
  [[nodiscard]] const GgufTensor* find(std::string_view name) const;

 private:
  std::vector<GgufFile> files_;
};

}  // namespace hp

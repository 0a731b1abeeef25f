// Writes one safetensors file: the table first, then the tensors in any order and in pieces. Wide elements lie before
// narrow ones, so that all are aligned. The file stands under its name only once it is whole; until then it is
// "<name>.partial". Format: https://github.com/huggingface/safetensors#format
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/tensor_view.h"

namespace hp {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::f32;  ///< a plain type
  Shape shape;
  [[nodiscard]] std::size_t bytes() const { return storage_bytes(dtype, static_cast<std::size_t>(shape.elements())); }
};

class SafetensorsWriter {
 public:
  static Result<SafetensorsWriter> create(const std::filesystem::path& path, std::span<const SafetensorsEntry> entries);
  /// Bytes of entries[entry] from byte `at` of it. Every byte is written once.
  Status write(std::size_t entry, std::size_t at, std::span<const std::byte> bytes);
  /// All bytes of all entries have been written: flushes to disk and gives the file its name.
  Status finish();

 private:
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  std::filesystem::path path_;
  std::vector<std::size_t> offsets_, sizes_;  ///< of each entry in the file
  std::size_t left_ = 0;
};

/// "BF16" and so on; empty for a type that the format does not have.
std::string_view safetensors_dtype_name(DType type);

}  // namespace hp

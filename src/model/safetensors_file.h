// One safetensors file, mapped and checked, and the set of files in a Hugging Face folder. Owns the mappings.
// Names stay as the file has them; tensor_names.h turns them into canonical ones.
// Format: https://github.com/huggingface/safetensors#format
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "tensor/tensor_view.h"

namespace hp {

struct SafetensorsTensor {
  std::string name;
  TensorView view;
};

class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::filesystem::path& path);
  /// Reads a file that is already in memory; views point into `bytes`. `name` stands in messages.
  static Result<SafetensorsFile> parse(std::span<const std::byte> bytes, std::string name);

  [[nodiscard]] const std::string& name() const { return name_; }
  /// In the order of the header.
  [[nodiscard]] std::span<const SafetensorsTensor> tensors() const { return tensors_; }
  [[nodiscard]] const SafetensorsTensor* find(std::string_view name) const;
  [[nodiscard]] const MappedFile& file() const { return file_; }

 private:
  friend class SafetensorsParser;
  MappedFile file_;
  std::string name_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

/// The files of a folder: those that model.safetensors.index.json names, or model.safetensors alone. Every tensor of
/// the index lies in the file it names, and no tensor lies in two files.
Result<std::vector<SafetensorsFile>> open_safetensors_folder(const std::filesystem::path& folder);

/// The element type of a safetensors dtype ("BF16"), or empty for one that Homeport does not read.
std::optional<DType> dtype_from_safetensors(std::string_view name);

}  // namespace hp

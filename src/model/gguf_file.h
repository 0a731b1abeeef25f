// One GGUF file (versions 2 and 3), mapped and checked: every count, offset and length is verified before it is used.
// Owns the mapping. Knows nothing of architectures; meaning is gguf_config.cpp's.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "tensor/tensor_view.h"

namespace hp {

struct GgufTensor {
  std::string name;
  TensorView view;  ///< shape outermost first: GGUF's own order reversed
};

class GgufFile {
 public:
  using Value = std::variant<bool, std::int64_t, std::uint64_t, double, std::string, std::vector<std::int64_t>,
                             std::vector<double>, std::vector<std::string>>;

  static Result<GgufFile> open(const std::filesystem::path& path);
  /// Reads a file that is already in memory; views point into `bytes`. `name` stands in messages.
  static Result<GgufFile> parse(std::span<const std::byte> bytes, std::string name);

  [[nodiscard]] std::uint32_t version() const { return version_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::span<const GgufTensor> tensors() const { return tensors_; }
  [[nodiscard]] const GgufTensor* find(std::string_view name) const;
  [[nodiscard]] const std::map<std::string, Value, std::less<>>& metadata() const { return metadata_; }
  [[nodiscard]] const MappedFile& file() const { return file_; }

  // Typed metadata: empty or null when the key is absent or has another type. Numbers convert where the value is exact.
  [[nodiscard]] std::optional<std::int64_t> get_int(std::string_view key) const;
  [[nodiscard]] std::optional<double> get_double(std::string_view key) const;
  [[nodiscard]] std::optional<bool> get_bool(std::string_view key) const;
  [[nodiscard]] const std::string* get_string(std::string_view key) const;
  [[nodiscard]] const std::vector<std::string>* get_strings(std::string_view key) const;
  [[nodiscard]] const std::vector<std::int64_t>* get_ints(std::string_view key) const;
  [[nodiscard]] const std::vector<double>* get_doubles(std::string_view key) const;

 private:
  friend class GgufParser;
  MappedFile file_;
  std::string name_;
  std::uint32_t version_ = 0;
  std::map<std::string, Value, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

/// The element type of a ggml type number, or empty for one that Homeport does not read.
std::optional<DType> dtype_from_ggml(std::uint32_t id);

}  // namespace hp

// Matrices that calibration has rounded, in their stored form, until quantize.cpp puts them into their shards: a folder
// beside the shards, one file each, which stands under its name only once it is whole. What a run that was cut off has
// rounded is there for the next one.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "model/quantize_formats.h"

namespace hp {

struct RoundedMatrix {
  MappedFile file;
  std::span<const std::byte> values, scales;
  QuantError error;
};

class RoundedWriter {
 public:
  /// Stripes in their order.
  Status write(std::span<const std::byte> values, std::span<const std::byte> scales, const QuantError& error);
  Status finish();

 private:
  friend class RoundedStore;
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  std::filesystem::path path_;
  std::vector<std::byte> scales_;
  QuantError error_;
};

class RoundedStore {
 public:
  explicit RoundedStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] bool has(std::string_view tensor) const;
  [[nodiscard]] Result<RoundedMatrix> read(std::string_view tensor) const;
  [[nodiscard]] Result<RoundedWriter> write(std::string_view tensor) const;
  void remove(std::string_view tensor) const;

  /// Everything that will be rounded has been.
  [[nodiscard]] bool complete() const;
  Status mark_complete() const;
  void remove_all() const;

 private:
  [[nodiscard]] std::filesystem::path path_of(std::string_view tensor) const { return folder_ / tensor; }
  std::filesystem::path folder_;
};

}  // namespace hp

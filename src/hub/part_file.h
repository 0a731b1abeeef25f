// A file on its way: FILE.part holds the bytes, FILE.part.state notes which of them have arrived, so that a later run
// goes on where this one ended. Threads write different parts at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "hub/hub_client.h"

namespace hp::hub {

class PartFile {
 public:
  /// Opens or begins FILE.part of the file's full size; a state of another size or hash is thrown away. An error says
  /// when the disk is full.
  static Result<std::unique_ptr<PartFile>> open(const std::filesystem::path& target, const HubFile& file);
  ~PartFile();
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  [[nodiscard]] std::size_t parts() const { return arrived_.size(); }
  [[nodiscard]] std::uint64_t begin_of(std::size_t part) const { return part * kPart; }
  [[nodiscard]] std::uint64_t size_of(std::size_t part) const;
  [[nodiscard]] std::uint64_t arrived(std::size_t part) const;
  [[nodiscard]] std::uint64_t arrived() const;  ///< bytes of all parts

  /// Appends to what has arrived of the part; bytes beyond its end are an error.
  Status append(std::size_t part, std::string_view bytes);
  void restart(std::size_t part);
  Status save();
  /// Checks size and hash, and gives the file its name. After a wrong hash the parts are removed.
  Status complete();

 private:
  static const std::uint64_t kPart;
  PartFile(std::filesystem::path target, HubFile file, int descriptor);
  void load();
  [[nodiscard]] Result<std::string> hash() const;

  const std::filesystem::path target_;
  const HubFile file_;
  int descriptor_;
  mutable std::mutex mutex_;
  std::vector<std::uint64_t> arrived_;  ///< bytes of each part
  bool ended_ = false;                  ///< complete or removed: no state any more
};

/// Whether `target` is there already with the hub's size. Hashes were checked when it got its name.
bool is_complete(const std::filesystem::path& target, const HubFile& file);

}  // namespace hp::hub

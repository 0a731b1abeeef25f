// The history on disk: one file that only grows at its end, a checksum per record, written anew when it is full of what
// is too old. A disk that takes no more costs what was not written, never the process nor the history in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "ops/history/history.h"

namespace hp::ops {

class HistoryFile {
 public:
  explicit HistoryFile(std::filesystem::path path) : path_(std::move(path)) {}
  ~HistoryFile();
  HistoryFile(const HistoryFile&) = delete;
  HistoryFile& operator=(const HistoryFile&) = delete;

  /// Reads what is there into `history`, cuts off a torn end, and opens for writing. An error means that nothing will
  /// be kept until a later write succeeds; what could be read is in `history` all the same.
  Status open(History& history, std::int64_t now_ms);
  /// Appends the values of a closed slot; the finest resolution is not written.
  void append(const History& history, std::size_t resolution, std::int64_t slot, std::int64_t now_ms);
  /// Empty while writing works.
  [[nodiscard]] const std::string& trouble() const { return trouble_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  Status reopen();
  Status rewrite(const History& history);
  Status write_record(const std::string& payload);
  std::string slot_record(const History& history, std::size_t resolution, std::int64_t slot) const;
  Status write_names(const History& history);

  std::filesystem::path path_;
  int fd_ = -1;
  std::size_t bytes_ = 0;           // of whole records
  std::vector<std::string> named_;  // by id: the name that the file knows for it
  std::string trouble_;
  std::int64_t retry_at_ms_ = 0;
};

}  // namespace hp::ops

// SQLite, the one file that sees it. Values in, rows out, errors as values. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"

namespace hp::ops {

class Database {
 public:
  using Value = std::variant<std::int64_t, double, std::string>;
  using Row = std::vector<Value>;  ///< NULL reads as an empty text

  /// Creates the file if need be. A file that is no database is moved aside ("….broken") and a new one begun.
  static Result<std::unique_ptr<Database>> open(const std::string& path);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// One statement; parameters stand for its question marks.
  Status run(const std::string& sql, std::span<const Value> parameters = {});
  Result<std::vector<Row>> query(const std::string& sql, std::span<const Value> parameters = {});
  /// Beyond so many bytes writes fail with resource_exhausted, as on a full disk.
  Status limit_bytes(std::int64_t bytes);

 private:
  struct Handle;
  explicit Database(std::unique_ptr<Handle> handle);
  std::unique_ptr<Handle> handle_;
};

std::int64_t as_integer(const Database::Value& value);
double as_number(const Database::Value& value);
std::string as_text(const Database::Value& value);

}  // namespace hp::ops

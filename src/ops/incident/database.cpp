#include "ops/incident/database.h"

#include <sqlite3.h>

#include <filesystem>

#include "base/log.h"

namespace hp::ops {
namespace {

constexpr int kBusyMs = 2'000;
constexpr std::int64_t kPageBytes = 4096;

ErrorCode code_of(int sqlite) {
  switch (sqlite & 0xFF) {
    case SQLITE_FULL:
      return ErrorCode::resource_exhausted;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return ErrorCode::corrupt_data;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return ErrorCode::unavailable;
    default:
      return ErrorCode::io_error;
  }
}

struct Statement {
  sqlite3_stmt* handle = nullptr;
  Statement() = default;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement() { sqlite3_finalize(handle); }
};

Database::Value column(sqlite3_stmt* statement, int i) {
  switch (sqlite3_column_type(statement, i)) {
    case SQLITE_INTEGER:
      return static_cast<std::int64_t>(sqlite3_column_int64(statement, i));
    case SQLITE_FLOAT:
      return sqlite3_column_double(statement, i);
    default:
      break;
  }
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, i));
  return text == nullptr ? std::string()
                         : std::string(text, static_cast<std::size_t>(sqlite3_column_bytes(statement, i)));
}

}  // namespace

struct Database::Handle {
  std::string path;
  sqlite3* db = nullptr;
  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { sqlite3_close_v2(db); }

  [[nodiscard]] tl::unexpected<Error> failed(int code) const {
    return fail(code_of(code), "{}: {}", path, sqlite3_errmsg(db));
  }
  Status prepare(Statement& statement, const std::string& sql, std::span<const Value> parameters) const {
    int code = sqlite3_prepare_v2(db, sql.c_str(), static_cast<int>(sql.size()), &statement.handle, nullptr);
    for (std::size_t i = 0; code == SQLITE_OK && i < parameters.size(); ++i) {
      const int at = static_cast<int>(i) + 1;
      if (const auto* n = std::get_if<std::int64_t>(&parameters[i])) {
        code = sqlite3_bind_int64(statement.handle, at, *n);
      } else if (const auto* d = std::get_if<double>(&parameters[i])) {
        code = sqlite3_bind_double(statement.handle, at, *d);
      } else {
        const auto& text = std::get<std::string>(parameters[i]);
        code = sqlite3_bind_text(statement.handle, at, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
      }
    }
    if (code != SQLITE_OK) return failed(code);
    return {};
  }
  Status open() {
    const int code =
        sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr);
    if (code != SQLITE_OK) return failed(code);
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, kBusyMs);
    return {};
  }
};

Database::Database(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
Database::~Database() = default;

Result<std::unique_ptr<Database>> Database::open(const std::string& path) {
  for (const bool again : {false, true}) {
    auto handle = std::make_unique<Handle>();
    handle->path = path;
    HP_TRY_VOID(handle->open());
    std::unique_ptr<Database> database(new Database(std::move(handle)));
    // The log keeps readers and the writer apart; what is committed survives a crash of this process.
    Status usable = database->run("PRAGMA journal_mode=WAL");
    if (usable) usable = database->run("PRAGMA synchronous=NORMAL");
    if (usable) return database;
    if (again || usable.error().code != ErrorCode::corrupt_data) return fail(std::move(usable).error());
    database.reset();
    std::error_code error;
    std::filesystem::rename(path, path + ".broken", error);
    log::warn("ops: {}; it is kept as {}.broken and a new one is begun", usable.error().message, path);
    if (error) return fail(ErrorCode::io_error, "cannot rename {}: {}", path, error.message());
  }
  return fail(ErrorCode::internal, "{}: not reached", path);
}

Status Database::run(const std::string& sql, std::span<const Value> parameters) {
  Result<std::vector<Row>> rows = query(sql, parameters);
  if (!rows) return fail(std::move(rows).error());
  return {};
}

Result<std::vector<Database::Row>> Database::query(const std::string& sql, std::span<const Value> parameters) {
  Statement statement;
  HP_TRY_VOID(handle_->prepare(statement, sql, parameters));
  std::vector<Row> rows;
  for (;;) {
    const int code = sqlite3_step(statement.handle);
    if (code == SQLITE_DONE) return rows;
    if (code != SQLITE_ROW) return handle_->failed(code);
    Row row;
    for (int i = 0; i < sqlite3_column_count(statement.handle); ++i) row.push_back(column(statement.handle, i));
    rows.push_back(std::move(row));
  }
}

Status Database::limit_bytes(std::int64_t bytes) {
  return run(fmt::format("PRAGMA max_page_count={}", bytes / kPageBytes));
}

std::int64_t as_integer(const Database::Value& value) {
  if (const auto* n = std::get_if<std::int64_t>(&value)) return *n;
  if (const auto* d = std::get_if<double>(&value)) return static_cast<std::int64_t>(*d);
  return 0;
}

double as_number(const Database::Value& value) {
  if (const auto* d = std::get_if<double>(&value)) return *d;
  return static_cast<double>(as_integer(value));
}

std::string as_text(const Database::Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return {};
}

}  // namespace hp::ops

#include "ops/incident/store.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/log.h"
#include "ops/limits.h"

namespace hp::ops {
namespace {

constexpr std::chrono::seconds kRetry{5};
constexpr std::chrono::seconds kLastWrites{2};
constexpr std::int64_t kKeptIncidents = 10'000, kKeptAudits = 100'000;

constexpr std::array<std::string_view, 6> kSchema{
    "CREATE TABLE IF NOT EXISTS incident(id INTEGER PRIMARY KEY, level INTEGER, state TEXT, rule TEXT, instance TEXT, "
    "en TEXT, zh TEXT, started_ms INTEGER, ended_ms INTEGER, acknowledged_by TEXT)",
    "CREATE TABLE IF NOT EXISTS entry(incident_id INTEGER, at_ms INTEGER, kind TEXT, who TEXT, action TEXT, target "
    "TEXT, "
    "text TEXT, ok INTEGER)",
    "CREATE INDEX IF NOT EXISTS entry_of ON entry(incident_id)",
    "CREATE TABLE IF NOT EXISTS audit(at_ms INTEGER, incident_id INTEGER, who TEXT, action TEXT, target TEXT, "
    "argument TEXT, text TEXT, ok INTEGER, dry_run INTEGER)",
    "CREATE TABLE IF NOT EXISTS undo(incident_id INTEGER, place INTEGER, action TEXT, target TEXT, argument TEXT, "
    "PRIMARY KEY(incident_id, place))",
    "CREATE INDEX IF NOT EXISTS incident_time ON incident(started_ms)"};

IncidentState state_of(std::string_view text) {
  return text == "open"         ? IncidentState::open
         : text == "recovering" ? IncidentState::recovering
                                : IncidentState::closed;
}

IncidentView incident_of(const Database::Row& row) {
  IncidentView v;
  v.id = as_integer(row[0]);
  v.level = static_cast<int>(as_integer(row[1]));
  v.state = state_of(as_text(row[2]));
  v.rule = as_text(row[3]);
  v.instance = as_text(row[4]);
  v.en = as_text(row[5]);
  v.zh = as_text(row[6]);
  v.started_ms = as_integer(row[7]);
  v.ended_ms = as_integer(row[8]);
  v.acknowledged_by = as_text(row[9]);
  return v;
}

Status read_timeline(Database& database, IncidentView& incident) {
  const std::array<Database::Value, 1> id{incident.id};
  HP_TRY(const auto rows, database.query("SELECT at_ms, kind, who, action, target, text, ok FROM entry WHERE "
                                         "incident_id=? ORDER BY at_ms, rowid",
                                         id));
  for (const auto& row : rows)
    incident.timeline.push_back({.at_ms = as_integer(row[0]),
                                 .kind = as_text(row[1]),
                                 .who = as_text(row[2]),
                                 .action = as_text(row[3]),
                                 .target = as_text(row[4]),
                                 .text = as_text(row[5]),
                                 .ok = as_integer(row[6]) != 0});
  return {};
}

bool wanted(const IncidentView& v, const IncidentQuery& q) {
  return v.started_ms >= q.since_ms && v.started_ms < q.before_ms && !(q.open_only && v.state == IncidentState::closed);
}

}  // namespace

IncidentStore::IncidentStore(std::string file) : file_(std::move(file)) {
  if (!file_.empty()) thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

IncidentStore::~IncidentStore() {
  if (!thread_.joinable()) return;
  {
    std::unique_lock lock(mutex_);
    wake_.notify_all();
    idle_.wait_for(lock, kLastWrites, [this] { return (queue_.empty() && !writing_) || !error_.empty(); });
  }
  thread_.request_stop();
  wake_.notify_all();
}

void IncidentStore::enqueue(std::string sql, std::vector<Database::Value> parameters) {
  if (file_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= limits::kMaxStoreQueue) {
      queue_.pop_front();
      ++dropped_;
    }
    queue_.push_back({std::move(sql), std::move(parameters)});
  }
  wake_.notify_all();
}

void IncidentStore::remember(const IncidentView& incident) {
  const std::lock_guard lock(mutex_);
  const auto known = std::ranges::find(memory_, incident.id, &IncidentView::id);
  if (known != memory_.end()) {
    auto timeline = std::move(known->timeline);
    *known = incident;
    known->timeline = std::move(timeline);
    return;
  }
  memory_.push_back(incident);
  memory_.back().timeline.clear();
  while (memory_.size() > limits::kMaxRememberedIncidents) memory_.pop_front();
}

void IncidentStore::save(const IncidentView& v) {
  remember(v);
  enqueue("INSERT OR REPLACE INTO incident VALUES(?,?,?,?,?,?,?,?,?,?)",
          {v.id, std::int64_t{v.level}, std::string(to_string(v.state)), v.rule, v.instance, v.en, v.zh, v.started_ms,
           v.ended_ms, v.acknowledged_by});
}

void IncidentStore::append(std::int64_t id, const TimelineEntry& e) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = std::ranges::find(memory_, id, &IncidentView::id);
    if (known != memory_.end() && known->timeline.size() < limits::kMaxTimelineEntries) known->timeline.push_back(e);
  }
  enqueue("INSERT INTO entry VALUES(?,?,?,?,?,?,?,?)",
          {id, e.at_ms, e.kind, e.who, e.action, e.target, e.text, std::int64_t{e.ok}});
}

void IncidentStore::audit(const AuditEntry& e) {
  {
    const std::lock_guard lock(mutex_);
    audit_memory_.push_back(e);
    while (audit_memory_.size() > limits::kMaxAuditEntries) audit_memory_.pop_front();
  }
  enqueue("INSERT INTO audit VALUES(?,?,?,?,?,?,?,?,?)", {e.at_ms, e.incident_id, e.who, e.action, e.target, e.argument,
                                                          e.text, std::int64_t{e.ok}, std::int64_t{e.dry_run}});
}

void IncidentStore::set_undo(std::int64_t id, std::vector<PendingUndo> undo) {
  enqueue("DELETE FROM undo WHERE incident_id=?", {id});
  std::int64_t place = 0;
  for (PendingUndo& u : undo)
    enqueue("INSERT INTO undo VALUES(?,?,?,?,?)",
            {id, place++, std::move(u.action), std::move(u.target), std::move(u.argument)});
}

bool IncidentStore::ok() const {
  const std::lock_guard lock(mutex_);
  return error_.empty();
}

std::string IncidentStore::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

std::size_t IncidentStore::waiting() const {
  const std::lock_guard lock(mutex_);
  return queue_.size();
}

Status IncidentStore::open_locked() {
  if (database_) return {};
  std::error_code error;
  if (const auto folder = std::filesystem::path(file_).parent_path(); !folder.empty())
    std::filesystem::create_directories(folder, error);
  HP_TRY(auto database, Database::open(file_));
  for (const std::string_view statement : kSchema) HP_TRY_VOID(database->run(std::string(statement)));
  const std::array<Database::Value, 1> incidents{kKeptIncidents}, audits{kKeptAudits};
  HP_TRY_VOID(database->run(
      "DELETE FROM entry WHERE incident_id IN (SELECT id FROM incident ORDER BY id DESC LIMIT -1 OFFSET ?)",
      incidents));
  HP_TRY_VOID(database->run(
      "DELETE FROM incident WHERE id IN (SELECT id FROM incident ORDER BY id DESC LIMIT -1 OFFSET ?)", incidents));
  HP_TRY_VOID(database->run(
      "DELETE FROM audit WHERE rowid IN (SELECT rowid FROM audit ORDER BY rowid DESC LIMIT -1 OFFSET ?)", audits));
  database_ = std::move(database);
  return {};
}

/// False: the disk failed, or there was nothing to write.
bool IncidentStore::write_some() {
  std::deque<Write> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(queue_);
    writing_ = true;
  }
  Status status;
  std::size_t done = 0;
  {
    const std::lock_guard lock(database_mutex_);
    status = open_locked();
    for (; status && done < batch.size(); ++done) {
      status = database_->run(batch[done].sql, batch[done].parameters);
      if (!status) break;
    }
  }
  const std::lock_guard lock(mutex_);
  writing_ = false;
  queue_.insert(queue_.begin(), std::make_move_iterator(batch.begin() + static_cast<std::ptrdiff_t>(done)),
                std::make_move_iterator(batch.end()));
  while (queue_.size() > limits::kMaxStoreQueue) queue_.pop_front(), ++dropped_;
  const std::string error = status ? "" : status.error().message;
  if (!error.empty() && error_.empty())
    log::error("ops: {}: incidents are kept in memory until the disk takes them", error);
  if (error.empty() && !error_.empty()) log::info("ops: {} takes incidents again", file_);
  error_ = error;
  idle_.notify_all();
  return status.has_value();
}

void IncidentStore::work(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, stop, [this] { return !queue_.empty(); });
      if (stop.stop_requested()) return;
    }
    if (write_some()) continue;
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, stop, kRetry, [] { return false; });
  }
}

void IncidentStore::flush() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return (queue_.empty() && !writing_) || !error_.empty() || file_.empty(); });
}

void IncidentStore::limit_bytes(std::int64_t bytes) {
  const std::lock_guard lock(database_mutex_);
  if (open_locked()) static_cast<void>(database_->limit_bytes(bytes));
}

std::vector<IncidentView> IncidentStore::incidents(const IncidentQuery& q) const {
  std::map<std::int64_t, IncidentView, std::greater<>> found;  // newest first: ids are times
  {
    const std::lock_guard lock(database_mutex_);
    if (database_) {
      const std::array<Database::Value, 4> parameters{q.since_ms, q.before_ms, std::int64_t{q.open_only},
                                                      static_cast<std::int64_t>(q.limit)};
      auto rows = database_->query(
          "SELECT * FROM incident WHERE started_ms>=? AND started_ms<? AND (?=0 OR state<>'closed') ORDER BY id DESC "
          "LIMIT ?",
          parameters);
      if (rows)
        for (const auto& row : *rows) {
          IncidentView v = incident_of(row);
          if (read_timeline(*database_, v)) found.emplace(v.id, std::move(v));
        }
    }
  }
  const std::lock_guard lock(mutex_);
  for (const IncidentView& v : memory_)  // newer than what the disk has
    if (wanted(v, q))
      found.insert_or_assign(v.id, v);
    else
      found.erase(v.id);
  std::vector<IncidentView> out;
  for (auto& [id, incident] : found)
    if (out.size() < q.limit) out.push_back(std::move(incident));
  return out;
}

std::vector<AuditEntry> IncidentStore::audits(std::int64_t since_ms, std::size_t limit) const {
  std::vector<AuditEntry> out;
  {
    const std::lock_guard lock(mutex_);
    if (file_.empty() || !error_.empty() || audit_memory_.size() >= limit) {
      for (auto e = audit_memory_.rbegin(); e != audit_memory_.rend() && out.size() < limit; ++e)
        if (e->at_ms >= since_ms) out.push_back(*e);
      return out;
    }
  }
  const std::lock_guard lock(database_mutex_);
  const std::array<Database::Value, 2> parameters{since_ms, static_cast<std::int64_t>(limit)};
  const auto rows = database_
                        ? database_->query("SELECT * FROM audit WHERE at_ms>=? ORDER BY rowid DESC LIMIT ?", parameters)
                        : Result<std::vector<Database::Row>>(std::vector<Database::Row>());
  if (rows)
    for (const auto& row : *rows)
      out.push_back({.at_ms = as_integer(row[0]),
                     .incident_id = as_integer(row[1]),
                     .who = as_text(row[2]),
                     .action = as_text(row[3]),
                     .target = as_text(row[4]),
                     .argument = as_text(row[5]),
                     .text = as_text(row[6]),
                     .ok = as_integer(row[7]) != 0,
                     .dry_run = as_integer(row[8]) != 0});
  return out;
}

IncidentStore::Left IncidentStore::left_behind() {
  Left left;
  if (file_.empty()) return left;
  const std::lock_guard lock(database_mutex_);
  if (!open_locked()) return left;
  if (const auto rows = database_->query("SELECT id FROM incident WHERE state<>'closed' ORDER BY id"))
    for (const auto& row : *rows) left.open_incidents.push_back(as_integer(row[0]));
  if (const auto rows = database_->query("SELECT * FROM undo ORDER BY incident_id, place"))
    for (const auto& row : *rows)
      left.undo.push_back({.incident_id = as_integer(row[0]),
                           .action = as_text(row[2]),
                           .target = as_text(row[3]),
                           .argument = as_text(row[4])});
  return left;
}

}  // namespace hp::ops

// Incidents and the audit on disk, written by a thread of its own so that a disk that hangs holds up nothing. When the
// disk fails, what is to be written waits in memory and is tried again; the newest incidents are kept in memory anyway.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "ops/incident/database.h"
#include "ops/watch.h"

namespace hp::ops {

/// A change that a playbook made and nobody has taken back yet; survives this process.
struct PendingUndo {
  std::int64_t incident_id = 0;
  std::string action, target, argument;
};

class IncidentStore {
 public:
  /// `file` empty: in memory only. Never fails: a file that cannot be opened is tried again.
  explicit IncidentStore(std::string file);
  ~IncidentStore();  ///< writes what waits, as far as the disk takes it
  IncidentStore(const IncidentStore&) = delete;
  IncidentStore& operator=(const IncidentStore&) = delete;

  // From any thread; none waits for the disk.
  void save(const IncidentView& incident);  ///< head only; entries are appended
  void append(std::int64_t incident_id, const TimelineEntry& entry);
  void audit(const AuditEntry& entry);
  void set_undo(std::int64_t incident_id, std::vector<PendingUndo> undo);

  [[nodiscard]] bool ok() const;
  [[nodiscard]] std::string error() const;
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }
  [[nodiscard]] std::size_t waiting() const;

  // These read the disk and may take a moment; while it fails, memory answers.
  [[nodiscard]] std::vector<IncidentView> incidents(const IncidentQuery& query) const;
  [[nodiscard]] std::vector<AuditEntry> audits(std::int64_t since_ms, std::size_t limit) const;
  /// What an earlier process left: incidents that are not closed, and undos. Waits for the file once.
  struct Left {
    std::vector<std::int64_t> open_incidents;
    std::vector<PendingUndo> undo;
  };
  [[nodiscard]] Left left_behind();
  /// Waits until everything given so far is on the disk, or the disk has failed.
  void flush();
  /// For tests: as on a disk with so much room.
  void limit_bytes(std::int64_t bytes);

 private:
  struct Write {
    std::string sql;
    std::vector<Database::Value> parameters;
  };
  void enqueue(std::string sql, std::vector<Database::Value> parameters);
  void work(const std::stop_token& stop);
  bool write_some();
  Status open_locked();
  void remember(const IncidentView& incident);

  const std::string file_;
  mutable std::mutex mutex_;  // the queue, the memory, the state
  std::condition_variable_any wake_, idle_;
  std::deque<Write> queue_;
  bool writing_ = false;
  std::string error_;
  std::deque<IncidentView> memory_;  // newest last
  std::deque<AuditEntry> audit_memory_;
  std::atomic<std::uint64_t> dropped_{0};
  mutable std::mutex database_mutex_;  // the database; taken without mutex_ held
  std::unique_ptr<Database> database_;
  std::jthread thread_;
};

}  // namespace hp::ops

// Two kinds of parallel work. ParallelTeam: a fixed team that runs one function on every member and meets at barriers,
// for model steps, where a wake-up must cost about a microsecond. TaskQueue: a few worker threads with a bounded queue,
// for tokenizing and other work that must not block an event loop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/team_size.h"

namespace hp {

/// The caller is member 0; the others are threads that spin briefly and then sleep.
class ParallelTeam {
 public:
  explicit ParallelTeam(int size);
  ~ParallelTeam();
  ParallelTeam(const ParallelTeam&) = delete;
  ParallelTeam& operator=(const ParallelTeam&) = delete;

  [[nodiscard]] int size() const { return size_; }

  /// Runs `body(member)` on every member at once and returns when all have. Not reentrant; one caller at a time.
  void run(const std::function<void(int member)>& body) { run(size_, body); }

  /// The same on the first active() members: as many as do the most work on a machine that others use too
  /// (team_size.h).
  void run_fitting(const std::function<void(int member)>& body);
  /// Inside a run: its members.
  [[nodiscard]] int active() const { return active_; }

  /// Inside run(): every member waits here until all have come. What was written before is visible after.
  void barrier();

 private:
  struct Shared;
  void run(int members, const std::function<void(int member)>& body);

  int size_, active_;
  TeamSize fitting_;
  std::unique_ptr<Shared> shared_;
  std::vector<std::jthread> threads_;
};

/// [begin, end) of member `m` of `n` over `count` items, in multiples of `grain` where possible.
struct Range {
  std::size_t begin, end;
};
Range split_range(std::size_t count, int member, int members, std::size_t grain = 1);

class TaskQueue {
 public:
  TaskQueue(int threads, std::size_t max_queued);
  ~TaskQueue();
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  /// False when the queue is full: the caller answers 503 rather than wait.
  [[nodiscard]] bool try_post(std::function<void()> task);
  [[nodiscard]] std::size_t queued() const;

 private:
  void work(const std::stop_token& stop);
  const std::size_t max_queued_;
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::jthread> threads_;
};

}  // namespace hp

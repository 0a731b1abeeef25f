// Local nodes as child processes: starts them, watches them, starts them again when they die, ends them, and keeps as
// many of them as are wanted. Knows commands and processes; what a node is and who talks to it is others' business. One
// thread calls everything; a child dies with that thread's process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "fleet/restart_policy.h"

namespace hp::fleet {

struct ChildSpec {
  std::string name;
  std::vector<std::string> command;  ///< the first word is a path
};

class Fleet {
 public:
  Fleet(std::vector<ChildSpec> children, const Clock& clock, MetricsRegistry& metrics, RestartOptions options = {});
  ~Fleet();  ///< kills what still runs
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  /// Starts what is due, collects what died. A few times a second.
  void tick();
  /// The first `count` children are to run; the others get SIGTERM, finish in their own time and stay away. All at
  /// first.
  void want(std::size_t count);
  [[nodiscard]] std::size_t wanted() const { return wanted_; }
  /// SIGTERM to all; those that still run after the time are killed.
  void stop(Duration patience);
  [[nodiscard]] std::vector<pid_t> pids() const;  ///< -1: not running
  struct ChildState {
    std::string name;
    pid_t pid = -1;            ///< -1: not running
    std::uint64_t deaths = 0;  ///< ends that nobody asked for
    bool wanted = true;
  };
  [[nodiscard]] std::vector<ChildState> children() const;
  /// Ends a child so that tick() starts it anew, at once when it is gone: by SIGKILL when `hard`, else by SIGTERM.
  Status restart(std::string_view name, bool hard);
  /// Every wanted child has died young this often: nothing here will ever serve.
  [[nodiscard]] bool hopeless(int deaths) const;
  /// Every wanted child ended young and by itself, with an exit code that is an error: starting it again changes
  /// nothing.
  [[nodiscard]] bool gave_up() const;

 private:
  struct Child {
    ChildSpec spec;
    RestartPolicy policy;
    pid_t pid = -1;
    TimePoint start_at{};
    bool refused = false;  ///< its last end was an error exit of its own
    bool leaving = false;  ///< has been told to end: its end is no death
    std::uint64_t deaths = 0;
  };
  void start(Child& child);
  void collect(Child& child);

  std::vector<Child> children_;
  std::size_t wanted_ = 0;
  const Clock& clock_;
  Counter& starts_;
  Counter& deaths_;
  Gauge& running_;
  Gauge& wanted_gauge_;
  bool stopping_ = false;
};

/// "exit code 1" or "signal 9 (Killed)".
std::string describe_exit(int wait_status);

}  // namespace hp::fleet

// The cluster under test: real processes that can be killed, frozen and started again.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace hp::chaos {

struct Process {
  std::string name;
  std::vector<std::string> command;
  std::uint16_t port = 0;
  pid_t pid = -1;
  double back_at = -1;  ///< seconds since the start of the run; < 0: nothing is due
  bool frozen = false;
  int starts = 0;

  void start(const std::string& log_folder);
  /// Returns when the process is gone, for SIGKILL.
  void signal(int number);
  [[nodiscard]] bool running() const { return pid > 0; }
  /// Ready on its port within the time.
  [[nodiscard]] bool wait_ready(double seconds) const;
};

std::uint16_t free_port();
long resident_kib(pid_t pid);

}  // namespace hp::chaos

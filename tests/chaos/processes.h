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
  std::string host = "127.0.0.1";
  int link = -1;         ///< in links.h; < 0: none that could be cut
  bool cut_off = false;  ///< the link is down
  pid_t pid = -1;
  double back_at = -1;  ///< seconds since the start of the run; < 0: nothing is due
  bool frozen = false;
  int starts = 0;

  void start(const std::string& log_folder);
  /// Returns when the process is gone, for SIGKILL.
  void signal(int number);
  [[nodiscard]] bool running() const { return pid > 0; }
  /// Ready on its port within the time.
  [[nodiscard]] bool wait_ready(double seconds);
};

/// Outside the range that outgoing connections of other programs use.
std::uint16_t free_port();
/// Sends a line over TCP; true when something was answered.
bool say_to(const std::string& host, std::uint16_t port, const std::string& words);
long resident_kib(pid_t pid);

}  // namespace hp::chaos

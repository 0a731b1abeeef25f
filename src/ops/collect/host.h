// This machine's processor, memory, disk and network from /proc, and this process's own share. Pure parsing apart from
// read_host().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hp::ops {

struct HostReading {
  double cpu_busy = 0, cpu_total = 0;  ///< seconds of all processors since the start of the machine
  double memory_total = 0, memory_available = 0;
  double receive_bytes = 0, send_bytes = 0;  ///< of all interfaces but loopback, since the start
  double disk_total = 0, disk_free = 0;
  double process_cpu_seconds = 0, process_resident_bytes = 0, process_start_seconds = 0;  ///< start: since 1970
};

void parse_proc_stat(std::string_view text, HostReading& out);
void parse_meminfo(std::string_view text, HostReading& out);
void parse_net_dev(std::string_view text, HostReading& out);
/// `boot_seconds`: btime of /proc/stat.
void parse_self_stat(std::string_view text, double boot_seconds, HostReading& out);
std::optional<double> boot_time(std::string_view proc_stat);

/// `proc`: "/proc", or a recorded copy. `disk`: any path on the disk that matters.
HostReading read_host(const std::string& proc, const std::string& disk);

}  // namespace hp::ops

#include "ops/collect/host.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <fstream>
#include <vector>

#include "ops/limits.h"

namespace hp::ops {
namespace {

std::string_view next_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(text.size(), line.size() + 1));
  return line;
}

std::vector<std::string_view> words(std::string_view line) {
  std::vector<std::string_view> out;
  for (;;) {
    const auto begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return out;
    line.remove_prefix(begin);
    const auto end = std::min(line.find_first_of(" \t"), line.size());
    out.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

double number(std::string_view word) {
  double value = 0;
  std::from_chars(word.data(), word.data() + word.size(), value);
  return value;
}

double ticks_per_second() {
  return static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::string read_small(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(limits::kMaxProcFileBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

}  // namespace

void parse_proc_stat(std::string_view text, HostReading& out) {
  const auto fields = words(next_line(text));  // cpu user nice system idle iowait irq softirq steal ...
  if (fields.size() < 5 || fields[0] != "cpu") return;
  double total = 0;
  for (std::size_t i = 1; i < std::min<std::size_t>(fields.size(), 9); ++i) total += number(fields[i]);
  const double idle = number(fields[4]) + (fields.size() > 5 ? number(fields[5]) : 0);
  out.cpu_total = total / ticks_per_second();
  out.cpu_busy = (total - idle) / ticks_per_second();
}

std::optional<double> boot_time(std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    if (line.starts_with("btime ")) return number(line.substr(6));
  }
  return std::nullopt;
}

void parse_meminfo(std::string_view text, HostReading& out) {
  while (!text.empty()) {
    const auto fields = words(next_line(text));
    if (fields.size() < 2) continue;
    if (fields[0] == "MemTotal:") out.memory_total = number(fields[1]) * 1024;
    if (fields[0] == "MemAvailable:") out.memory_available = number(fields[1]) * 1024;
  }
}

void parse_net_dev(std::string_view text, HostReading& out) {
  out.receive_bytes = out.send_bytes = 0;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const auto name = words(line.substr(0, colon));
    const auto fields = words(line.substr(colon + 1));
    if (name.size() != 1 || name[0] == "lo" || fields.size() < 9) continue;
    out.receive_bytes += number(fields[0]);
    out.send_bytes += number(fields[8]);
  }
}

void parse_self_stat(std::string_view text, double boot_seconds, HostReading& out) {
  const auto name_end = text.rfind(')');  // the name may hold anything
  if (name_end == std::string_view::npos) return;
  const auto fields = words(text.substr(name_end + 1));  // from field 3 (state) on: proc(5)
  if (fields.size() < 22) return;
  out.process_cpu_seconds = (number(fields[11]) + number(fields[12])) / ticks_per_second();
  out.process_start_seconds = boot_seconds + number(fields[19]) / ticks_per_second();
  out.process_resident_bytes = number(fields[21]) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

HostReading read_host(const std::string& proc, const std::string& disk) {
  HostReading out;
  const std::string stat = read_small(proc + "/stat");
  parse_proc_stat(stat, out);
  parse_meminfo(read_small(proc + "/meminfo"), out);
  parse_net_dev(read_small(proc + "/net/dev"), out);
  parse_self_stat(read_small(proc + "/self/stat"), boot_time(stat).value_or(0), out);
  struct statvfs info {};
  if (::statvfs(disk.c_str(), &info) == 0) {
    // As df counts: what only root may use is neither free nor ours.
    const auto block = static_cast<double>(info.f_frsize);
    out.disk_free = static_cast<double>(info.f_bavail) * block;
    out.disk_total = (static_cast<double>(info.f_blocks) - static_cast<double>(info.f_bfree)) * block + out.disk_free;
  }
  return out;
}

}  // namespace hp::ops

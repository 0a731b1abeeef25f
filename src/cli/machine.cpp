#include "cli/machine.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "base/cpu_count.h"
#include "cli/node_flags.h"
#include "kernels/kernel_table.h"

namespace hp::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kReserveBytes = std::size_t{512} << 20;  // for the system and other programs

/// The value behind "key" in a file of "key : value" lines.
std::string value_in(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    std::size_t begin = key.size();
    while (begin < line.size() && std::string_view(" \t:=\"").find(line[begin]) != std::string_view::npos) ++begin;
    while (line.ends_with('"')) line.pop_back();
    return line.substr(begin);
  }
  return {};
}

std::size_t leading_number(std::string_view text) {
  std::size_t out = 0;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out;
}

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<Gpu> find_gpus() {
  std::vector<Gpu> gpus;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/driver/nvidia/gpus", error)) {
    const std::string name = value_in((entry.path() / "information").c_str(), "Model");
    gpus.push_back({name.empty() ? "NVIDIA GPU" : name, entry.path().filename().string()});
  }
  return gpus;
}

std::string find_plugin() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  for (const fs::path& folder : {program.parent_path(), program.parent_path() / "../lib",
                                 program.parent_path() / "../cuda", fs::path("/usr/local/lib")})
    if (const fs::path file = folder / "libhomeport_cuda.so"; fs::exists(file, error)) return file.lexically_normal();
  return {};
}

std::size_t disk_free(fs::path folder) {
  std::error_code error;
  while (!folder.empty() && !fs::exists(folder, error)) folder = folder.parent_path();
  struct statvfs info {};
  if (folder.empty() || statvfs(folder.c_str(), &info) != 0) return 0;
  return static_cast<std::size_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace

std::size_t Machine::usable_bytes() const {
  std::size_t bytes = memory_free_bytes;
  if (memory_limit_bytes > 0) bytes = std::min(bytes, memory_limit_bytes);
  return bytes > kReserveBytes ? bytes - kReserveBytes : 0;
}

Machine look_at_machine() {
  Machine m;
  utsname names{};
  if (uname(&names) == 0) m.kernel = fmt::format("{} {} {}", names.sysname, names.release, names.machine);
  m.system = value_in("/etc/os-release", "PRETTY_NAME");
  m.cpu = value_in("/proc/cpuinfo", "model name");
  m.cpus = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  m.cpu_quota = container_cpus();
  for (const kernels::Isa isa : kernels::available_isas()) m.isas.emplace_back(to_string(isa));
  m.memory_bytes = leading_number(value_in("/proc/meminfo", "MemTotal")) * 1024;
  m.memory_free_bytes = leading_number(value_in("/proc/meminfo", "MemAvailable")) * 1024;
  m.memory_limit_bytes = leading_number(first_line("/sys/fs/cgroup/memory.max"));
  m.models_folder = models_folder();
  m.disk_free_bytes = disk_free(m.models_folder);
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) m.open_files = static_cast<std::size_t>(files.rlim_cur);
  m.gpus = find_gpus();
  m.gpu_plugin = find_plugin();
  if (const auto model = model_path(Config())) m.model = model->string();
  return m;
}

std::string bytes_text(std::size_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < std::size(kUnits)) {
    value /= 1024.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace hp::cli

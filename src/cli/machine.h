// What this machine is, as far as running models goes. Reads /proc, /sys and cgroup files; starts nothing.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace hp::cli {

struct Gpu {
  std::string name;
  std::string device;  ///< PCI address
};

struct Machine {
  std::string system, kernel, cpu;
  int cpus = 0;                   ///< that this process may use at once
  double cpu_quota = 0.0;         ///< of a container, in CPUs; 0: none
  std::vector<std::string> isas;  ///< kernels that can run here, best last
  std::size_t memory_bytes = 0, memory_free_bytes = 0;
  std::size_t memory_limit_bytes = 0;  ///< of a container; 0: none
  std::filesystem::path models_folder;
  std::size_t disk_free_bytes = 0;  ///< where models lie
  std::size_t open_files = 0;       ///< limit of this process
  std::vector<Gpu> gpus;
  std::string gpu_plugin;  ///< path of libhomeport_cuda.so, empty when not found
  std::string model;       ///< the default model, empty when it is not there

  /// What a model with its KV may take: free memory under the container's limit, less a reserve.
  [[nodiscard]] std::size_t usable_bytes() const;
};

Machine look_at_machine();

/// "1.5 GiB"
std::string bytes_text(std::size_t bytes);

}  // namespace hp::cli

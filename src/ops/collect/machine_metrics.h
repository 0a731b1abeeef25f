// Puts the machine's figures on a process's own /metrics page: homeport_host_*, homeport_disk_*, homeport_gpu_*,
// process_*. A thread of its own, so that a driver that hangs delays nobody.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/metrics.h"
#include "ops/collect/host.h"
#include "ops/collect/nvml.h"

namespace hp::ops {

struct MachineOptions {
  std::string nvml_library = "libnvidia-ml.so.1";  ///< empty: no GPU is looked for
  std::string disk = "/";
  std::string proc = "/proc";
  std::chrono::milliseconds interval{2'000};
};

class MachineMetrics {
 public:
  /// `metrics` must outlive this. The first reading is done when it returns.
  MachineMetrics(MachineOptions options, MetricsRegistry& metrics);
  ~MachineMetrics();
  MachineMetrics(const MachineMetrics&) = delete;
  MachineMetrics& operator=(const MachineMetrics&) = delete;

  [[nodiscard]] bool has_gpu() const { return nvml_ != nullptr; }

 private:
  void round();
  void host();
  void gpu(const GpuView& gpu);
  void raise(std::string_view name, std::string_view help, const Labels& labels, double total);

  const MachineOptions options_;
  MetricsRegistry& metrics_;
  std::unique_ptr<Nvml> nvml_;
  HostReading last_;
  bool has_last_ = false;
  std::map<std::pair<std::string, Labels>, double> totals_;  // what counters already hold
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;
};

}  // namespace hp::ops

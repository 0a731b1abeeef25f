#include "ops/collect/machine_metrics.h"

#include <pthread.h>

#include <array>

#include "base/log.h"

namespace hp::ops {

MachineMetrics::MachineMetrics(MachineOptions options, MetricsRegistry& metrics)
    : options_(std::move(options)), metrics_(metrics) {
  auto nvml =
      options_.nvml_library.empty() ? Result<std::unique_ptr<Nvml>>(nullptr) : Nvml::load(options_.nvml_library);
  if (nvml && *nvml != nullptr) nvml_ = *std::move(nvml);
  const std::size_t gpus = nvml_ ? nvml_->read().size() : 0;
  metrics_.gauge("homeport_gpus", "GPUs whose figures are read; 0: there is none, or no driver")
      .set(static_cast<double>(gpus));
  if (gpus > 0)
    log::info("hardware: {} GPUs", gpus);
  else
    log::info("hardware: no GPU: {}", nvml ? "none is listed by the driver" : nvml.error().message);
  round();
  thread_ = std::jthread([this](const std::stop_token& stop) {
    ::pthread_setname_np(::pthread_self(), "hp-machine");
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      wake_.wait_for(lock, stop, options_.interval, [] { return false; });
      if (!stop.stop_requested()) round();
    }
  });
}

MachineMetrics::~MachineMetrics() = default;

void MachineMetrics::raise(std::string_view name, std::string_view help, const Labels& labels, double total) {
  double& known = totals_[{std::string(name), labels}];
  metrics_.counter(name, help, labels).add(total >= known ? total - known : total);
  known = total;
}

void MachineMetrics::host() {
  const HostReading now = read_host(options_.proc, options_.disk);
  if (has_last_ && now.cpu_total > last_.cpu_total)
    metrics_.gauge("homeport_host_cpu_ratio", "Share of all processors that is busy, 0 to 1")
        .set((now.cpu_busy - last_.cpu_busy) / (now.cpu_total - last_.cpu_total));
  metrics_.gauge("homeport_host_memory_used_bytes", "Memory that is not available to programs")
      .set(now.memory_total - now.memory_available);
  metrics_.gauge("homeport_host_memory_total_bytes", "Memory of the machine").set(now.memory_total);
  metrics_.gauge("homeport_disk_free_bytes", "Free on the disk that matters").set(now.disk_free);
  metrics_.gauge("homeport_disk_total_bytes", "Size of the disk that matters").set(now.disk_total);
  raise("homeport_host_network_receive_bytes_total", "Received by all interfaces but loopback", {}, now.receive_bytes);
  raise("homeport_host_network_send_bytes_total", "Sent by all interfaces but loopback", {}, now.send_bytes);
  raise("process_cpu_seconds_total", "Processor time of this process", {}, now.process_cpu_seconds);
  metrics_.gauge("process_resident_memory_bytes", "Memory of this process").set(now.process_resident_bytes);
  metrics_.gauge("process_start_time_seconds", "Start of this process, since 1970").set(now.process_start_seconds);
  last_ = now;
  has_last_ = true;
}

void MachineMetrics::gpu(const GpuView& gpu) {
  const Labels labels{{"gpu", std::to_string(gpu.index)}, {"name", gpu.name}, {"uuid", gpu.uuid}};
  struct Row {
    std::string_view name, help;
    Figure value;
  };
  for (const Row& row : std::array<Row, 8>{
           {{"homeport_gpu_temperature_celsius", "Temperature of the GPU", gpu.temperature_c},
            {"homeport_gpu_memory_used_bytes", "GPU memory in use", gpu.memory_used_bytes},
            {"homeport_gpu_memory_total_bytes", "GPU memory", gpu.memory_total_bytes},
            {"homeport_gpu_power_watts", "Power drawn", gpu.power_w},
            {"homeport_gpu_power_limit_watts", "Power limit in force", gpu.power_limit_w},
            {"homeport_gpu_clock_mhz", "Clock of the multiprocessors", gpu.clock_mhz},
            {"homeport_gpu_memory_clock_mhz", "Clock of the memory", gpu.memory_clock_mhz},
            {"homeport_gpu_utilization_ratio", "Share of time with a kernel running, 0 to 1", gpu.utilization}}})
    if (row.value) metrics_.gauge(row.name, row.help, labels).set(*row.value);
  if (gpu.ecc_errors)
    raise("homeport_gpu_ecc_errors_total", "Uncorrected ECC errors since the driver's start", labels, *gpu.ecc_errors);
  if (gpu.xid_errors) raise("homeport_gpu_xid_errors_total", "XID errors since our start", labels, *gpu.xid_errors);
  for (const std::string_view reason : {"power_cap", "hw_slowdown", "sw_thermal", "hw_thermal", "power_brake"}) {
    Labels with_reason = labels;
    with_reason.emplace_back("reason", reason);
    metrics_.gauge("homeport_gpu_throttled", "1: the clock is held down for this reason", with_reason)
        .set(gpu.throttle_reasons.find(reason) != std::string::npos ? 1 : 0);
  }
}

void MachineMetrics::round() {
  host();
  if (nvml_)
    for (const GpuView& view : nvml_->read()) gpu(view);
}

}  // namespace hp::ops

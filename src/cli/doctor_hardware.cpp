#include "cli/doctor_hardware.h"

#include <array>
#include <thread>
#include <vector>

#include "base/json.h"
#include "ops/collect/host.h"
#include "ops/collect/nvml.h"

namespace hp::cli {
namespace {

constexpr std::chrono::milliseconds kBetweenReadings{500};

struct Row {
  std::string_view name, unit;
  ops::Figure value;
};

std::vector<Row> rows_of(const ops::GpuView& g) {
  return {{"temperature", "°C", g.temperature_c},
          {"memory_used", "bytes", g.memory_used_bytes},
          {"memory_total", "bytes", g.memory_total_bytes},
          {"power", "W", g.power_w},
          {"power_limit", "W", g.power_limit_w},
          {"clock", "MHz", g.clock_mhz},
          {"memory_clock", "MHz", g.memory_clock_mhz},
          {"utilization", "0 to 1", g.utilization},
          {"ecc_errors", "uncorrected, since the driver's start", g.ecc_errors},
          {"xid_errors", "since this command's start", g.xid_errors}};
}

std::vector<Row> rows_of(const ops::HostReading& before, const ops::HostReading& now) {
  const double total = now.cpu_total - before.cpu_total;
  return {{"cpu", "0 to 1", total > 0 ? ops::Figure((now.cpu_busy - before.cpu_busy) / total) : ops::Figure()},
          {"memory_used", "bytes", now.memory_total - now.memory_available},
          {"memory_total", "bytes", now.memory_total},
          {"disk_free", "bytes", now.disk_free},
          {"disk_total", "bytes", now.disk_total},
          {"received", "bytes", now.receive_bytes},
          {"sent", "bytes", now.send_bytes}};
}

void write(JsonWriter& json, const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    json.key(row.name);
    if (row.value)
      json.value(*row.value);
    else
      json.null();
  }
}

void write(std::string& out, const std::vector<Row>& rows) {
  for (const Row& row : rows)
    out += row.value ? fmt::format("  {:13} {:<16.15g} {}\n", row.name, *row.value, row.unit)
                     : fmt::format("  {:13} not told\n", row.name);
}

}  // namespace

std::string doctor_hardware(const Config& config, bool json) {
  const auto nvml = ops::Nvml::load(config.text("machine.nvml"));
  const std::string& disk = config.text("machine.disk");
  const ops::HostReading before = ops::read_host("/proc", disk);
  std::this_thread::sleep_for(kBetweenReadings);
  const std::vector<Row> host = rows_of(before, ops::read_host("/proc", disk));
  const std::vector<ops::GpuView> gpus = nvml ? (*nvml)->read() : std::vector<ops::GpuView>();
  const std::string why = nvml ? gpus.empty() ? "the driver lists no GPU" : "" : nvml.error().message;
  std::string out;
  if (!json) {
    out = "Machine\n";
    write(out, host);
    for (const ops::GpuView& gpu : gpus) {
      out += fmt::format("GPU {}  {}  {}\n", gpu.index, gpu.name, gpu.uuid);
      write(out, rows_of(gpu));
      out += fmt::format("  {:13} {}\n", "throttled", gpu.throttled ? gpu.throttle_reasons : "no");
    }
    return why.empty() ? out : out + fmt::format("No GPU: {}\n", why);
  }
  {
    JsonWriter w(out);
    w.begin_object().key("machine").begin_object();
    write(w, host);
    w.end_object().member("no_gpu", why).key("gpus").begin_array();
    for (const ops::GpuView& gpu : gpus) {
      w.begin_object().member("index", gpu.index).member("name", gpu.name).member("uuid", gpu.uuid);
      write(w, rows_of(gpu));
      w.member("throttle_reasons", gpu.throttle_reasons).end_object();
    }
    w.end_array().end_object();
  }
  return out + "\n";
}

}  // namespace hp::cli

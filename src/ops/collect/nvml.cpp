#include "ops/collect/nvml.h"

#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <utility>

#include "ops/limits.h"

namespace hp::ops {
namespace {

// The library's own types and numbers (NVML API reference): part of its stable binary interface.
using Device = void*;
using EventSet = void*;
using Code = int;
constexpr Code kSuccess = 0;
constexpr unsigned kTemperatureGpu = 0, kClockSm = 1, kClockMemory = 2, kUncorrected = 1, kSinceReset = 0;
constexpr unsigned long long kXidEvent = 8;

struct MemoryInfo {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned gpu, memory;
};
struct EventData {
  Device device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

constexpr std::array<std::pair<unsigned long long, std::string_view>, 5> kThrottleBits{
    {{0x04, "power_cap"}, {0x08, "hw_slowdown"}, {0x20, "sw_thermal"}, {0x40, "hw_thermal"}, {0x80, "power_brake"}}};

}  // namespace

struct Nvml::Library {
  void* handle = nullptr;
  bool initialized = false;
  Code (*init)() = nullptr;
  Code (*shutdown)() = nullptr;
  Code (*count)(unsigned*) = nullptr;
  Code (*by_index)(unsigned, Device*) = nullptr;
  Code (*name)(Device, char*, unsigned) = nullptr;
  Code (*uuid)(Device, char*, unsigned) = nullptr;
  Code (*temperature)(Device, unsigned, unsigned*) = nullptr;
  Code (*memory)(Device, MemoryInfo*) = nullptr;
  Code (*power)(Device, unsigned*) = nullptr;
  Code (*power_limit)(Device, unsigned*) = nullptr;
  Code (*clock)(Device, unsigned, unsigned*) = nullptr;
  Code (*utilization)(Device, Utilization*) = nullptr;
  Code (*ecc)(Device, unsigned, unsigned, unsigned long long*) = nullptr;
  Code (*throttle)(Device, unsigned long long*) = nullptr;
  Code (*event_set)(EventSet*) = nullptr;
  Code (*register_events)(Device, unsigned long long, EventSet) = nullptr;
  Code (*wait)(EventSet, EventData*, unsigned) = nullptr;
  Code (*free_set)(EventSet) = nullptr;

  std::vector<Device> devices;
  std::vector<double> xids;
  EventSet events = nullptr;

  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() {
    if (events != nullptr) free_set(events);
    if (initialized) shutdown();
    if (handle != nullptr) ::dlclose(handle);
  }

  template <typename Function>
  bool bind(Function& function, const char* symbol) {
    function = reinterpret_cast<Function>(::dlsym(handle, symbol));
    return function != nullptr;
  }
  std::string_view bind_all();
  void watch_xids();
  void count_xids();
  GpuView read(unsigned index) const;
};

/// The first function that is missing, or nothing. Those after the first four may be: old drivers lack some.
std::string_view Nvml::Library::bind_all() {
  if (!bind(init, "nvmlInit_v2")) return "nvmlInit_v2";
  if (!bind(shutdown, "nvmlShutdown")) return "nvmlShutdown";
  if (!bind(count, "nvmlDeviceGetCount_v2")) return "nvmlDeviceGetCount_v2";
  if (!bind(by_index, "nvmlDeviceGetHandleByIndex_v2")) return "nvmlDeviceGetHandleByIndex_v2";
  bind(name, "nvmlDeviceGetName");
  bind(uuid, "nvmlDeviceGetUUID");
  bind(temperature, "nvmlDeviceGetTemperature");
  bind(memory, "nvmlDeviceGetMemoryInfo");
  bind(power, "nvmlDeviceGetPowerUsage");
  bind(power_limit, "nvmlDeviceGetEnforcedPowerLimit");
  bind(clock, "nvmlDeviceGetClockInfo");
  bind(utilization, "nvmlDeviceGetUtilizationRates");
  bind(ecc, "nvmlDeviceGetTotalEccErrors");
  bind(throttle, "nvmlDeviceGetCurrentClocksThrottleReasons");
  if (throttle == nullptr) bind(throttle, "nvmlDeviceGetCurrentClocksEventReasons");
  const bool all_events = bind(event_set, "nvmlEventSetCreate") && bind(free_set, "nvmlEventSetFree") &&
                          bind(register_events, "nvmlDeviceRegisterEvents") && bind(wait, "nvmlEventSetWait_v2");
  if (!all_events) event_set = nullptr;
  return {};
}

void Nvml::Library::watch_xids() {
  if (event_set == nullptr || event_set(&events) != kSuccess) {
    events = nullptr;
    return;
  }
  for (Device device : devices) static_cast<void>(register_events(device, kXidEvent, events));
}

void Nvml::Library::count_xids() {
  if (events == nullptr) return;
  for (int i = 0; i < limits::kMaxXidsPerRead; ++i) {
    EventData event{};
    if (wait(events, &event, 0) != kSuccess) return;
    for (std::size_t d = 0; d < devices.size(); ++d)
      if (event.type == kXidEvent && devices[d] == event.device) ++xids[d];
  }
}

GpuView Nvml::Library::read(unsigned index) const {
  GpuView gpu;
  gpu.index = static_cast<int>(index);
  const Device device = devices[index];
  std::array<char, 96> text{};
  if (name != nullptr && name(device, text.data(), text.size()) == kSuccess) gpu.name = text.data();
  if (uuid != nullptr && uuid(device, text.data(), text.size()) == kSuccess) gpu.uuid = text.data();
  unsigned value = 0;
  if (temperature != nullptr && temperature(device, kTemperatureGpu, &value) == kSuccess) gpu.temperature_c = value;
  if (power != nullptr && power(device, &value) == kSuccess) gpu.power_w = value / 1000.0;
  if (power_limit != nullptr && power_limit(device, &value) == kSuccess) gpu.power_limit_w = value / 1000.0;
  if (clock != nullptr && clock(device, kClockSm, &value) == kSuccess) gpu.clock_mhz = value;
  if (clock != nullptr && clock(device, kClockMemory, &value) == kSuccess) gpu.memory_clock_mhz = value;
  if (MemoryInfo info{}; memory != nullptr && memory(device, &info) == kSuccess) {
    gpu.memory_total_bytes = static_cast<double>(info.total);
    gpu.memory_used_bytes = static_cast<double>(info.used);
  }
  if (Utilization rates{}; utilization != nullptr && utilization(device, &rates) == kSuccess)
    gpu.utilization = rates.gpu / 100.0;
  unsigned long long many = 0;
  if (ecc != nullptr && ecc(device, kUncorrected, kSinceReset, &many) == kSuccess)
    gpu.ecc_errors = static_cast<double>(many);
  if (throttle != nullptr && throttle(device, &many) == kSuccess)
    for (const auto& [bit, reason] : kThrottleBits)
      if ((many & bit) != 0) gpu.throttle_reasons += (gpu.throttle_reasons.empty() ? "" : ", ") + std::string(reason);
  gpu.throttled = !gpu.throttle_reasons.empty();
  if (events != nullptr) gpu.xid_errors = xids[index];
  return gpu;
}

Nvml::Nvml(std::unique_ptr<Library> library) : library_(std::move(library)) {}
Nvml::~Nvml() = default;

Result<std::unique_ptr<Nvml>> Nvml::load(const std::string& library) {
  auto lib = std::make_unique<Library>();
  lib->handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (lib->handle == nullptr) return fail(ErrorCode::not_found, "no NVIDIA driver here: {} cannot be loaded", library);
  if (const std::string_view missing = lib->bind_all(); !missing.empty())
    return fail(ErrorCode::unsupported, "{} has no {}: update the NVIDIA driver", library, missing);
  if (const Code code = lib->init(); code != kSuccess)
    return fail(ErrorCode::unavailable, "the NVIDIA driver does not answer (NVML error {}): see nvidia-smi", code);
  lib->initialized = true;
  unsigned count = 0;
  if (lib->count(&count) != kSuccess || count > limits::kMaxGpus) count = 0;
  for (unsigned i = 0; i < count; ++i)
    if (Device device = nullptr; lib->by_index(i, &device) == kSuccess) lib->devices.push_back(device);
  lib->xids.assign(lib->devices.size(), 0);
  lib->watch_xids();
  return std::unique_ptr<Nvml>(new Nvml(std::move(lib)));
}

std::vector<GpuView> Nvml::read() {
  library_->count_xids();
  std::vector<GpuView> all;
  for (unsigned i = 0; i < library_->devices.size(); ++i) all.push_back(library_->read(i));
  return all;
}

}  // namespace hp::ops

// A libnvidia-ml.so.1 without a GPU, in a folder of its own: two boards (or as many as "boards" says) whose figures
// stand in the file FAKE_NVML names, lines "KEY VALUE", read again at each question; KEY.1 is the second board's. What
// has no line is not supported, as old boards answer. "xid N" is N events, each told once. No file: the driver does
// not answer. tests/ops/record_nvml.py writes such a file from a real driver's answers.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>

namespace {

constexpr int kSuccess = 0, kUninitialized = 1, kInvalidArgument = 2, kNotSupported = 3, kTimeout = 10;
constexpr unsigned kBoards = 2;
constexpr unsigned long long kXidEvent = 8;

struct Board {
  unsigned index;
  unsigned long long watched, xids_told;
};
Board boards[kBoards] = {{0, 0, 0}, {1, 0, 0}};  // handles that the caller holds
bool initialized = false;

/// The rest of the key's line; empty: there is none.
std::string line_of(const std::string& key) {
  const char* path = std::getenv("FAKE_NVML");
  std::ifstream file(path == nullptr ? "" : path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key + " ")) return line.substr(key.size() + 1);
  return {};
}

std::string line_of(const void* device, const std::string& key) {
  const unsigned index = static_cast<const Board*>(device)->index;
  return line_of(index == 0 ? key : key + "." + std::to_string(index));
}

bool figure(const void* device, const std::string& key, unsigned long long* out) {
  const std::string value = line_of(device, key);
  *out = std::strtoull(value.c_str(), nullptr, 10);
  return !value.empty();
}

int answer_text(const std::string& text, char* out, unsigned size) {
  std::snprintf(out, size, "%s", text.c_str());
  return kSuccess;
}

int answer(const void* device, const std::string& key, unsigned* out) {
  if (!initialized) return kUninitialized;
  unsigned long long value = 0;
  if (!figure(device, key, &value)) return kNotSupported;
  *out = static_cast<unsigned>(value);
  return kSuccess;
}

}  // namespace

extern "C" {

struct FakeMemory {
  unsigned long long total, free, used;
};
struct FakeRates {
  unsigned gpu, memory;
};
struct FakeEvent {
  void* device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

int nvmlInit_v2() {
  const char* path = std::getenv("FAKE_NVML");
  if (path == nullptr || !std::ifstream(path)) return 9;  // driver not loaded
  initialized = true;
  return kSuccess;
}
int nvmlShutdown() {
  initialized = false;
  return kSuccess;
}
int nvmlDeviceGetCount_v2(unsigned* out) {
  const std::string boards_told = line_of("boards");
  *out = boards_told.empty() ? kBoards : static_cast<unsigned>(std::stoul(boards_told));
  return initialized ? kSuccess : kUninitialized;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** out) {
  if (index >= kBoards) return kInvalidArgument;
  *out = &boards[index];
  return kSuccess;
}
int nvmlDeviceGetName(void* device, char* out, unsigned size) {
  const std::string told = line_of(device, "name");
  return answer_text(told.empty() ? "Fake H100" : told, out, size);
}
int nvmlDeviceGetUUID(void* device, char* out, unsigned size) {
  const std::string told = line_of(device, "uuid");
  return answer_text(told.empty() ? "GPU-fake-" + std::to_string(static_cast<Board*>(device)->index) : told, out, size);
}
int nvmlDeviceGetTemperature(void* device, unsigned sensor, unsigned* out) {
  return sensor == 0 ? answer(device, "temperature", out) : kInvalidArgument;
}
int nvmlDeviceGetMemoryInfo(void* device, FakeMemory* out) {
  if (!figure(device, "memory_total", &out->total) || !figure(device, "memory_used", &out->used)) return kNotSupported;
  out->free = out->total - out->used;
  return kSuccess;
}
int nvmlDeviceGetPowerUsage(void* device, unsigned* out) {
  return answer(device, "power_mw", out);
}
int nvmlDeviceGetEnforcedPowerLimit(void* device, unsigned* out) {
  return answer(device, "power_limit_mw", out);
}
int nvmlDeviceGetClockInfo(void* device, unsigned domain, unsigned* out) {
  if (domain != 1 && domain != 2) return kInvalidArgument;
  return answer(device, domain == 1 ? "clock_sm" : "clock_memory", out);
}
int nvmlDeviceGetUtilizationRates(void* device, FakeRates* out) {
  return answer(device, "utilization", &out->gpu);
}
int nvmlDeviceGetTotalEccErrors(void* device, unsigned kind, unsigned counter, unsigned long long* out) {
  if (kind != 1 || counter != 0) return kInvalidArgument;
  return figure(device, "ecc", out) ? kSuccess : kNotSupported;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void* device, unsigned long long* out) {
  return figure(device, "throttle", out) ? kSuccess : kNotSupported;
}
int nvmlEventSetCreate(void** out) {
  *out = boards;
  return kSuccess;
}
int nvmlEventSetFree(void*) {
  return kSuccess;
}
int nvmlDeviceRegisterEvents(void* device, unsigned long long types, void*) {
  static_cast<Board*>(device)->watched |= types;
  return kSuccess;
}
int nvmlEventSetWait_v2(void*, FakeEvent* out, unsigned) {
  for (Board& board : boards) {
    unsigned long long xids = 0;
    if ((board.watched & kXidEvent) == 0 || !figure(&board, "xid", &xids) || board.xids_told >= xids) continue;
    ++board.xids_told;
    *out = {&board, kXidEvent, 79, 0, 0};
    return kSuccess;
  }
  return kTimeout;
}

}  // extern "C"

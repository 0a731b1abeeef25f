#include "base/black_box.h"

#include <cxxabi.h>
#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

namespace hp::black_box {
namespace {

constexpr std::string_view kName = "homeport-black-box";
constexpr std::uint64_t kMagic = 0x31584f424b434c42;  // "BLCKBOX1"
constexpr std::size_t kLogBytes = 256 << 10, kStackBytes = 512 << 10;
constexpr int kFrames = 64;
constexpr int kSignal = SIGURG;  // by default ignored: harmless to a process without this handler

struct Box {
  std::uint64_t magic;
  std::atomic<std::uint64_t> log_end;  // bytes ever written
  std::atomic<std::uint32_t> dumps;    // odd: one is being written
  std::atomic<std::uint32_t> stack_bytes;
  char log[kLogBytes];
};
constexpr off_t kStacksAt = (sizeof(Box) + 4095) / 4096 * 4096;

// Set once in main before any thread; the handler may only use what needs no lock.
Box* box = nullptr;
int box_fd = -1;
std::atomic<pid_t> turn{0};
std::atomic<bool> dumping{false};

void say(const char* text) {
  const ssize_t ignored = ::write(box_fd, text, std::strlen(text));
  static_cast<void>(ignored);
}

void say_number(long number) {
  std::array<char, 24> digits{};
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size() - 1, number);
  static_cast<void>(error);
  *end = '\0';
  say(digits.data());
}

void dump_own_stack() {
  std::array<void*, kFrames> frames{};
  const int count = ::backtrace(frames.data(), kFrames);
  ::backtrace_symbols_fd(frames.data(), count, box_fd);
}

void say_thread(pid_t thread) {
  say("\nthread ");
  say_number(thread);
  std::array<char, 64> path{}, name{};
  char* end = std::copy_n("/proc/self/task/", 16, path.data());
  end = std::to_chars(end, path.data() + 40, thread).ptr;
  std::copy_n("/comm", 6, end);
  if (const int fd = ::open(path.data(), O_RDONLY | O_CLOEXEC); fd >= 0) {
    const ssize_t got = ::read(fd, name.data(), name.size() - 1);
    ::close(fd);
    if (got > 1) name[static_cast<std::size_t>(got) - 1] = '\0';
    say(" ");
    say(name.data());
  }
  say("\n");
}

void ask_thread(pid_t thread) {
  if (thread == ::gettid()) return dump_own_stack();
  turn = thread;
  if (::syscall(SYS_tgkill, ::getpid(), thread, kSignal) == 0) {
    const timespec tick{.tv_sec = 0, .tv_nsec = 1'000'000};
    for (int i = 0; i < 100 && turn == thread; ++i) ::nanosleep(&tick, nullptr);
  }
  pid_t expected = thread;
  if (turn.compare_exchange_strong(expected, 0)) say("(did not answer)\n");
}

// getdents64's records: u64 inode, i64 offset, u16 bytes, u8 type, name.
constexpr long kEntryBytesAt = 16, kEntryNameAt = 19;

void dump_all() {
  if (dumping.exchange(true)) return;
  box->dumps.fetch_add(1);
  ::lseek(box_fd, kStacksAt, SEEK_SET);
  if (const int folder = ::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    alignas(8) std::array<char, 4096> entries;
    for (long got = 0; (got = ::syscall(SYS_getdents64, folder, entries.data(), entries.size())) > 0;)
      for (long at = 0; at < got;) {
        std::uint16_t bytes = 0;
        std::memcpy(&bytes, entries.data() + at + kEntryBytesAt, sizeof bytes);
        const char* name = entries.data() + at + kEntryNameAt;
        at += bytes;
        pid_t thread = 0;
        std::from_chars(name, name + std::strlen(name), thread);
        if (thread == 0 || ::lseek(box_fd, 0, SEEK_CUR) > kStacksAt + static_cast<off_t>(kStackBytes)) continue;
        say_thread(thread);
        ask_thread(thread);
      }
    ::close(folder);
  }
  box->stack_bytes = static_cast<std::uint32_t>(::lseek(box_fd, 0, SEEK_CUR) - kStacksAt);
  box->dumps.fetch_add(1);
  dumping = false;
}

void on_signal(int, siginfo_t* info, void*) {
  const int error = errno;
  if (info->si_code == SI_TKILL) {
    if (turn == ::gettid()) {
      dump_own_stack();
      turn = 0;
    }
  } else {
    dump_all();
  }
  errno = error;
}

/// The descriptor under which a process holds its box, opened for reading.
Result<int> find_box(pid_t process) {
  const std::string folder = fmt::format("/proc/{}/fd", process);
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry->path(), gone).string();
    if (gone || target.find(kName) == std::string::npos) continue;
    const int fd = ::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) return fd;
  }
  return fail(ErrorCode::not_found, "process {} has no black box that we may read", process);
}

struct Descriptor {
  int fd;
  explicit Descriptor(int f) : fd(f) {}
  ~Descriptor() { ::close(fd); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] std::string read(off_t from, std::size_t bytes) const {
    std::string out(bytes, '\0');
    const ssize_t got = ::pread(fd, out.data(), bytes, from);
    out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return out;
  }
  template <typename T>
  [[nodiscard]] T value(std::size_t from) const {
    T out{};
    const std::string bytes = read(static_cast<off_t>(from), sizeof out);
    if (bytes.size() == sizeof out) std::memcpy(&out, bytes.data(), sizeof out);
    return out;
  }
};

bool catches_signal(pid_t process) {
  std::ifstream status(fmt::format("/proc/{}/status", process));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("SigCgt:")) {
      std::uint64_t mask = 0;
      const char* text = line.c_str() + line.find_first_not_of(" \t", 7);
      std::from_chars(text, line.c_str() + line.size(), mask, 16);
      return (mask >> (kSignal - 1) & 1) != 0;
    }
  return false;
}

/// "program(_ZN2hp3fooEv+0x12) [0x…]" with the name as one writes it.
std::string demangled(std::string text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto open = text.find("(_Z", at);
    if (open == std::string::npos) return out += text.substr(at);
    const auto end = text.find_first_of("+)\n", open);
    const std::string name = text.substr(open + 1, end - open - 1);
    int status = 0;
    char* readable = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    out += text.substr(at, open + 1 - at);
    out += readable != nullptr ? readable : name;
    std::free(readable);
    at = end == std::string::npos ? text.size() : end;
  }
  return out;
}

}  // namespace

Status open() {
  if (box != nullptr) return {};
  box_fd = ::memfd_create(kName.data(), MFD_CLOEXEC);
  if (box_fd < 0 || ::ftruncate(box_fd, kStacksAt) != 0)
    return fail(ErrorCode::io_error, "no memory for the last log lines: {}", std::strerror(errno));
  void* memory = ::mmap(nullptr, sizeof(Box), PROT_READ | PROT_WRITE, MAP_SHARED, box_fd, 0);
  if (memory == MAP_FAILED) return fail(ErrorCode::io_error, "no memory for the last log lines");
  auto* fresh = static_cast<Box*>(memory);
  fresh->magic = kMagic;
  std::array<void*, 2> warm{};
  ::backtrace(warm.data(), 2);  // loads the unwinder now: the handler must not
  box = fresh;
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&action.sa_mask);
  ::sigaction(kSignal, &action, nullptr);
  return {};
}

void append(std::string_view line) {
  if (box == nullptr) return;
  line = line.substr(0, kLogBytes / 4);
  std::uint64_t at = box->log_end.fetch_add(line.size() + 1);
  const auto put = [&](char c) { box->log[at++ % kLogBytes] = c; };
  for (const char c : line) put(c);
  put('\n');
}

Result<std::string> read_log(pid_t process) {
  HP_TRY(const int fd, find_box(process));
  const Descriptor file(fd);
  if (file.value<std::uint64_t>(0) != kMagic)
    return fail(ErrorCode::corrupt_data, "process {}: another version", process);
  const auto end = file.value<std::uint64_t>(offsetof(Box, log_end));
  std::string ring = file.read(offsetof(Box, log), kLogBytes);
  if (ring.size() < kLogBytes) return fail(ErrorCode::io_error, "process {}: its black box is cut off", process);
  if (end <= kLogBytes) return ring.substr(0, end);
  std::rotate(ring.begin(), ring.begin() + static_cast<std::ptrdiff_t>(end % kLogBytes), ring.end());
  return ring.substr(ring.find('\n') + 1);  // from the first whole line
}

Result<std::string> ask_stacks(pid_t process, std::chrono::milliseconds patience) {
  HP_TRY(const int fd, find_box(process));
  const Descriptor file(fd);
  if (!catches_signal(process)) return fail(ErrorCode::not_found, "process {} does not listen", process);
  const auto before = file.value<std::uint32_t>(offsetof(Box, dumps));
  if (::kill(process, kSignal) != 0) return fail(ErrorCode::io_error, "process {}: {}", process, std::strerror(errno));
  const auto until = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < until) {
    const auto now = file.value<std::uint32_t>(offsetof(Box, dumps));
    if (now != before && now % 2 == 0)
      return demangled(file.read(
          kStacksAt, std::min<std::size_t>(kStackBytes, file.value<std::uint32_t>(offsetof(Box, stack_bytes)))));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return fail(ErrorCode::deadline_exceeded,
              "process {} did not write its stacks within {} ms: stopped, or stuck in the "
              "kernel",
              process, patience.count());
}

std::vector<pid_t> processes() {
  std::vector<pid_t> out;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    pid_t process = 0;
    const auto [rest, bad] = std::from_chars(name.data(), name.data() + name.size(), process);
    if (bad != std::errc() || rest != name.data() + name.size()) continue;
    if (const auto found = find_box(process)) {
      ::close(*found);
      out.push_back(process);
    }
  }
  return out;
}

}  // namespace hp::black_box

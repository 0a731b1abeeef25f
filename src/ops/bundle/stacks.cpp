#include "ops/bundle/stacks.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/black_box.h"
#include "ops/console/console_limits.h"

namespace hp::ops {
namespace {

std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(64 << 10, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return text;
}

/// State, where in the kernel it waits and, for root, the kernel's stack: of every thread.
std::string kernel_view(pid_t process) {
  const std::filesystem::path root = fmt::format("/proc/{}", process);
  std::string out = "== /proc: status\n" + file_text(root / "status");
  std::error_code error;
  std::vector<std::filesystem::path> threads;
  for (std::filesystem::directory_iterator entry(root / "task", error), end; !error && entry != end;
       entry.increment(error))
    threads.push_back(entry->path());
  std::ranges::sort(threads);
  out += "== /proc: threads\n";
  for (const auto& thread : threads) {
    const std::string status = file_text(thread / "status");
    const auto at = status.find("State:");
    out += fmt::format("thread {} {} {} waits in {}\n{}", thread.filename().string(),
                       status.substr(0, std::min(status.find('\n'), status.size())),
                       at == std::string::npos ? "" : status.substr(at, status.find('\n', at) - at),
                       file_text(thread / "wchan"), file_text(thread / "stack"));
    if (out.size() > limits::kMaxStackBytes) break;
  }
  return out;
}

/// What a command writes to its output within the time; it is killed after that.
std::string output_of(const std::vector<std::string>& command, std::chrono::milliseconds patience) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return {};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, pipe[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  pid_t child = -1;
  const int failed = ::posix_spawn(&child, words.front(), &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(pipe[1]);
  std::string out;
  const auto until = std::chrono::steady_clock::now() + patience;
  while (failed == 0 && out.size() < limits::kMaxStackBytes) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    pollfd wait{.fd = pipe[0], .events = POLLIN, .revents = 0};
    if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) <= 0) break;
    std::array<char, 16 << 10> buffer{};
    const ssize_t got = ::read(pipe[0], buffer.data(), buffer.size());
    if (got <= 0) break;
    out.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(pipe[0]);
  if (failed == 0) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  return out;
}

/// Reads another process without its help, a stopped one as well. Never our own: it would wait for itself.
std::string debugger_view(pid_t process, std::chrono::milliseconds patience) {
  static constexpr std::string_view kGdb = "/usr/bin/gdb";
  if (process == ::getpid() || !std::filesystem::exists(kGdb)) return {};
  return output_of({std::string(kGdb), "-nx", "-batch", "-iex", "set debuginfod enabled off", "-iex",
                    "set auto-load off", "-p", std::to_string(process), "-ex", "thread apply all backtrace 40"},
                   patience);
}

}  // namespace

std::string process_stacks(pid_t process, std::chrono::milliseconds patience) {
  std::string out = fmt::format("process {}\n", process);
  const auto own = black_box::ask_stacks(process, std::min(patience, limits::kStackPatience));
  if (own) {
    out += "== its own account\n" + *own;
  } else {
    out += fmt::format("== no account of its own: {}\n", own.error().message);
    if (const std::string seen = debugger_view(process, patience); !seen.empty()) out += "== gdb\n" + seen;
  }
  out += kernel_view(process);
  if (out.size() > limits::kMaxStackBytes) out.resize(limits::kMaxStackBytes);
  return out;
}

}  // namespace hp::ops

#include "fleet/fleet.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "base/log.h"

namespace hp::fleet {
namespace {
constexpr std::chrono::milliseconds kPoll{20};

// Between fork and exec only what is safe after a fork of a process with threads.
[[noreturn]] void become(char* const* argv, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);  // it died before we asked to be told
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::setpgid(0, 0);  // Ctrl-C at a terminal is for the parent, which then ends its children in order
  ::execv(argv[0], argv);
  ::_exit(127);
}
}  // namespace

std::string describe_exit(int status) {
  if (WIFSIGNALED(status)) return fmt::format("signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  if (WEXITSTATUS(status) == 127) return "exit code 127: the program could not be started";
  return fmt::format("exit code {}", WEXITSTATUS(status));
}

Fleet::Fleet(std::vector<ChildSpec> children, const Clock& clock, MetricsRegistry& metrics, RestartOptions options)
    : clock_(clock),
      starts_(metrics.counter("homeport_fleet_starts_total", "Node processes started")),
      deaths_(metrics.counter("homeport_fleet_deaths_total", "Node processes that ended unasked")),
      running_(metrics.gauge("homeport_fleet_running", "Node processes that run")),
      wanted_gauge_(metrics.gauge("homeport_fleet_wanted", "Node processes that are to run")) {
  for (ChildSpec& spec : children) children_.push_back({.spec = std::move(spec), .policy = RestartPolicy(options)});
  want(children_.size());
}

Fleet::~Fleet() {
  for (Child& child : children_)
    if (child.pid > 0) {
      ::kill(child.pid, SIGKILL);
      ::waitpid(child.pid, nullptr, 0);
    }
}

void Fleet::start(Child& child) {
  std::vector<char*> argv;
  argv.reserve(child.spec.command.size() + 1);
  for (std::string& word : child.spec.command) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) become(argv.data(), parent);
  const TimePoint now = clock_.now();
  if (pid < 0) {
    log::error("fleet: cannot start {}: {}; trying again", child.spec.name, std::strerror(errno));
    child.start_at = child.policy.on_exit(now);
    return;
  }
  child.pid = pid;
  child.policy.on_start(now);
  starts_.add();
  running_.add(1);
  log::info("fleet: {} started, process {}", child.spec.name, pid);
}

void Fleet::collect(Child& child) {
  int status = 0;
  if (::waitpid(child.pid, &status, WNOHANG) != child.pid) return;
  const TimePoint now = clock_.now();
  const bool asked = std::exchange(child.leaving, false);
  log::write(asked ? log::Level::info : log::Level::warn,
             fmt::format("fleet: {} (process {}) ended: {}", child.spec.name, child.pid, describe_exit(status)));
  child.pid = -1;
  running_.add(-1);
  if (stopping_) return;
  if (asked) {
    child.start_at = now;
    return;
  }
  deaths_.add();
  ++child.deaths;
  child.start_at = child.policy.on_exit(now);
  child.refused = WIFEXITED(status) && WEXITSTATUS(status) != 0 && child.policy.young_deaths() > 0;
  if (child.policy.young_deaths() > 2)
    log::error(
        "fleet: {} keeps dying ({} times in a row, {}); next start in {:.1f} s: see its log lines above for the cause",
        child.spec.name, child.policy.young_deaths(), describe_exit(status), to_seconds(child.start_at - now));
}

void Fleet::want(std::size_t count) {
  wanted_ = std::min(count, children_.size());
  wanted_gauge_.set(static_cast<double>(wanted_));
}

void Fleet::tick() {
  for (std::size_t i = 0; i < children_.size(); ++i) {
    Child& child = children_[i];
    const bool wanted = i < wanted_;
    if (child.pid > 0) collect(child);
    if (child.pid > 0 && !wanted && !child.leaving && !stopping_) {
      child.leaving = true;
      ::kill(child.pid, SIGTERM);
      log::info("fleet: {} (process {}) is not needed and ends when its streams have", child.spec.name, child.pid);
    }
    if (child.pid < 0 && wanted && !stopping_ && clock_.now() >= child.start_at) start(child);
  }
}

void Fleet::stop(Duration patience) {
  stopping_ = true;
  for (const Child& child : children_)
    if (child.pid > 0) ::kill(child.pid, SIGTERM);
  const auto end = std::chrono::steady_clock::now() + patience;
  const auto any = [&] { return std::ranges::any_of(children_, [](const Child& c) { return c.pid > 0; }); };
  while (any() && std::chrono::steady_clock::now() < end) {
    tick();
    std::this_thread::sleep_for(kPoll);
  }
  for (Child& child : children_) {
    if (child.pid <= 0) continue;
    log::warn("fleet: {} did not end in time and is killed", child.spec.name);
    ::kill(child.pid, SIGKILL);
    ::waitpid(child.pid, nullptr, 0);
    child.pid = -1;
    running_.add(-1);
  }
}

std::vector<pid_t> Fleet::pids() const {
  std::vector<pid_t> all;
  all.reserve(children_.size());
  for (const Child& child : children_) all.push_back(child.pid);
  return all;
}

std::vector<Fleet::ChildState> Fleet::children() const {
  std::vector<ChildState> all;
  for (const Child& child : children_)
    all.push_back({.name = child.spec.name, .pid = child.pid, .deaths = child.deaths, .wanted = all.size() < wanted_});
  return all;
}

Status Fleet::restart(std::string_view name, bool hard) {
  const auto child = std::ranges::find_if(children_, [&](const Child& c) { return c.spec.name == name; });
  if (child == children_.end()) return fail(ErrorCode::not_found, "the fleet has no node '{}'", name);
  if (child->pid > 0) {
    child->leaving = true;
    ::kill(child->pid, hard ? SIGKILL : SIGTERM);
  } else {
    child->start_at = clock_.now();
  }
  return {};
}

bool Fleet::gave_up() const {
  return std::all_of(children_.begin(), children_.begin() + static_cast<std::ptrdiff_t>(wanted_),
                     [](const Child& c) { return c.pid < 0 && c.refused; });
}

bool Fleet::hopeless(int deaths) const {
  return std::all_of(children_.begin(), children_.begin() + static_cast<std::ptrdiff_t>(wanted_),
                     [&](const Child& c) { return c.policy.young_deaths() >= deaths; });
}

}  // namespace hp::fleet

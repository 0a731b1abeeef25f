#include "links.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

namespace hp::chaos {
namespace {
constexpr const char* kIp = "/usr/sbin/ip";

bool run(const std::string& arguments) {
  return std::system(fmt::format("{} {} >/dev/null 2>&1", kIp, arguments).c_str()) == 0;  // NOLINT: fixed words only
}

int own_subnet() {
  return 16 + static_cast<int>(::getpid() % 200);
}
}  // namespace

std::string Links::name(int link) const {
  return fmt::format("hpc{}x{}", ::getpid(), link);
}

std::string Links::host(int link) const {
  return fmt::format("10.{}.{}.2", own_subnet(), link);
}

std::vector<std::string> Links::prefix(int link) const {
  return {kIp, "netns", "exec", name(link)};
}

int Links::add() {
  if (::geteuid() != 0 || ::access(kIp, X_OK) != 0) return -1;
  const int link = count_;
  const std::string n = name(link);
  if (!run("netns add " + n)) return -1;
  ++count_;
  const std::string ours = fmt::format("v{}x{}", ::getpid(), link);
  const bool made = run(fmt::format("link add {} type veth peer name e0 netns {}", ours, n)) &&
                    run(fmt::format("addr add 10.{}.{}.1/30 dev {}", own_subnet(), link, ours)) &&
                    run(fmt::format("link set {} up", ours)) &&
                    run(fmt::format("-n {} addr add {}/30 dev e0", n, host(link))) &&
                    run(fmt::format("-n {} link set lo up", n)) && run(fmt::format("-n {} link set e0 up", n));
  return made ? link : -1;
}

void Links::set_up(int link, bool up) const {
  run(fmt::format("-n {} link set e0 {}", name(link), up ? "up" : "down"));
}

Links::~Links() {
  for (int link = 0; link < count_; ++link) run("netns del " + name(link));
}

}  // namespace hp::chaos

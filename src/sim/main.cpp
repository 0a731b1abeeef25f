// The fake node as a program, for the chaos test and the gateway's benchmarks.
//   fake_node --port 9001 [--address unix:/x] [--pace-us 20000] [--prefill-us 0] [--cached-blocks 4096] [--model fake]
//   [--heartbeat-ms 100] [--foreign]
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/log.h"
#include "sim/fake_node.h"

int main(int argc, char** argv) {
  hp::log::configure({.level = hp::log::Level::warn});
  hp::FakeNodeOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--foreign") {
      options.journal = false;
      options.heartbeat = {};
      continue;
    }
    const char* value = i + 1 < argc ? argv[++i] : "";
    if (flag == "--port")
      options.port = static_cast<std::uint16_t>(std::atoi(value));
    else if (flag == "--address")
      options.address = value;
    else if (flag == "--model")
      options.model = value;
    else if (flag == "--pace-us")
      options.token_pace = std::chrono::microseconds(std::atoll(value));
    else if (flag == "--prefill-us")
      options.prefill_per_token = std::chrono::microseconds(std::atoll(value));
    else if (flag == "--heartbeat-ms")
      options.heartbeat = std::chrono::milliseconds(std::atoll(value));
    else if (flag == "--cached-blocks")
      options.cached_blocks = static_cast<std::size_t>(std::atoll(value));
    else if (flag == "--max-streams")
      options.max_streams = static_cast<std::size_t>(std::atoll(value));
    else {
      std::fprintf(stderr, "fake_node: unknown flag %s\n", flag.c_str());
      return 2;
    }
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  hp::MetricsRegistry metrics;
  auto node = hp::FakeNode::start(options, metrics);
  if (!node) {
    std::fprintf(stderr, "fake_node: %s\n", node.error().message.c_str());
    return 1;
  }
  std::printf("fake_node on port %d\n", int{(*node)->port()});
  std::fflush(stdout);
  int received = 0;
  sigwait(&set, &received);
  return 0;
}

// Holds N streams open for a while and says how smoothly they flow: for bench/gateway_overhead.py.
//   stream_load --port 8000 --streams 2000 --seconds 10 --prompt-bytes 200
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "net/event_loop.h"
#include "net/http_client.h"

namespace {
using Clock = std::chrono::steady_clock;

struct Stream {
  Clock::time_point last{};
  std::uint64_t events = 0;
};
}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, long> flags{{"--port", 8000}, {"--streams", 1000}, {"--seconds", 10}, {"--prompt-bytes", 200}};
  for (int i = 1; i + 1 < argc; i += 2) flags[argv[i]] = std::atol(argv[i + 1]);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const auto loop = hp::net::EventLoop::create();
  auto http = hp::net::HttpClient::create(*loop);
  std::vector<Stream> streams(static_cast<std::size_t>(flags["--streams"]));
  std::vector<double> gaps;
  std::atomic<std::uint64_t> events{0}, open{0}, failed{0};
  std::atomic<bool> measuring{false};
  const std::string text(static_cast<std::size_t>(flags["--prompt-bytes"]), 'x');
  for (std::size_t i = 0; i < streams.size(); ++i) {
    const std::string body = fmt::format(
        R"({{"model":"fake","stream":true,"max_tokens":1000000,"seed":{},"messages":[{{"role":"user","content":"{}{}"}}]}})",
        i, text, i);
    http->start({.method = "POST",
                 .port = static_cast<std::uint16_t>(flags["--port"]),
                 .target = "/v1/chat/completions",
                 .headers = {{"Content-Type", "application/json"}},
                 .body = body,
                 .connect_timeout = std::chrono::seconds(20)},
                {.on_headers = [&](int status, const hp::net::Headers&) { status == 200 ? ++open : ++failed; },
                 .on_data =
                     [&, s = &streams[i]](std::string_view bytes) {
                       std::uint64_t count = 0;
                       for (auto at = bytes.find("data: "); at != std::string_view::npos;
                            at = bytes.find("data: ", at + 1))
                         ++count;
                       if (count == 0) return;
                       const auto now = Clock::now();
                       if (measuring && s->events > 0) {
                         events += count;
                         if (gaps.size() < 5'000'000)
                           gaps.push_back(std::chrono::duration<double>(now - s->last).count());
                       }
                       s->last = now;
                       s->events += count;
                     },
                 .on_done = [&](const hp::Status&) {}});
    if (i % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  for (int i = 0; i < 300 && open + failed < streams.size(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::printf("open %llu failed %llu\n", static_cast<unsigned long long>(open.load()),
              static_cast<unsigned long long>(failed.load()));
  std::fflush(stdout);
  measuring = true;
  std::this_thread::sleep_for(std::chrono::seconds(flags["--seconds"]));
  measuring = false;
  http.reset();
  std::ranges::sort(gaps);
  const auto q = [&](double p) {
    return gaps.empty() ? 0 : gaps[static_cast<std::size_t>(p * double(gaps.size() - 1))];
  };
  std::printf(R"({"open":%llu,"failed":%llu,"events_per_s":%.0f,"gap_p50_ms":%.1f,"gap_p99_ms":%.1f,"gap_max_ms":%.1f})"
              "\n",
              static_cast<unsigned long long>(open.load()), static_cast<unsigned long long>(failed.load()),
              double(events.load()) / double(flags["--seconds"]), q(0.5) * 1000, q(0.99) * 1000, q(1) * 1000);
  return 0;
}

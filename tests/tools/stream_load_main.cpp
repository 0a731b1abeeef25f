// Holds N streams open for a while and says how smoothly they flow and whether an event is missing: for
// bench/gateway_overhead.py. Plain epoll and one buffer, so that it costs a fraction of what it measures. Its prompts
// ask the fake node for an event per token.
//   stream_load --port 8000 --streams 2000 --seconds 30 --prompt-bytes 200 --open-per-s 2000
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {
using Clock = std::chrono::steady_clock;

struct Stream {
  int fd = -1;
  bool begun = false;
  std::string rest;  // the unfinished event at the end of the last read
  std::uint64_t events = 0;
  Clock::time_point last{};
};

struct Totals {
  std::size_t open = 0, failed = 0, ended = 0;
  std::uint64_t events = 0, misplaced = 0;  // misplaced: not the number that follows the one before
  std::vector<float> gaps;
};

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return double(t.tv_sec) + double(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Load {
 public:
  explicit Load(std::map<std::string, long> flags)
      : flags_(std::move(flags)), streams_(std::size_t(flags_["--streams"])) {
    totals_.gaps.reserve(std::size_t(4) << 20);
  }

  int run() {
    const auto begin = Clock::now();
    std::size_t asked = 0;
    while (totals_.open + totals_.failed < streams_.size()) {
      const double elapsed = std::chrono::duration<double>(Clock::now() - begin).count();
      if (elapsed > 120) break;
      const auto due = std::size_t(elapsed * double(flags_["--open-per-s"])) + 1;
      for (; asked < std::min(due, streams_.size()); ++asked) ask(asked);
      turn(1);
    }
    std::printf("open %zu failed %zu\n", totals_.open, totals_.failed);
    std::fflush(stdout);
    const auto settled = Clock::now() + std::chrono::seconds(flags_["--settle"]);
    while (Clock::now() < settled) turn(20);
    std::puts("measuring");
    std::fflush(stdout);
    measuring_ = true;
    const double cpu = cpu_seconds();
    const auto from = Clock::now(), until = from + std::chrono::seconds(flags_["--seconds"]);
    while (Clock::now() < until) turn(20);
    report(std::chrono::duration<double>(Clock::now() - from).count(), cpu_seconds() - cpu);
    return 0;
  }

 private:
  void ask(std::size_t number) {
    Stream& stream = streams_[number];
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(std::uint16_t(flags_["--port"]));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    stream.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const std::string body = fmt::format(
        R"({{"model":"fake","stream":true,"max_tokens":1000000,"seed":{},"messages":[{{"role":"user","content":"endless steady {}{}"}}]}})",
        number, std::string(std::size_t(flags_["--prompt-bytes"]), 'x'), number);
    const std::string request = fmt::format(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: {}\r\n\r\n{}",
        body.size(), body);
    epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = number}};
    if (stream.fd < 0 || ::connect(stream.fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 ||
        ::send(stream.fd, request.data(), request.size(), MSG_NOSIGNAL) != ssize_t(request.size()) ||
        ::epoll_ctl(epoll_, EPOLL_CTL_ADD, stream.fd, &event) != 0) {
      std::perror("stream_load");
      close(stream);
    }
  }

  void turn(int wait_ms) {
    const int count = ::epoll_wait(epoll_, ready_.data(), int(ready_.size()), wait_ms);
    for (int i = 0; i < count; ++i) read(streams_[ready_[std::size_t(i)].data.u64]);
  }

  void read(Stream& stream) {
    while (stream.fd >= 0) {
      const ssize_t got = ::recv(stream.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (got <= 0) return close(stream);
      take(stream, {buffer_.data(), std::size_t(got)});
      if (std::size_t(got) < buffer_.size()) return;
    }
  }

  // Every event is "id: <stream>:<number>…", "data: …" and an empty line; heartbeats are not passed on to clients.
  void take(Stream& stream, std::string_view bytes) {
    std::string whole;
    if (!stream.rest.empty()) bytes = whole = std::exchange(stream.rest, {}).append(bytes);
    if (!stream.begun) {
      if (bytes.find("\r\n\r\n") == bytes.npos) return void(stream.rest = bytes);
      if (!bytes.starts_with("HTTP/1.1 200")) return close(stream);
      stream.begun = true;
      ++totals_.open;
    }
    std::uint64_t count = 0;
    for (std::size_t end = 0; (end = bytes.find("\n\n")) != bytes.npos; bytes.remove_prefix(end + 2)) {
      const std::string_view event = bytes.substr(0, end);
      std::uint64_t number = ~std::uint64_t{0};
      if (const auto id = event.find("id: "), colon = event.find(':', id + 4); id != event.npos && colon != event.npos)
        std::from_chars(event.data() + colon + 1, event.data() + event.size(), number);
      if (number != stream.events + count++) ++totals_.misplaced;
    }
    if (bytes != "\r\n") stream.rest = bytes;  // that is only a chunk's end
    if (count == 0) return;
    const auto now = Clock::now();
    if (measuring_) {
      totals_.events += count;
      if (stream.events > 0) totals_.gaps.push_back(std::chrono::duration<float>(now - stream.last).count());
    }
    stream.last = now;
    stream.events += count;
  }

  // None of them comes to its end by itself.
  void close(Stream& stream) {
    stream.begun ? ++totals_.ended : ++totals_.failed;
    if (stream.fd >= 0) ::close(std::exchange(stream.fd, -1));
  }

  void report(double seconds, double cpu) {
    auto& gaps = totals_.gaps;
    std::ranges::sort(gaps);
    const auto q = [&](double p) { return gaps.empty() ? 0 : 1000 * gaps[std::size_t(p * double(gaps.size() - 1))]; };
    const auto silent = std::ranges::count(streams_, std::uint64_t{0}, &Stream::events);
    fmt::print(
        R"({{"open":{},"failed":{},"ended":{},"silent":{},"misplaced":{},"events_per_s":{:.0f},"gap_p50_ms":{:.1f},)"
        R"("gap_p99_ms":{:.1f},"gap_max_ms":{:.1f},"client_cores":{:.2f}}})"
        "\n",
        totals_.open, totals_.failed, totals_.ended, silent, totals_.misplaced, double(totals_.events) / seconds,
        q(0.5), q(0.99), q(1), cpu / seconds);
  }

  std::map<std::string, long> flags_;
  std::vector<Stream> streams_;
  Totals totals_;
  bool measuring_ = false;
  const int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  std::array<epoll_event, 1024> ready_{};
  std::array<char, 64 << 10> buffer_{};
};

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, long> flags{{"--port", 8000},        {"--streams", 1000},    {"--seconds", 10},
                                    {"--prompt-bytes", 200}, {"--open-per-s", 2000}, {"--settle", 2}};
  for (int i = 1; i + 1 < argc; i += 2) flags[argv[i]] = std::atol(argv[i + 1]);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  return Load(std::move(flags)).run();
}

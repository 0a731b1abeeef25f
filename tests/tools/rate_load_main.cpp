// Sends requests at a fixed rate, whether or not the answers keep up, and says how long each took from the moment it
// was due: for bench/gateway_overhead.py and bench/gateway_redis.py. Every prompt begins differently.
//   rate_load --port 8000 --rate 50 --seconds 20 --prompt-bytes 460800 --max-tokens 4 --idempotency 0 --cacheable 0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/event_loop.h"
#include "net/http_client.h"

namespace {
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point from) {
  return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

double quantile(std::vector<double>& values, double p) {
  std::ranges::sort(values);
  return values.empty() ? 0 : values[static_cast<std::size_t>(p * double(values.size() - 1))];
}

// What one request has shown so far; the client's loop is the only writer.
struct Answer {
  Clock::time_point due;
  int status = 0;
  bool complete = false;
  double first_ms = 0, whole_ms = 0;
};

hp::net::ClientRequest request_of(const std::map<std::string, long>& flags, long number) {
  hp::net::ClientRequest request{.method = "POST",
                                 .port = static_cast<std::uint16_t>(flags.at("--port")),
                                 .target = "/v1/chat/completions",
                                 .headers = {{"Content-Type", "application/json"}}};
  // The process id keeps keys of two runs apart.
  if (flags.at("--idempotency") != 0)
    request.headers.emplace_back("Idempotency-Key", fmt::format("load-{}-{}", ::getpid(), number));
  request.body = fmt::format(
      R"({{"model":"fake","stream":true,"temperature":{},"max_tokens":{},"messages":[{{"role":"user","content":"{:012} endless {}"}}]}})",
      flags.at("--cacheable") != 0 ? 0 : 1, flags.at("--max-tokens"), number,
      std::string(static_cast<std::size_t>(flags.at("--prompt-bytes")), 'x'));
  return request;
}
}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, long> flags{{"--port", 8000},        {"--rate", 50},      {"--seconds", 20},
                                    {"--prompt-bytes", 200}, {"--max-tokens", 4}, {"--idempotency", 0},
                                    {"--cacheable", 0}};
  for (int i = 1; i + 1 < argc; i += 2) flags[argv[i]] = std::atol(argv[i + 1]);
  const auto loop = hp::net::EventLoop::create();
  auto http = hp::net::HttpClient::create(*loop);
  std::vector<Answer> answers(static_cast<std::size_t>(flags["--rate"] * flags["--seconds"]));
  std::atomic<std::size_t> ended{0};
  const auto begin = Clock::now();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    Answer& answer = answers[i];
    answer.due = begin + std::chrono::nanoseconds(static_cast<std::int64_t>(i) * 1'000'000'000 / flags["--rate"]);
    auto request = request_of(flags, static_cast<long>(i));
    std::this_thread::sleep_until(answer.due);
    http->start(std::move(request),
                {.on_headers = [&answer](int status, const hp::net::Headers&) { answer.status = status; },
                 .on_data =
                     [&answer](std::string_view bytes) {
                       if (answer.first_ms == 0) answer.first_ms = ms_since(answer.due);
                       answer.complete = answer.complete || bytes.ends_with("data: [DONE]\n\n");
                     },
                 .on_done =
                     [&answer, &ended](const hp::Status& outcome) {
                       answer.whole_ms = ms_since(answer.due);
                       answer.complete = answer.complete && outcome && answer.status == 200;
                       ++ended;
                     }});
  }
  while (ended < answers.size()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  http.reset();
  std::vector<double> first, whole;
  for (const Answer& answer : answers) {
    if (!answer.complete) continue;
    first.push_back(answer.first_ms);
    whole.push_back(answer.whole_ms);
  }
  fmt::print(
      R"({{"requests":{},"failed":{},"first_p50_ms":{:.2f},"first_p99_ms":{:.2f},"p50_ms":{:.2f},"p99_ms":{:.2f},)"
      R"("max_ms":{:.2f}}})"
      "\n",
      answers.size(), answers.size() - whole.size(), quantile(first, 0.5), quantile(first, 0.99), quantile(whole, 0.5),
      quantile(whole, 0.99), quantile(whole, 1));
  return 0;
}

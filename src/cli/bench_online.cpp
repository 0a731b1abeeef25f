#include <charconv>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "cli/bench.h"
#include "net/http_client.h"
#include "net/sse.h"

namespace hp::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Address {
  std::string host;
  std::uint16_t port = 80;
  bool tls = false;
};

Result<Address> address_of(const std::string& url) {
  Address a;
  std::string_view rest = url;
  if (rest.starts_with("unix:")) return Address{.host = url};
  if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
    a.tls = true, a.port = 443;
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  }
  rest = rest.substr(0, rest.find('/'));
  const std::size_t colon = rest.rfind(':');
  a.host = rest.substr(0, colon);
  if (colon != std::string_view::npos) {
    const std::string_view port = rest.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), a.port);
    if (error != std::errc() || end != port.data() + port.size())
      return fail(ErrorCode::invalid_argument, "--url: expected http://host:port, found '{}'", url);
  }
  if (a.host.empty()) return fail(ErrorCode::invalid_argument, "--url: expected http://host:port, found '{}'", url);
  return a;
}

std::string body_of(const OnlinePlan& plan, std::uint64_t number) {
  std::string body;
  JsonWriter w(body);
  w.begin_object().member("model", plan.model).key("prompt").begin_array();
  // Every prompt begins differently, so that no prefix cache answers it; small ids are in every vocabulary.
  std::mt19937_64 random(static_cast<std::uint64_t>(plan.seed) * 1'000'003 + number);
  for (std::int64_t i = 0; i < plan.prompt_tokens; ++i) w.value(static_cast<std::int64_t>(100 + random() % 900));
  w.end_array()
      .member("max_tokens", plan.answer_tokens)
      .member("temperature", std::int64_t{0})
      .member("ignore_eos", true);
  w.member("stream", true).key("stream_options").begin_object().member("include_usage", true).end_object().end_object();
  return body;
}

/// Runs requests until their number is reached; callbacks come on the client's loop, the rest waits.
class Load {
 public:
  Load(const OnlinePlan& plan, const Address& address, std::int64_t streams, std::int64_t requests)
      : plan_(plan), address_(address), requests_(requests), client_(net::HttpClient::create()) {
    row_.streams = streams;
  }

  OnlineRow run() {
    const auto start = Clock::now();
    if (plan_.rate > 0) {
      start_at_random_times(start);
    } else {
      for (std::int64_t i = 0; i < row_.streams; ++i) start_next();
    }
    std::unique_lock lock(mutex_);
    all_done_.wait(lock, [this] { return done_ == requests_; });
    row_.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return row_;
  }

 private:
  struct Stream {
    Clock::time_point start, last;
    bool any = false;
    int status = 0;
    std::string error_body;
    net::SseParser parser;
    std::int64_t tokens = 0;
  };

  void start_at_random_times(Clock::time_point start) {
    std::mt19937_64 random(static_cast<std::uint64_t>(plan_.seed));
    std::exponential_distribution<double> gap(plan_.rate);
    double at = 0;
    for (std::int64_t i = 0; i < requests_; ++i) {
      at += gap(random);
      std::this_thread::sleep_until(start +
                                    std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(at)));
      start_next();
    }
  }

  void start_next() {
    std::int64_t number = 0;
    {
      const std::lock_guard lock(mutex_);
      if (started_ == requests_) return;
      number = started_++;
    }
    auto stream = std::make_shared<Stream>();
    net::ClientRequest request{.method = "POST",
                               .host = address_.host,
                               .port = address_.port,
                               .tls = address_.tls,
                               .target = "/v1/completions",
                               .headers = {{"content-type", "application/json"}},
                               .body = body_of(plan_, static_cast<std::uint64_t>(number)),
                               .read_timeout = std::chrono::minutes(10)};
    if (!plan_.api_key.empty()) request.headers.emplace_back("authorization", "Bearer " + plan_.api_key);
    stream->start = Clock::now();
    client_->start(std::move(request),
                   {.on_headers = [stream](int status, const net::Headers&) { stream->status = status; },
                    .on_data = [this, stream](std::string_view bytes) { take(*stream, bytes); },
                    .on_done = [this, stream](const Status& outcome) { finish(*stream, outcome); }});
  }

  void take(Stream& stream, std::string_view bytes) {
    if (stream.status != 200) {
      if (stream.error_body.size() < 500) stream.error_body += bytes;
      return;
    }
    stream.parser.push(bytes, [&](const net::SseEvent& event) { take_event(stream, event.data); });
  }

  void take_event(Stream& stream, const std::string& data) {
    const auto body = JsonValue::parse(data);
    if (!body) return;  // [DONE]
    if (const JsonValue* usage = body->find("usage"); usage != nullptr && !usage->is_null()) {
      if (const JsonValue* tokens = usage->find("completion_tokens")) stream.tokens = tokens->as_int().value_or(0);
    }
    const JsonValue* choices = body->find("choices");
    if (choices == nullptr || choices->as_array() == nullptr || choices->as_array()->empty()) return;
    const JsonValue* text = choices->as_array()->front().find("text");
    if (text == nullptr || text->as_string() == nullptr || text->as_string()->empty()) return;
    const auto now = Clock::now();
    const std::chrono::duration<double> gap = now - (stream.any ? stream.last : stream.start);
    (stream.any ? row_.between_tokens_s : row_.first_token_s).push_back(gap.count());
    stream.any = true;
    stream.last = now;
  }

  void finish(Stream& stream, const Status& outcome) {
    start_next();
    const std::lock_guard lock(mutex_);
    if (outcome && stream.status == 200 && stream.tokens > 0) {
      ++row_.finished;
      row_.answer_tokens += stream.tokens;
    } else {
      ++row_.failed;
      if (row_.first_error.empty())
        row_.first_error =
            outcome ? fmt::format("status {}: {}", stream.status, stream.error_body) : outcome.error().message;
    }
    if (++done_ == requests_) all_done_.notify_one();
  }

  const OnlinePlan& plan_;
  const Address address_;
  const std::int64_t requests_;
  OnlineRow row_;
  std::mutex mutex_;
  std::condition_variable all_done_;
  std::int64_t started_ = 0, done_ = 0;
  std::unique_ptr<net::HttpClient> client_;  // last: its loop calls into all of the above
};

}  // namespace

Result<OnlineRow> bench_online(const OnlinePlan& plan, std::int64_t streams) {
  HP_TRY(const Address address, address_of(plan.url));
  const std::int64_t requests = plan.requests > 0 ? plan.requests : 2 * streams;
  OnlineRow row = Load(plan, address, streams, requests).run();
  if (row.finished == 0)
    return fail(ErrorCode::unavailable, "{}: none of {} requests was answered; the first: {}", plan.url, requests,
                row.first_error);
  return row;
}

}  // namespace hp::cli

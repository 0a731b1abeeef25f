// The HTTP/1.1 client: one connection per request ("Connection: close"), streaming answers, cancel at any time. Does no
// TLS, no redirects, no connection reuse.
#include "net/http_client.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <future>
#include <thread>
#include <unordered_map>

#include "net/limits.h"

namespace hp::net {
namespace {
namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Endpoint = asio::generic::stream_protocol::endpoint;

constexpr std::string_view kUnixPrefix = "unix:";

class Exchange final : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(asio::io_context& io, ClientRequest request, ClientCallbacks callbacks, std::function<void()> finished)
      : socket_(io),
        resolver_(io),
        timer_(io),
        request_(std::move(request)),
        callbacks_(std::move(callbacks)),
        finished_(std::move(finished)) {
    parser_.header_limit(kClientMaxHeaderBytes);
    parser_.body_limit(request_.max_body_bytes);
    parser_.skip(request_.method == "HEAD");
    parser_.eager(true);
  }

  void start() {
    arm(request_.connect_timeout, "no connection");
    if (request_.host.starts_with(kUnixPrefix)) {
      const std::string path = request_.host.substr(kUnixPrefix.size());
      if (path.empty() || path.size() > 107)
        return finish(fail(ErrorCode::invalid_argument, "a Unix socket's path needs 1 to 107 bytes: '{}'", path));
      return connect({Endpoint(asio::local::stream_protocol::endpoint(path))}, 0);
    }
    resolver_.async_resolve(request_.host, std::to_string(request_.port),
                            [self = shared_from_this()](const error_code& error, const auto& results) {
                              if (error) return self->finish(self->broken("cannot resolve", error));
                              std::vector<Endpoint> all;
                              for (const auto& result : results) all.emplace_back(result.endpoint());
                              self->connect(std::move(all), 0);
                            });
  }

  void finish(Status outcome) {
    if (done_) return;
    done_ = true;
    ++generation_;
    timer_.cancel();
    resolver_.cancel();
    error_code ignored;
    socket_.close(ignored);
    const auto callbacks = std::move(callbacks_);
    finished_();
    if (callbacks.on_done) callbacks.on_done(std::move(outcome));
  }

 private:
  [[nodiscard]] std::string name() const {
    return request_.host.starts_with(kUnixPrefix) ? request_.host : fmt::format("{}:{}", request_.host, request_.port);
  }
  [[nodiscard]] tl::unexpected<Error> broken(std::string_view what, const error_code& error) const {
    return fail(ErrorCode::unavailable, "{} {}: {}", what, name(), error.message());
  }

  void arm(std::chrono::milliseconds timeout, std::string_view what) {
    const auto generation = ++generation_;
    timer_.expires_after(timeout);
    timer_.async_wait([self = shared_from_this(), generation, timeout, what](const error_code& error) {
      if (error || generation != self->generation_) return;
      self->finish(fail(ErrorCode::deadline_exceeded, "{} from {} within {} ms", what, self->name(), timeout.count()));
    });
  }

  void connect(std::vector<Endpoint> endpoints, std::size_t at) {
    if (done_) return;
    error_code ignored;
    socket_.close(ignored);
    const Endpoint endpoint = endpoints[at];
    socket_.async_connect(
        endpoint, [self = shared_from_this(), endpoints = std::move(endpoints), at](const error_code& error) mutable {
          if (self->done_) return;
          if (!error) return self->send();
          if (at + 1 < endpoints.size()) return self->connect(std::move(endpoints), at + 1);
          self->finish(self->broken("cannot connect to", error));
        });
  }

  void send() {
    output_ = fmt::format("{} {} HTTP/1.1\r\n", request_.method, request_.target);
    const bool is_unix = request_.host.starts_with(kUnixPrefix);
    output_ += fmt::format("Host: {}\r\nConnection: close\r\n", is_unix ? "localhost" : name());
    if (!request_.body.empty() || request_.method == "POST" || request_.method == "PUT")
      output_ += fmt::format("Content-Length: {}\r\n", request_.body.size());
    for (const auto& [key, value] : request_.headers) {
      if ((key + value).find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos)
        return finish(fail(ErrorCode::invalid_argument, "the header '{}' holds a line break", key));
      output_ += fmt::format("{}: {}\r\n", key, value);
    }
    output_ += "\r\n" + request_.body;
    arm(request_.read_timeout, "no answer");
    // Reading starts at once: a server may refuse a large body before it has read it.
    asio::async_write(socket_, asio::buffer(output_), [self = shared_from_this()](const error_code&, std::size_t) {});
    read();
  }

  void read() {
    if (done_) return;
    socket_.async_read_some(asio::buffer(chunk_),
                            [self = shared_from_this()](const error_code& error, std::size_t count) {
                              if (!self->done_) self->on_read(error, count);
                            });
  }

  void on_read(const error_code& error, std::size_t count) {
    if (error == asio::error::eof) {
      error_code end;
      if (parser_.got_some()) parser_.put_eof(end);
      if (parser_.is_done() && !end) return deliver() ? finish({}) : void();
      return finish(fail(ErrorCode::unavailable, "{} closed the connection before its answer was complete", name()));
    }
    if (error) return finish(broken("lost the connection to", error));
    arm(request_.read_timeout, "no further byte");
    const auto space = input_.prepare(count);
    std::copy_n(chunk_.data(), count, static_cast<char*>(space.data()));
    input_.commit(count);
    while (input_.size() > 0 && !parser_.is_done()) {
      error_code wrong;
      const auto used = parser_.put(input_.data(), wrong);
      input_.consume(used);
      if (wrong == http::error::need_more) break;
      if (wrong == http::error::body_limit)
        return finish(fail(ErrorCode::resource_exhausted, "the answer of {} is larger than {} bytes", name(),
                           request_.max_body_bytes));
      if (wrong)
        return finish(fail(ErrorCode::corrupt_data, "{} answered with invalid HTTP: {}", name(), wrong.message()));
      if (used == 0) break;
    }
    if (!deliver()) return;
    if (parser_.is_done()) return finish({});
    read();
  }

  // False when a callback ended the exchange.
  bool deliver() {
    if (parser_.is_header_done() && !std::exchange(headers_given_, true) && callbacks_.on_headers) {
      Headers headers;
      for (const auto& field : parser_.get()) {
        std::string key(field.name_string());
        std::ranges::transform(key, key.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
        headers.emplace_back(std::move(key), std::string(field.value()));
      }
      callbacks_.on_headers(static_cast<int>(parser_.get().result_int()), headers);
    }
    if (done_) return false;
    const std::string body = std::exchange(parser_.get().body(), {});
    if (!body.empty() && callbacks_.on_data) callbacks_.on_data(body);
    return !done_;
  }

  struct AnswerParser : http::response_parser<http::string_body> {
    using http::response_parser<http::string_body>::response_parser;
  };

  asio::generic::stream_protocol::socket socket_;
  asio::ip::tcp::resolver resolver_;
  asio::steady_timer timer_;
  ClientRequest request_;
  ClientCallbacks callbacks_;
  std::function<void()> finished_;
  AnswerParser parser_;
  boost::beast::flat_buffer input_;
  std::array<char, kReadChunkBytes> chunk_;
  std::string output_;
  std::uint64_t generation_ = 0;
  bool done_ = false, headers_given_ = false;
};

class LoopClient final : public HttpClient {
 public:
  LoopClient() : work_(asio::make_work_guard(io_)), thread_([this] { io_.run(); }) {}
  ~LoopClient() override {
    asio::post(io_, [this] {
      stopping_ = true;
      const auto all = exchanges_;
      for (const auto& [handle, exchange] : all)
        exchange->finish(fail(ErrorCode::cancelled, "the HTTP client is shutting down"));
    });
    work_.reset();
    thread_.join();
  }
  LoopClient(const LoopClient&) = delete;
  LoopClient& operator=(const LoopClient&) = delete;

  Handle start(ClientRequest request, ClientCallbacks callbacks) override {
    const Handle handle = next_++;
    auto exchange = std::make_shared<Exchange>(io_, std::move(request), std::move(callbacks),
                                               [this, handle] { exchanges_.erase(handle); });
    asio::post(io_, [this, handle, exchange = std::move(exchange)] {
      if (stopping_) return exchange->finish(fail(ErrorCode::cancelled, "the HTTP client is shutting down"));
      exchanges_.emplace(handle, exchange);
      exchange->start();
    });
    return handle;
  }

  void cancel(Handle handle) override {
    asio::post(io_, [this, handle] {
      const auto found = exchanges_.find(handle);
      if (found == exchanges_.end()) return;
      const auto exchange = found->second;
      exchange->finish(fail(ErrorCode::cancelled, "the request was cancelled"));
    });
  }

 private:
  std::unordered_map<Handle, std::shared_ptr<Exchange>> exchanges_;  // loop only
  bool stopping_ = false;                                            // loop only
  std::atomic<Handle> next_{1};
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<HttpClient> HttpClient::create() {
  return std::make_unique<LoopClient>();
}

Result<HttpResponse> HttpClient::fetch(ClientRequest request) {
  HttpResponse response;
  std::promise<Status> done;
  start(std::move(request), {.on_headers =
                                 [&](int status, const Headers& headers) {
                                   response.status = status;
                                   response.headers = headers;
                                   for (const auto& [name, value] : headers)
                                     if (name == "content-type") response.content_type = value;
                                 },
                             .on_data = [&](std::string_view bytes) { response.body += bytes; },
                             .on_done = [&](Status outcome) { done.set_value(std::move(outcome)); }});
  HP_TRY_VOID(done.get_future().get());
  return response;
}

}  // namespace hp::net

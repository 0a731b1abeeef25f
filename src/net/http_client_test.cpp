#include "net/http_client.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>

#include "net/http_server.h"

namespace hp::net {
namespace {

class HttpClientTest : public testing::Test {
 protected:
  void serve(const std::string& address = "127.0.0.1") {
    auto server = HttpServer::start(
        {.address = address, .port = 0},
        [this](HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
          if (request.path == "/hang") {
            writer->on_disconnect([this] { ++disconnects_; });
            writer->begin_stream(200, {}, "text/event-stream");
            writer->write("data: 1\n\n");
            held_ = writer;
          } else if (request.path == "/stream") {
            writer->begin_stream(200, {{"X-Id", "7"}}, "text/plain");
            for (int i = 0; i < 1000; ++i) writer->write(fmt::format("{},", i));
            writer->end();
          } else {
            writer->send({.status = 404, .headers = {}, .body = request.method + request.body});
          }
        },
        metrics_);
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
  }
  MetricsRegistry metrics_;
  std::atomic<int> disconnects_{0};
  std::shared_ptr<ResponseWriter> held_;
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<HttpClient> client_ = HttpClient::create();
};

TEST_F(HttpClientTest, FetchesAnswersAndStreams) {
  serve();
  const auto plain = client_->fetch({.method = "POST", .port = server_->port(), .body = std::string(300'000, 'b')});
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_EQ(plain->status, 404);
  EXPECT_EQ(plain->body, "POST" + std::string(300'000, 'b'));
  EXPECT_EQ(plain->content_type, "application/json");
  const auto streamed = client_->fetch({.port = server_->port(), .target = "/stream"});
  ASSERT_TRUE(streamed) << streamed.error().message;
  std::string expected;
  for (int i = 0; i < 1000; ++i) expected += fmt::format("{},", i);
  EXPECT_EQ(streamed->body, expected);
  EXPECT_TRUE(std::ranges::count(streamed->headers, std::pair<std::string, std::string>("x-id", "7")) == 1);
}

TEST_F(HttpClientTest, CancelEndsAStreamOnceAndTheServerSeesIt) {
  serve();
  std::promise<void> first;
  std::promise<Status> done;
  const auto handle = client_->start({.port = server_->port(), .target = "/hang"},
                                     {.on_data = [&](std::string_view) { first.set_value(); },
                                      .on_done = [&](Status outcome) { done.set_value(std::move(outcome)); }});
  first.get_future().get();
  client_->cancel(handle);
  client_->cancel(handle);
  const auto outcome = done.get_future().get();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::cancelled);
  for (int i = 0; i < 12'000 && disconnects_ == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(disconnects_, 1);
}

TEST_F(HttpClientTest, ReportsWhatWentWrong) {
  serve();
  const auto port = server_->port();
  const auto silent = client_->fetch({.port = port, .target = "/hang", .read_timeout = std::chrono::milliseconds(50)});
  ASSERT_FALSE(silent);
  EXPECT_EQ(silent.error().code, ErrorCode::deadline_exceeded);
  const auto large = client_->fetch({.port = port, .target = "/stream", .max_body_bytes = 100});
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, ErrorCode::resource_exhausted);
  server_.reset();
  const auto refused = client_->fetch({.port = port});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unavailable);
}

TEST_F(HttpClientTest, KeepsAConnectionAndReplacesAClosedOne) {
  serve();
  const auto port = server_->port();
  for (int i = 0; i < 20; ++i) {
    const auto shared = std::make_shared<const std::string>("0123456789");
    const auto answer = client_->fetch(
        {.method = "POST", .port = port, .shared_body = shared, .shared_body_bytes = 4, .body = fmt::format("-{}", i)});
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, fmt::format("POST0123-{}", i));
    EXPECT_EQ(server_->connections(), 1u);
    EXPECT_EQ(client_->connections(), 1u);
  }
  server_.reset();
  auto again = HttpServer::start(
      {.port = port},
      [](HttpRequest, std::shared_ptr<ResponseWriter> writer) { writer->send({.headers = {}, .body = "new"}); },
      metrics_);
  ASSERT_TRUE(again) << again.error().message;
  const auto answer = client_->fetch({.port = port});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->body, "new");
  EXPECT_EQ(client_->connections(), 1u);
  const auto alone = client_->fetch({.port = port, .keep_alive = false});
  ASSERT_TRUE(alone);
  EXPECT_EQ(client_->connections(), 1u);
}

TEST_F(HttpClientTest, ServerClientAndTimersShareALoop) {
  const auto loop = EventLoop::create();
  std::atomic<int> inside{0};
  auto front = HttpServer::start(
      {.port = 0, .loop = loop.get(), .reuse_port = true},
      [&](HttpRequest, std::shared_ptr<ResponseWriter> writer) {
        if (loop->inside()) ++inside;
        loop->after(std::chrono::milliseconds(5), [writer] { writer->send({.headers = {}, .body = "later"}); });
        loop->cancel(loop->after(std::chrono::milliseconds(5), [&] { inside = -100; }));
      },
      metrics_);
  ASSERT_TRUE(front) << front.error().message;
  auto client = HttpClient::create(*loop);
  for (int i = 0; i < 5; ++i) {
    const auto answer = client->fetch({.port = (*front)->port()});
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, "later");
  }
  EXPECT_EQ(inside, 5);
  std::promise<Status> done;
  client->start({.port = (*front)->port()}, {.on_done = [&](Status outcome) { done.set_value(std::move(outcome)); }});
  client.reset();
  EXPECT_FALSE(done.get_future().get());
  front->reset();
}

TEST_F(HttpClientTest, SpeaksOverAUnixSocket) {
  const std::string address = fmt::format("unix:{}/hp_client_test_{}.sock", testing::TempDir(), ::getpid());
  serve(address);
  const auto answer = client_->fetch({.host = address, .target = "/x"});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->body, "GET");
}

}  // namespace
}  // namespace hp::net

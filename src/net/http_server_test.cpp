#include "net/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/json.h"

namespace hp::net {
namespace {

// A bare client: what it sends is exactly what the test says.
class RawClient {
 public:
  explicit RawClient(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawClient() { ::close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }
  void send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  /// Reads until `stop` is seen, the server closes, or two minutes of silence.
  [[nodiscard]] std::string read_until(std::string_view stop) const {
    std::string all;
    while (stop.empty() || all.find(stop) == std::string::npos) {
      pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
      char chunk[4096];
      if (::poll(&ready, 1, 120'000) <= 0) return all + "<silence>";
      const auto n = ::recv(fd_, chunk, sizeof chunk, 0);
      if (n <= 0) break;
      all.append(chunk, static_cast<std::size_t>(n));
    }
    return all;
  }
  [[nodiscard]] std::string read_all() const { return read_until(""); }

 private:
  int fd_;
  bool connected_ = false;
};

bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 12'000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return condition();
}

class HttpServerTest : public testing::Test {
 protected:
  void serve(ServerOptions options = {}) {
    options.port = 0;
    auto server = HttpServer::start(
        options, [this](HttpRequest request, std::shared_ptr<ResponseWriter> writer) { handle(request, writer); },
        metrics_);
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
  }
  void handle(const HttpRequest& request, const std::shared_ptr<ResponseWriter>& writer) {
    if (request.path == "/hang") {
      writer->on_disconnect([this] { ++disconnects_; });
      writer->begin_stream(200, {}, "text/event-stream");
      writer->write("data: 1\n\n");
      const std::lock_guard lock(mutex_);
      held_.push_back(writer);
    } else if (request.path == "/flood") {
      writer->on_disconnect([this] { ++disconnects_; });
      writer->begin_stream(200, {}, "text/plain");
      while (writer->write(std::string(64 << 10, 'x'))) {
      }
    } else if (request.path == "/stream") {
      std::thread([writer] {
        writer->begin_stream(200, {}, "text/plain");
        for (int i = 0; i < 3; ++i) writer->write("abc");
        writer->end();
      }).detach();
    } else if (request.path == "/drop") {
    } else {
      writer->send(
          {.status = 200, .headers = {}, .body = request.path + "|" + request.body, .content_type = "text/plain"});
    }
  }
  [[nodiscard]] std::string ask(std::string_view bytes) const {
    const RawClient client(server_->port());
    client.send(bytes);
    return client.read_all();
  }
  void TearDown() override {
    server_.reset();
    held_.clear();
  }

  MetricsRegistry metrics_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<ResponseWriter>> held_;
  std::atomic<int> disconnects_{0};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersAndCounts) {
  serve();
  const auto answer = ask("GET /a?b=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_TRUE(answer.ends_with("Content-Length: 3\r\n\r\n/a|")) << answer;
  EXPECT_NE(metrics_.render().find("homeport_http_requests_total{status=\"2xx\"} 1"), std::string::npos);
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  serve();
  std::string all;
  for (int i = 0; i < 50; ++i) all += fmt::format("POST /r{} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", i);
  const auto answer = ask(all + "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  std::size_t at = 0;
  for (int i = 0; i < 50; ++i) {
    at = answer.find(fmt::format("/r{}|hi", i), at);
    ASSERT_NE(at, std::string::npos) << i;
  }
  EXPECT_TRUE(answer.ends_with("/last|"));
}

TEST_F(HttpServerTest, TakesARequestByteByByteAndInChunks) {
  serve();
  const RawClient client(server_->port());
  for (const char c :
       std::string_view("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                        "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"))
    client.send(std::string_view(&c, 1));
  EXPECT_TRUE(client.read_all().ends_with("/c|abcde"));
}

TEST_F(HttpServerTest, HeadHasALengthAndNoBody) {
  serve();
  EXPECT_TRUE(ask("HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("Content-Length: 3\r\n\r\n"));
}

TEST_F(HttpServerTest, ContinuesAnExpectantClient) {
  serve();
  const RawClient client(server_->port());
  client.send("POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  EXPECT_TRUE(client.read_all().ends_with("/e|ok"));
}

TEST_F(HttpServerTest, StreamsInChunksFromAnotherThread) {
  serve();
  const auto answer = ask("GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(answer.ends_with("3\r\nabc\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n")) << answer;
  EXPECT_TRUE(ask("GET /stream HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nabcabcabc"));
}

TEST_F(HttpServerTest, AHandlerThatDropsItsWriterAnswers500) {
  serve();
  EXPECT_TRUE(ask("GET /drop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 500 "));
}

TEST_F(HttpServerTest, RefusesWhatCouldSmuggleARequest) {
  serve();
  for (const std::string_view head : {
           "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
           "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
           "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
           "GET / HTTP/1.1\nHost: x\n\n",
           "GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\n",
           "GET / HTTP/1.1\r\n\r\n",
           "\x16\x03\x01 nonsense\r\n\r\n",
       }) {
    const auto answer = ask(head);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << head << "\n->\n" << answer;
    const auto json = JsonValue::parse(answer.substr(std::min(answer.size(), answer.find("\r\n\r\n") + 4)));
    ASSERT_TRUE(json) << answer;
    ASSERT_NE(json->find("error"), nullptr);
    for (const auto* key : {"message", "type", "param", "code"}) EXPECT_NE(json->find("error")->find(key), nullptr);
  }
}

TEST_F(HttpServerTest, LimitsHeadersAndBodies) {
  serve({.max_header_bytes = 1000, .max_body_bytes = 1000});
  const std::string big(200'000, 'a');
  EXPECT_TRUE(ask("GET / HTTP/1.1\r\nHost: x\r\nX: " + big + "\r\n\r\n").starts_with("HTTP/1.1 431 "));
  EXPECT_TRUE(ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + big).starts_with("HTTP/1.1 413 "));
  EXPECT_TRUE(ask("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n" + big + "\r\n0\r\n\r\n")
                  .starts_with("HTTP/1.1 413 "));
}

TEST_F(HttpServerTest, SlowRequestsAreCut) {
  serve({.header_timeout = std::chrono::milliseconds(100), .body_timeout = std::chrono::milliseconds(100)});
  EXPECT_TRUE(ask("GET / HTT").starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab").starts_with("HTTP/1.1 408 "));
  EXPECT_EQ(ask(""), "");
}

TEST_F(HttpServerTest, SeesEveryHangUp) {
  serve();
  for (int i = 0; i < 500; ++i) {
    const RawClient client(server_->port());
    client.send("GET /hang HTTP/1.1\r\nHost: x\r\n\r\n");
    ASSERT_NE(client.read_until("data: 1").find("data: 1"), std::string::npos);
  }
  EXPECT_TRUE(eventually([&] { return disconnects_ == 500; })) << disconnects_;
  for (const auto& writer : held_) EXPECT_FALSE(writer->write("late"));
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, CutsAReaderThatStops) {
  serve({.max_queued_bytes = 1 << 20});
  const RawClient client(server_->port());
  client.send("GET /flood HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return disconnects_ == 1; }));
}

TEST_F(HttpServerTest, TwoThousandConnectionsAndHealthStillAnswers) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < 4200) GTEST_SKIP() << "needs 4200 descriptors, found " << limit.rlim_cur;
  serve({.max_connections = 2000, .header_timeout = std::chrono::minutes(10)});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 2000; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    ASSERT_TRUE(clients.back()->connected());
    if (i == 500) {
      EXPECT_TRUE(ask("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("/health|"));
    }
  }
  EXPECT_TRUE(eventually([&] { return server_->connections() == 2000; })) << server_->connections();
  EXPECT_TRUE(ask("").starts_with("HTTP/1.1 503 "));
  for (const auto& client : clients) client->send("GET /n HTTP/1.1\r\nHost: x\r\n\r\n");
  for (const auto& client : clients) ASSERT_TRUE(client->read_until("/n|").ends_with("/n|"));
}

TEST_F(HttpServerTest, APortInUseIsOneClearSentence) {
  serve();
  const auto second = HttpServer::start(
      {.port = server_->port()}, [](auto, auto) {}, metrics_);
  ASSERT_FALSE(second);
  EXPECT_TRUE(second.error().message.starts_with(fmt::format("127.0.0.1:{} is in use", server_->port())));
}

TEST_F(HttpServerTest, DrainClosesIdleConnectionsAndFinishesAnswers) {
  serve();
  const RawClient idle(server_->port()), busy(server_->port());
  busy.send("GET /hang HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex_);
    return held_.size() == 1 && server_->connections() == 2;
  }));
  server_->begin_drain();
  EXPECT_EQ(idle.read_all(), "");
  held_[0]->end();
  EXPECT_TRUE(busy.read_all().ends_with("0\r\n\r\n"));
  EXPECT_EQ(disconnects_, 0);
}

}  // namespace
}  // namespace hp::net

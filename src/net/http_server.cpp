// Listening, accepting, the loop threads and shutting down. What happens on one connection is connection.cpp's.
#include "net/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "base/check.h"
#include "base/log.h"
#include "net/asio_loop.h"
#include "net/connection.h"
#include "net/limits.h"

namespace hp::net {
namespace {
namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::string_view kUnixPrefix = "unix:";

struct Listener {
  int fd = -1;
  int family = AF_INET;
  std::uint16_t port = 0;
  std::string unix_path;
};

Error system_error(std::string_view what, std::string_view address) {
  return Error{.code = ErrorCode::io_error, .message = fmt::format("{} {}: {}", what, address, std::strerror(errno))};
}

Result<Listener> bind_and_listen(Listener listener, const sockaddr* address, socklen_t size, const std::string& name,
                                 bool reuse_port = false) {
  listener.fd = ::socket(listener.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener.fd < 0) return fail(system_error("cannot open a socket for", name));
  const int on = 1;
  ::setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (reuse_port) ::setsockopt(listener.fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (::bind(listener.fd, address, size) == 0 && ::listen(listener.fd, kListenBacklog) == 0) return listener;
  const bool in_use = errno == EADDRINUSE;
  Error error = system_error("cannot listen on", name);
  ::close(listener.fd);
  if (in_use)
    return fail(ErrorCode::unavailable, "{} is in use by another program; stop it or choose another address or port",
                name);
  return fail(std::move(error));
}

Result<Listener> listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return fail(ErrorCode::invalid_argument, "a Unix socket's path needs 1 to {} bytes, found {}: '{}'",
                sizeof address.sun_path - 1, path.size(), path);
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  // A socket file left by a killed process answers no connect: only then is it removed.
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (probe >= 0) {
    if (::connect(probe, generic, sizeof address) != 0 && errno == ECONNREFUSED) ::unlink(path.c_str());
    ::close(probe);
  }
  return bind_and_listen({.family = AF_UNIX, .unix_path = path}, generic, sizeof address, "unix:" + path);
}

Result<Listener> listen_tcp(const std::string& host, std::uint16_t port, bool reuse_port) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  v4.sin_port = v6.sin6_port = htons(port);
  const std::string text = host == "localhost" ? "127.0.0.1" : host;
  const bool is_v4 = ::inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1;
  if (!is_v4 && ::inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) != 1)
    return fail(ErrorCode::invalid_argument,
                "the address to listen on must be an IP address, 'localhost' or 'unix:/path', found '{}'", host);
  const auto* address = is_v4 ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6);
  const auto size = static_cast<socklen_t>(is_v4 ? sizeof v4 : sizeof v6);
  const std::string name = is_v4 ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
  HP_TRY(Listener listener,
         bind_and_listen({.family = is_v4 ? AF_INET : AF_INET6, .unix_path = {}}, address, size, name, reuse_port));
  sockaddr_in6 bound{};  // the port stands at the same place in both families
  socklen_t length = sizeof bound;
  ::getsockname(listener.fd, reinterpret_cast<sockaddr*>(&bound), &length);
  listener.port = ntohs(bound.sin6_port);
  return listener;
}

std::string peer_name(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return fmt::format("{}:{}", ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text), ntohs(v4.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    return fmt::format("[{}]:{}", ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text), ntohs(v6.sin6_port));
  }
  return "unix";
}

class LoopServer final : public HttpServer {
 public:
  LoopServer(Listener listener, const ServerOptions& options, RequestHandler handler, MetricsRegistry& metrics)
      : listener_(std::move(listener)),
        loop_(dynamic_cast<AsioLoop*>(options.loop)),
        own_io_(loop_ ? nullptr : std::make_unique<asio::io_context>(std::max(1, options.threads))),
        io_(loop_ ? loop_->io() : *own_io_),
        work_(asio::make_work_guard(io_)),
        accept_strand_(asio::make_strand(io_)),
        acceptor_(accept_strand_, listener_.fd),
        retry_(accept_strand_),
        gauge_(metrics.gauge("homeport_http_connections", "Open HTTP connections")) {
    for (std::size_t i = 0; i < 5; ++i)
      by_class_.at(i) = &metrics.counter("homeport_http_requests_total", "Answered HTTP requests by status class",
                                         {{"status", fmt::format("{}xx", i + 1)}});
    host_.options = options;
    host_.handler = std::move(handler);
    host_.draining = [this] { return draining_.load(); };
    host_.count_request = [this](int status) {
      if (status >= 100 && status < 600) by_class_.at(static_cast<std::size_t>(status / 100 - 1))->add();
    };
    host_.count_failed_handshake =
        [&failed = metrics.counter("homeport_http_tls_failures_total", "TLS handshakes that failed")] { failed.add(); };
    host_.closed = [this](std::uint64_t id) { forget(id); };
    asio::post(accept_strand_, [this] { wait_for_clients(); });
    for (int i = 0; !loop_ && i < std::max(1, options.threads); ++i) threads_.emplace_back([this] { io_.run(); });
  }

  ~LoopServer() override {
    stopping_ = true;
    stop_accepting();
    for (const auto& connection : snapshot()) connection->close_soon();
    work_.reset();
    for (auto& thread : threads_) thread.join();  // the loop ends when every connection has closed
    if (loop_) {
      HP_CHECK(!loop_->inside(), "a server must not be destroyed on its own loop");
      std::unique_lock lock(mutex_);
      all_closed_.wait(lock, [this] { return connections_.empty(); });
      lock.unlock();
      loop_->run_and_wait([] {});  // what was posted before has run
    }
    if (!listener_.unix_path.empty()) ::unlink(listener_.unix_path.c_str());
  }
  LoopServer(const LoopServer&) = delete;
  LoopServer& operator=(const LoopServer&) = delete;

  [[nodiscard]] std::uint16_t port() const override { return listener_.port; }
  [[nodiscard]] std::size_t connections() const override {
    const std::lock_guard lock(mutex_);
    return connections_.size();
  }
  void begin_drain() override {
    draining_ = true;
    stop_accepting();
    for (const auto& connection : snapshot()) connection->close_if_idle_soon();
  }

 private:
  std::vector<std::shared_ptr<Connection>> snapshot() {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<Connection>> all;
    all.reserve(connections_.size());
    for (const auto& [id, connection] : connections_) all.push_back(connection);
    return all;
  }

  void stop_accepting() {
    asio::post(accept_strand_, [this] {
      // Who has connected already would be reset by the close: with a shared port that is every hand-over.
      if (acceptor_.is_open() && !stopping_) accept_waiting();
      error_code ignored;
      acceptor_.close(ignored);
      retry_.cancel();
    });
  }

  void wait_for_clients() {
    if (draining_ || stopping_ || !acceptor_.is_open()) return;
    acceptor_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const error_code& error) {
      if (!error) accept_all();
    });
  }

  // Returns the error that ended it.
  int accept_waiting() {
    for (;;) {
      sockaddr_storage address{};
      socklen_t size = sizeof address;
      const int fd = ::accept4(acceptor_.native_handle(), reinterpret_cast<sockaddr*>(&address), &size,
                               SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        adopt(fd, address);
      } else if (errno != EINTR && errno != ECONNABORTED) {
        return errno;
      }
    }
  }

  void accept_all() {
    if (!acceptor_.is_open() || draining_ || stopping_) return;
    const int error = accept_waiting();
    if (error == EAGAIN || error == EWOULDBLOCK) return wait_for_clients();
    log::warn("cannot accept a connection: {}; trying again in {} ms", std::strerror(error), kAcceptRetry.count());
    retry_.expires_after(kAcceptRetry);
    retry_.async_wait([this](const error_code& failed) {
      if (!failed) wait_for_clients();
    });
  }

  void adopt(int fd, const sockaddr_storage& address) {
    if (connections() >= host_.options.max_connections) {
      const std::string answer = encode_response(
          error_response(503, "The server has as many connections as it allows; try again later."), false, false);
      if (!host_.options.tls) (void)!::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      host_.count_request(503);
      ::close(fd);
      return;
    }
    const int on = 1;
    if (address.ss_family != AF_UNIX) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    // One thread needs no strand.
    Socket socket{loop_ || threads_.size() == 1 ? asio::any_io_executor(io_.get_executor())
                                                : asio::any_io_executor(asio::make_strand(io_))};
    error_code error;
    socket.assign(asio::generic::stream_protocol(listener_.family, 0), fd, error);
    if (!error) socket.non_blocking(true, error);
    if (error) {
      ::close(fd);
      return;
    }
    const auto id = next_id_++;
    const auto connection = std::make_shared<Connection>(std::move(socket), id, peer_name(address), host_);
    {
      const std::lock_guard lock(mutex_);
      connections_.emplace(id, connection);
    }
    gauge_.add(1);
    connection->start();
    if (stopping_) connection->close_soon();  // the destructor's snapshot may have come before
  }

  void forget(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    if (connections_.erase(id) > 0) gauge_.add(-1);
    if (connections_.empty()) all_closed_.notify_all();
  }

  Listener listener_;
  ConnectionHost host_;  // before io_: handlers left in the loop may still refer to it
  mutable std::mutex mutex_;
  std::atomic<bool> draining_{false}, stopping_{false};
  std::condition_variable all_closed_;
  AsioLoop* const loop_;
  const std::unique_ptr<asio::io_context> own_io_;
  asio::io_context& io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::strand<asio::io_context::executor_type> accept_strand_;
  asio::posix::stream_descriptor acceptor_;
  asio::steady_timer retry_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Connection>> connections_;
  std::uint64_t next_id_ = 1;
  Gauge& gauge_;
  std::array<Counter*, 5> by_class_{};
  std::vector<std::thread> threads_;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::start(const ServerOptions& options, RequestHandler handler,
                                                      MetricsRegistry& metrics) {
  const bool is_unix = options.address.starts_with(kUnixPrefix);
  auto listener = is_unix ? listen_unix(options.address.substr(kUnixPrefix.size()))
                          : listen_tcp(options.address, options.port, options.reuse_port);
  if (!listener) return fail(std::move(listener).error());
  return std::unique_ptr<HttpServer>(
      std::make_unique<LoopServer>(*std::move(listener), options, std::move(handler), metrics));
}

}  // namespace hp::net

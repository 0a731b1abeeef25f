// One client's connection: reads requests within the limits, hands them over,
// writes what the outbox holds, notices a client that hangs up. Everything runs
// on the connection's strand. Private to this room: Boost types live here.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "net/http_server.h"
#include "net/limits.h"
#include "net/request_head.h"
#include "net/response_outbox.h"
#include "net/tls.h"

namespace hp::net {

using Socket = boost::asio::generic::stream_protocol::socket;

/// What a connection shares with its server; outlives every connection.
struct ConnectionHost {
  ServerOptions options;
  RequestHandler handler;
  std::function<bool()> draining;
  std::function<void(int status)> count_request;
  std::function<void()> count_failed_handshake;
  std::function<void(std::uint64_t id)> closed;
};

class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Socket socket, std::uint64_t id, std::string peer, const ConnectionHost& host);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// From any thread: posted to the strand.
  void start();
  void close_soon();
  void close_if_idle_soon();

 private:
  enum class Phase { handshake, idle, head, body, answering, lingering, closed };
  struct Incoming;

  // connection_tls.cpp: the socket, through TLS where the server speaks it
  void begin_handshake();
  void shake_hands();
  void answer_plain_http();
  std::size_t socket_read(std::span<char> into, boost::system::error_code& error);
  std::size_t socket_write(std::string_view bytes, boost::system::error_code& error);

  void read_more();
  void on_readable();
  void on_bytes(std::string_view bytes);
  void take(std::string_view bytes);
  void take_head(std::string_view head, std::string_view rest);
  void take_chunks(std::string_view bytes);
  std::string_view take_body(std::string_view bytes);
  void keep(std::string_view rest);
  void dispatch();
  void flush();
  bool write_some();
  void after_write();
  void wait_writable();
  void finish_answer();
  void refuse(int status, std::string_view message);
  void refuse_invalid(const Error& error);
  void refuse_body();
  void linger();
  void arm(std::chrono::milliseconds timeout);
  void disarm() { deadline_ = kNever; }
  void watch();
  void on_timeout();
  void close();

  Socket socket_;
  std::unique_ptr<TlsSession> tls_;  // null: plain
  boost::asio::steady_timer timer_;
  const std::uint64_t id_;
  const std::string peer_;
  const ConnectionHost& host_;
  std::string input_;                   // read and not understood yet
  std::unique_ptr<Incoming> incoming_;  // the request whose body is being read
  std::size_t body_left_ = 0;           // of a length that the head said
  std::shared_ptr<ResponseOutbox> outbox_;
  std::string writing_;
  std::size_t written_ = 0, lingered_ = 0;
  static constexpr auto kNever = std::chrono::steady_clock::time_point::max();
  std::chrono::steady_clock::time_point deadline_ = kNever;
  Phase phase_ = Phase::idle;
  bool watching_ = false, reading_ = false, write_pending_ = false, last_batch_ = false, keep_alive_ = true,
       refused_ = false;
  int status_ = 0;
};

}  // namespace hp::net

// One request and its answer, on a connection that may have carried others before. Private to this room.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/asio_loop.h"
#include "net/http_client.h"
#include "net/response_parser.h"
#include "net/tls.h"

namespace hp::net {

class Exchange;

/// A connected socket. It always has one read wait pending, whose outcome goes to its owner; without an owner any
/// readiness means that the peer hung up.
struct Wire final : std::enable_shared_from_this<Wire> {
  explicit Wire(boost::asio::io_context& io) : socket(io) {}
  void wait();
  // Through TLS when the wire has it; "would block" also while TLS waits for the other direction.
  std::size_t read_some(std::span<char> into, boost::system::error_code& error);
  std::size_t write_some(std::string_view bytes, boost::system::error_code& error);

  boost::asio::generic::stream_protocol::socket socket;
  std::unique_ptr<TlsSession> tls;
  std::weak_ptr<Exchange> owner;
  std::chrono::steady_clock::time_point idle_since{};
  bool waiting = false, dead = false, connected = false;
};

/// What an exchange asks of the client it belongs to.
struct ExchangeHost {
  virtual ~ExchangeHost() = default;
  virtual AsioLoop& loop() = 0;
  virtual std::shared_ptr<Wire> take_idle(const std::string& peer) = 0;
  virtual void give_back(const std::string& peer, std::shared_ptr<Wire> wire) = 0;
  virtual void finished(HttpClient::Handle handle) = 0;
  virtual void count_connections(int change) = 0;
};

class Exchange final : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(ExchangeHost& host, HttpClient::Handle handle, ClientRequest request, ClientCallbacks callbacks);
  void begin();
  void finish(Status outcome);
  void on_readable();

 private:
  using Endpoint = boost::asio::generic::stream_protocol::endpoint;
  [[nodiscard]] tl::unexpected<Error> broken(std::string_view what, const boost::system::error_code& error) const;
  [[nodiscard]] std::string host_header() const;
  [[nodiscard]] std::string pool_key() const;
  void move_deadline(std::chrono::milliseconds timeout, std::string_view what);
  void arm(std::chrono::milliseconds timeout, std::string_view what);
  void watch();
  void open();
  void connect(std::vector<Endpoint> endpoints, std::size_t at);
  void secure();
  void shake_hands();
  void attach(std::shared_ptr<Wire> wire);
  Status encode_head();
  void send();
  void write_more();
  void drop_wire();
  bool retry_on_fresh_wire();
  bool consume(std::string_view bytes);
  void on_end();
  void fail_soon(Error error);

  ExchangeHost& host_;
  const HttpClient::Handle handle_;
  ClientRequest request_;
  ClientCallbacks callbacks_;
  std::string peer_;
  std::string head_;
  std::size_t sent_ = 0;
  ResponseParser parser_;
  ResponseParser::Sink sink_;
  std::shared_ptr<Wire> wire_;
  std::optional<boost::asio::steady_timer> timer_;  // most exchanges need none
  std::unique_ptr<boost::asio::ip::tcp::resolver> resolver_;
  static constexpr auto kNever = std::chrono::steady_clock::time_point::max();
  std::chrono::steady_clock::time_point deadline_ = kNever;
  std::chrono::milliseconds timeout_{};
  std::string_view waiting_for_;
  std::size_t received_ = 0, body_bytes_ = 0;
  bool done_ = false, reused_ = false, writing_ = false;
};

}  // namespace hp::net

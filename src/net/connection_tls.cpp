// A connection's socket: plain, or through TLS.
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>

#include "net/connection.h"

namespace hp::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {
constexpr std::string_view kPlainHttp = "http request";  // OpenSSL's name for a client that speaks no TLS
}

void Connection::begin_handshake() {
  phase_ = Phase::handshake;
  auto session = TlsSession::accept(socket_.native_handle(), *host_.options.tls);
  if (!session) return close();
  tls_ = *std::move(session);
  arm(std::min(kTlsHandshakeTimeout, host_.options.header_timeout));
  shake_hands();
}

void Connection::shake_hands() {
  const TlsOutcome outcome = tls_->handshake();
  if (outcome == TlsOutcome::done) {
    phase_ = Phase::idle;
    arm(host_.options.header_timeout);
    return read_more();
  }
  if (outcome == TlsOutcome::closed || outcome == TlsOutcome::failed) {
    host_.count_failed_handshake();
    if (tls_->error() == kPlainHttp) answer_plain_http();
    return close();
  }
  const auto ready = outcome == TlsOutcome::want_read ? asio::socket_base::wait_read : asio::socket_base::wait_write;
  socket_.async_wait(ready, [self = shared_from_this()](const error_code& error) {
    if (self->phase_ != Phase::handshake) return;
    if (error) return self->close();
    self->shake_hands();
  });
}

// Somebody typed http:// for https://: one sentence instead of a dead line.
void Connection::answer_plain_http() {
  const std::string answer =
      encode_response(error_response(400, "This port speaks TLS; use https:// in the address."), false, false);
  (void)!::send(socket_.native_handle(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(socket_.native_handle(), SHUT_WR);
}

std::size_t Connection::socket_read(std::span<char> into, error_code& error) {
  if (!tls_) return socket_.read_some(asio::buffer(into.data(), into.size()), error);
  std::size_t count = 0;
  const TlsOutcome outcome = tls_->read(into, count);
  if (outcome == TlsOutcome::closed) error = asio::error::eof;
  if (outcome == TlsOutcome::failed) error = asio::error::connection_reset;
  if (outcome == TlsOutcome::want_read || outcome == TlsOutcome::want_write) error = asio::error::would_block;
  return count;
}

std::size_t Connection::socket_write(std::string_view bytes, error_code& error) {
  if (!tls_) return socket_.write_some(asio::buffer(bytes.data(), bytes.size()), error);
  std::size_t count = 0;
  const TlsOutcome outcome = tls_->write(bytes, count);
  if (outcome == TlsOutcome::closed || outcome == TlsOutcome::failed) error = asio::error::broken_pipe;
  if (outcome == TlsOutcome::want_read || outcome == TlsOutcome::want_write) error = asio::error::would_block;
  return count;
}

}  // namespace hp::net

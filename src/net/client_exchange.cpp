#include "net/client_exchange.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>

#include "base/text.h"
#include "net/limits.h"

namespace hp::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {
constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::size_t kHeadBytes = 512;  // of most heads

bool is_unix(const ClientRequest& request) {
  return request.host.starts_with(kUnixPrefix);
}

std::string name_of_peer(const ClientRequest& request) {
  if (is_unix(request)) return request.host;
  std::string name(request.tls ? "https://" : "");
  name.append(request.host).append(":");
  append_number(name, request.port);
  return name;
}

void append_header(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}
}  // namespace

void Wire::wait() {
  if (waiting || dead) return;
  waiting = true;
  socket.async_wait(asio::socket_base::wait_read, [self = shared_from_this()](const error_code& error) {
    self->waiting = false;
    if (error || self->dead) return;
    if (const auto exchange = self->owner.lock()) {
      exchange->on_readable();
    } else {
      self->dead = true;  // idle and readable: closed, or bytes that nobody asked for
      error_code ignored;
      self->socket.close(ignored);
    }
  });
}

std::size_t Wire::read_some(std::span<char> into, error_code& error) {
  if (!tls) return socket.read_some(asio::buffer(into.data(), into.size()), error);
  std::size_t count = 0;
  const TlsOutcome outcome = tls->read(into, count);
  if (outcome == TlsOutcome::closed) error = asio::error::eof;
  if (outcome == TlsOutcome::failed) error = asio::error::connection_reset;
  if (outcome == TlsOutcome::want_read || outcome == TlsOutcome::want_write) error = asio::error::would_block;
  return count;
}

std::size_t Wire::write_some(std::string_view bytes, error_code& error) {
  std::size_t count = 0;
  const TlsOutcome outcome = tls->write(bytes, count);
  if (outcome == TlsOutcome::closed || outcome == TlsOutcome::failed) error = asio::error::broken_pipe;
  if (outcome == TlsOutcome::want_read || outcome == TlsOutcome::want_write) error = asio::error::would_block;
  return count;
}

Exchange::Exchange(ExchangeHost& host, HttpClient::Handle handle, ClientRequest request, ClientCallbacks callbacks)
    : host_(host),
      handle_(handle),
      request_(std::move(request)),
      callbacks_(std::move(callbacks)),
      peer_(name_of_peer(request_)),
      parser_(request_.method == "HEAD") {
  sink_.on_head = [this](int status, const Headers& headers) {
    if (callbacks_.on_headers) callbacks_.on_headers(status, headers);
    return !done_;
  };
  sink_.on_body = [this](std::string_view bytes) {
    body_bytes_ += bytes.size();
    if (body_bytes_ > request_.max_body_bytes)
      finish(fail(ErrorCode::resource_exhausted, "the answer of {} is larger than {} bytes", peer_,
                  request_.max_body_bytes));
    else if (callbacks_.on_data)
      callbacks_.on_data(bytes);
    return !done_;
  };
}

// Who believes other authorities must not get a connection that these would not allow.
std::string Exchange::pool_key() const {
  return request_.authority ? fmt::format("{} {}", peer_, static_cast<const void*>(request_.authority.get())) : peer_;
}

// The default port is left out: some servers redirect to the name without it.
std::string Exchange::host_header() const {
  if (is_unix(request_)) return "localhost";
  const bool usual = request_.port == (request_.tls ? 443 : 80);
  std::string host = request_.host;
  if (usual) return host;
  host += ':';
  append_number(host, request_.port);
  return host;
}

tl::unexpected<Error> Exchange::broken(std::string_view what, const error_code& error) const {
  return fail(ErrorCode::unavailable, "{} {}: {}", what, peer_, error.message());
}

void Exchange::fail_soon(Error error) {
  asio::post(host_.loop().io(),
             [self = shared_from_this(), error = std::move(error)] { self->finish(fail(Error(error))); });
}

void Exchange::begin() {
  if (auto status = encode_head(); !status) return fail_soon(std::move(status).error());
  if (request_.keep_alive) {
    if (auto wire = host_.take_idle(pool_key())) {
      reused_ = true;
      attach(std::move(wire));
      return send();
    }
  }
  open();
}

void Exchange::open() {
  arm(request_.connect_timeout, "no connection");
  if (is_unix(request_)) {
    const std::string path = request_.host.substr(kUnixPrefix.size());
    if (path.empty() || path.size() > 107)
      return fail_soon(
          {ErrorCode::invalid_argument, fmt::format("a Unix socket's path needs 1 to 107 bytes: '{}'", path)});
    return connect({Endpoint(asio::local::stream_protocol::endpoint(path))}, 0);
  }
  error_code no_literal;
  const auto address = asio::ip::make_address(request_.host, no_literal);
  if (!no_literal) return connect({Endpoint(asio::ip::tcp::endpoint(address, request_.port))}, 0);
  resolver_ = std::make_unique<asio::ip::tcp::resolver>(host_.loop().io());
  resolver_->async_resolve(request_.host, std::to_string(request_.port),
                           [self = shared_from_this()](const error_code& error, const auto& results) {
                             if (self->done_) return;
                             if (error) return self->finish(self->broken("cannot resolve", error));
                             std::vector<Endpoint> all;
                             for (const auto& result : results) all.emplace_back(result.endpoint());
                             self->connect(std::move(all), 0);
                           });
}

void Exchange::connect(std::vector<Endpoint> endpoints, std::size_t at) {
  const auto wire = std::make_shared<Wire>(host_.loop().io());
  wire_ = wire;
  const Endpoint endpoint = endpoints[at];
  wire->socket.async_connect(endpoint, [self = shared_from_this(), wire, endpoints = std::move(endpoints),
                                        at](const error_code& error) mutable {
    if (self->done_) return;
    if (error) {
      if (at + 1 < endpoints.size()) return self->connect(std::move(endpoints), at + 1);
      return self->finish(self->broken("cannot connect to", error));
    }
    error_code ignored;
    wire->socket.non_blocking(true, ignored);
    const int on = 1;
    if (!is_unix(self->request_)) ::setsockopt(wire->socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    wire->connected = true;
    self->host_.count_connections(1);
    self->secure();
  });
}

// TLS where it is wanted, then the request.
void Exchange::secure() {
  if (request_.tls) {
    auto session = TlsSession::connect(wire_->socket.native_handle(), request_.host, request_.authority.get());
    if (!session) return finish(fail(std::move(session).error()));
    wire_->tls = std::move(*session);
    return shake_hands();
  }
  attach(wire_);
  send();
}

void Exchange::shake_hands() {
  const TlsOutcome outcome = wire_->tls->handshake();
  if (outcome == TlsOutcome::done) {
    attach(wire_);
    return send();
  }
  if (outcome == TlsOutcome::closed || outcome == TlsOutcome::failed)
    return finish(fail(ErrorCode::unavailable, "no TLS connection with {}: {}", peer_, wire_->tls->error()));
  const auto ready = outcome == TlsOutcome::want_read ? asio::socket_base::wait_read : asio::socket_base::wait_write;
  wire_->socket.async_wait(ready, [self = shared_from_this()](const error_code& error) {
    if (!error && !self->done_) self->shake_hands();
  });
}

void Exchange::attach(std::shared_ptr<Wire> wire) {
  wire_ = std::move(wire);
  wire_->owner = weak_from_this();
  wire_->wait();  // at once: a server may refuse a large body before it has read it
}

Status Exchange::encode_head() {
  const std::size_t length = request_.shared_body_bytes + request_.body.size();
  head_.reserve(kHeadBytes);
  head_.append(request_.method).append(" ").append(request_.target).append(" HTTP/1.1\r\n");
  append_header(head_, "Host", host_header());
  if (!request_.keep_alive) append_header(head_, "Connection", "close");
  if (length > 0 || request_.method == "POST" || request_.method == "PUT") {
    head_ += "Content-Length: ";
    append_number(head_, length);
    head_ += "\r\n";
  }
  for (const auto& [key, value] : request_.headers) {
    if (breaks_line(key) || breaks_line(value))
      return fail(ErrorCode::invalid_argument, "the header '{}' holds a line break", key);
    append_header(head_, key, value);
  }
  head_ += "\r\n";
  return {};
}

void Exchange::send() {
  arm(request_.read_timeout, "no answer");
  write_more();
}

// Head, shared body and body leave in one system call when the socket takes them.
void Exchange::write_more() {
  if (done_) return;
  const std::array<std::string_view, 3> parts{
      head_,
      request_.shared_body ? std::string_view(*request_.shared_body).substr(0, request_.shared_body_bytes)
                           : std::string_view(),
      request_.body};
  for (;;) {
    std::array<asio::const_buffer, 3> buffers;
    std::size_t skip = sent_, left = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::size_t gone = std::min(skip, parts[i].size());
      skip -= gone;
      left += parts[i].size() - gone;
      buffers[i] = asio::buffer(parts[i].data() + gone, parts[i].size() - gone);
    }
    writing_ = left > 0;
    if (left == 0) return;
    error_code error;
    if (wire_->tls) {
      const auto first = std::ranges::find_if(buffers, [](const asio::const_buffer& b) { return b.size() > 0; });
      sent_ += wire_->write_some({static_cast<const char*>(first->data()), first->size()}, error);
    } else {
      sent_ += wire_->socket.write_some(buffers, error);
    }
    if (error == asio::error::would_block) break;
    if (error) return;  // the reading side sees the same, and perhaps an answer before it
  }
  wire_->socket.async_wait(asio::socket_base::wait_write, [self = shared_from_this()](const error_code& error) {
    if (!error) self->write_more();
  });
}

void Exchange::arm(std::chrono::milliseconds timeout, std::string_view what) {
  move_deadline(timeout, what);
  if (deadline_ != kNever && (!timer_ || deadline_ < timer_->expiry())) watch();
}

void Exchange::move_deadline(std::chrono::milliseconds timeout, std::string_view what) {
  timeout_ = timeout;
  waiting_for_ = what;
  deadline_ = timeout.count() == 0 ? kNever : std::chrono::steady_clock::now() + timeout;
}

// The timer is set once and looks at the deadline when it fires: bytes only move the deadline.
void Exchange::watch() {
  if (!timer_) timer_.emplace(host_.loop().io());
  timer_->expires_at(deadline_);
  timer_->async_wait([weak = weak_from_this()](const error_code& error) {
    const auto self = weak.lock();
    if (error || !self || self->done_) return;
    if (self->deadline_ == kNever) return self->timer_.reset();
    if (std::chrono::steady_clock::now() < self->deadline_) return self->watch();
    self->finish(fail(ErrorCode::deadline_exceeded, "{} from {} within {} ms", self->waiting_for_, self->peer_,
                      self->timeout_.count()));
  });
}

void Exchange::drop_wire() {
  const auto wire = std::move(wire_);
  if (!wire) return;
  wire->dead = true;
  wire->owner.reset();
  error_code ignored;
  wire->socket.close(ignored);
  if (wire->connected) host_.count_connections(-1);
}

// A kept connection may have been closed by the peer while the request was on its way: then nobody has read it.
bool Exchange::retry_on_fresh_wire() {
  if (!reused_ || received_ > 0) return false;
  reused_ = false;
  sent_ = 0;
  drop_wire();
  open();
  return true;
}

void Exchange::on_readable() {
  if (done_ || !wire_) return;
  const auto self = shared_from_this();
  for (int reads = 0; reads < kMaxReadsPerWake; ++reads) {
    const auto scratch = read_scratch();
    error_code error;
    const std::size_t count = wire_->read_some(scratch, error);
    if (error == asio::error::would_block) break;
    if (error) {
      if (retry_on_fresh_wire()) return;
      if (error == asio::error::eof) return on_end();
      return finish(broken("lost the connection to", error));
    }
    received_ += count;
    move_deadline(request_.read_timeout, "no further byte");
    if (!consume({scratch.data(), count})) return;
    if (count < scratch.size() && !(wire_ && wire_->tls)) break;  // TLS gives a record at a time
  }
  if (!wire_) return;
  if (wire_->tls && wire_->tls->pending())  // the socket will not tell of bytes that are decrypted already
    return asio::post(host_.loop().io(), [self] { self->on_readable(); });
  wire_->wait();
}

// False when the exchange ended.
bool Exchange::consume(std::string_view bytes) {
  if (auto status = parser_.push(bytes, sink_); !status) {
    if (!done_)
      finish(fail(ErrorCode::corrupt_data, "{} answered with invalid HTTP: {}", peer_, status.error().message));
    return false;
  }
  if (done_) return false;
  if (!parser_.done()) return true;
  finish({});
  return false;
}

void Exchange::on_end() {
  if (parser_.started() && parser_.finish()) return finish({});
  finish(fail(ErrorCode::unavailable, "{} closed the connection before its answer was complete", peer_));
}

void Exchange::finish(Status outcome) {
  if (done_) return;
  done_ = true;
  timer_.reset();
  if (resolver_) resolver_->cancel();
  if (outcome && wire_ && parser_.keep_alive() && request_.keep_alive && !writing_) {
    wire_->owner.reset();
    host_.give_back(pool_key(), std::move(wire_));
  }
  drop_wire();
  const auto self = shared_from_this();
  host_.finished(handle_);
  const auto on_done = std::move(callbacks_.on_done);
  if (on_done) on_done(std::move(outcome));
}

}  // namespace hp::net

#include "net/connection.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "net/asio_loop.h"
#include "net/limits.h"

namespace hp::net {
namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::size_t kBodySlack = 64;  // JSON parsers read so far past the end: without room they copy the body

struct Connection::Parser {
  http::request_parser<http::string_body> http;
  std::ptrdiff_t head_fields = 0;  // more at the end: trailers, which the parser puts among the headers
};

Connection::Connection(Socket socket, std::uint64_t id, std::string peer, const ConnectionHost& host)
    : socket_(std::move(socket)), timer_(socket_.get_executor()), id_(id), peer_(std::move(peer)), host_(host) {}

Connection::~Connection() = default;

void Connection::start() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->phase_ == Phase::closed) return;
    if (self->host_.options.tls) return self->begin_handshake();
    self->arm(self->host_.options.header_timeout);
    self->read_more();
  });
}

void Connection::close_soon() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] { self->close(); });
}

void Connection::close_if_idle_soon() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->phase_ == Phase::idle || self->phase_ == Phase::handshake) self->close();
  });
}

void Connection::arm(std::chrono::milliseconds timeout) {
  deadline_ = std::chrono::steady_clock::now() + timeout;
  if (!watching_ || deadline_ < timer_.expiry()) watch();
}

// The timer is set once and looks at the deadline when it fires: mostly the deadline has moved on by then.
void Connection::watch() {
  watching_ = true;
  timer_.expires_at(deadline_);
  timer_.async_wait([self = shared_from_this()](const error_code& error) {
    if (error || self->phase_ == Phase::closed) return;
    self->watching_ = false;
    if (self->deadline_ == kNever) return;
    if (std::chrono::steady_clock::now() < self->deadline_) return self->watch();
    self->on_timeout();
  });
}

void Connection::on_timeout() {
  if (phase_ == Phase::head)
    refuse(408, "The request's headers did not arrive in time; send the whole request without pauses.");
  else if (phase_ == Phase::body)
    refuse(408, "The request's body did not arrive in time; send the whole request without pauses.");
  else
    close();
}

void Connection::read_more() {
  if (reading_ || phase_ == Phase::closed) return;
  // While an answer is in progress a read stays pending: it is how a hang-up is seen. Beyond the bound we stop reading.
  if (phase_ == Phase::answering && input_.size() >= kMaxPipelinedBytes) return;
  reading_ = true;
  if (tls_ && tls_->pending()) {  // decrypted already: the socket will not tell of them
    return asio::post(socket_.get_executor(), [self = shared_from_this()] {
      self->reading_ = false;
      if (self->phase_ != Phase::closed) self->on_readable();
    });
  }
  socket_.async_wait(asio::socket_base::wait_read, [self = shared_from_this()](const error_code& error) {
    self->reading_ = false;
    if (self->phase_ == Phase::closed) return;
    if (error) return self->close();
    self->on_readable();
  });
}

// Reads into the thread's scratch memory, so that a connection that waits owns no buffer.
void Connection::on_readable() {
  const auto scratch = read_scratch();
  error_code error;
  const std::size_t count = socket_read(scratch, error);
  if (error == asio::error::would_block) return read_more();
  if (error) return close();
  const std::string_view bytes(scratch.data(), count);
  if (phase_ == Phase::lingering) {
    lingered_ += count;
    if (lingered_ > kMaxLingerBytes) return close();
    return read_more();
  }
  if (phase_ == Phase::body && body_left_ > 0) return take_body(bytes);
  keep(bytes);
  if (phase_ == Phase::answering) return read_more();
  on_bytes();
}

void Connection::keep(std::string_view bytes) {
  const auto space = input_.prepare(bytes.size());
  std::memcpy(space.data(), bytes.data(), bytes.size());
  input_.commit(bytes.size());
}

void Connection::on_bytes() {
  if (phase_ == Phase::body) return parse_body();
  if (input_.size() == 0) return read_more();
  if (phase_ == Phase::idle) {
    phase_ = Phase::head;
    arm(host_.options.header_timeout);
  }
  const std::string_view text(static_cast<const char*>(input_.data().data()), input_.size());
  const auto end = text.find("\r\n\r\n");
  const std::string_view head = text.substr(0, end == std::string_view::npos ? end : end + 4);
  if (head.size() > host_.options.max_header_bytes)
    return refuse(431, fmt::format("The request's headers are larger than {} bytes.", host_.options.max_header_bytes));
  // Bare line feeds and folded lines are where two HTTP parsers disagree: RFC 9112, sections 2.2 and 5.2.
  for (auto at = head.find('\n'); at != std::string_view::npos; at = head.find('\n', at + 1)) {
    const bool bare = at == 0 || head[at - 1] != '\r';
    const bool folded = at + 1 < head.size() && (head[at + 1] == ' ' || head[at + 1] == '\t');
    if (bare || folded)
      return refuse(400, bare ? "A header line ends with a bare line feed; lines end with CR LF."
                              : "A header is folded over two lines; send it on one line.");
  }
  if (end == std::string_view::npos) return read_more();
  parse_head(head.size());
}

void Connection::parse_head(std::size_t head_bytes) {
  parser_ = std::make_unique<Parser>();
  auto& parser = parser_->http;
  parser.header_limit(static_cast<std::uint32_t>(head_bytes + 1));
  parser.body_limit(host_.options.max_body_bytes);
  error_code error;
  const auto used = parser.put(asio::buffer(input_.data(), head_bytes), error);
  input_.consume(used);
  if (error == http::error::body_limit) return refuse_body();
  if (error && error != http::error::need_more)
    return refuse(400, fmt::format("The request is not valid HTTP: {}.", error.message()));
  if (!parser.is_header_done()) return refuse(400, "The request's headers are incomplete.");
  const auto& message = parser.get();
  const auto lengths = message.count(http::field::content_length);
  const auto encodings = message.count(http::field::transfer_encoding);
  if (lengths + encodings > 1)
    return refuse(400, "The request gives its body's length more than once; send one Content-Length or chunks.");
  if (encodings == 1 && !boost::beast::iequals(message[http::field::transfer_encoding], "chunked"))
    return refuse(400, "The request's Transfer-Encoding is not supported; send chunked or a Content-Length.");
  const std::string_view length_text(message[http::field::content_length]);
  if (lengths == 1 && (length_text.empty() || length_text.find_first_not_of("0123456789") != std::string_view::npos))
    return refuse(400, "The request's Content-Length is not a number.");
  parser_->head_fields = std::distance(message.begin(), message.end());
  if (message.version() == 11 && message.count(http::field::host) != 1)
    return refuse(400, "An HTTP/1.1 request needs exactly one Host header.");
  if (const auto length = parser.content_length(); length && *length > host_.options.max_body_bytes)
    return refuse_body();
  phase_ = Phase::body;
  arm(host_.options.body_timeout);
  if (!parser.is_done() && input_.size() == 0 && boost::beast::iequals(message[http::field::expect], "100-continue")) {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    error_code ignored;  // 25 bytes into an empty socket buffer: never blocks; a dead peer shows at the next read
    socket_write(kContinue, ignored);
  }
  if (!parser.is_done() && lengths == 1) {
    body_left_ = *parser.content_length();
    body_.reserve(body_left_ + kBodySlack);
    const std::size_t here = std::min(body_left_, input_.size());
    body_.append(static_cast<const char*>(input_.data().data()), here);
    body_left_ -= here;
    input_.consume(here);
    return body_left_ == 0 ? dispatch() : read_more();
  }
  parser.eager(true);
  parse_body();
}

// A body of known length goes straight to its place; what follows it is the next request's.
void Connection::take_body(std::string_view bytes) {
  const std::string_view ours = bytes.substr(0, body_left_);
  body_.append(ours);
  body_left_ -= ours.size();
  if (ours.size() < bytes.size()) keep(bytes.substr(ours.size()));
  if (body_left_ == 0) return dispatch();
  read_more();
}

void Connection::parse_body() {
  auto& parser = parser_->http;
  while (!parser.is_done() && input_.size() > 0) {
    error_code error;
    const auto used = parser.put(input_.data(), error);
    input_.consume(used);
    if (error == http::error::need_more) break;
    if (error == http::error::body_limit) return refuse_body();
    if (error) return refuse(400, fmt::format("The request's body is not valid HTTP: {}.", error.message()));
    if (used == 0) break;
  }
  if (parser.is_done()) {
    const auto& message = parser.get();
    if (std::distance(message.begin(), message.end()) != parser_->head_fields)
      return refuse(400, "The request has trailers; send all headers before the body.");
    return dispatch();
  }
  if (input_.size() > kMaxPipelinedBytes) return refuse(400, "A chunk's header is too long.");
  read_more();
}

void Connection::dispatch() {
  auto message = parser_->http.release();
  keep_alive_ = message.keep_alive() && !host_.draining();
  parser_.reset();
  HttpRequest request;
  request.headers.reserve(static_cast<std::size_t>(std::distance(message.begin(), message.end())));
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  request.path = request.target.substr(0, request.target.find('?'));
  for (const auto& field : message) {
    std::string name(field.name_string());
    std::ranges::transform(name, name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
    request.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  request.body = body_.empty() ? std::move(message.body()) : std::exchange(body_, {});
  input_.shrink_to_fit();
  request.peer = peer_;
  phase_ = Phase::answering;
  last_batch_ = false;
  disarm();
  const auto wake = [weak = weak_from_this(), executor = socket_.get_executor()] {
    asio::post(executor, [weak] {
      if (const auto self = weak.lock()) self->flush();
    });
  };
  outbox_ = std::make_shared<ResponseOutbox>(ResponseOutbox::Shape{.http_1_1 = message.version() >= 11,
                                                                   .keep_alive = keep_alive_,
                                                                   .head = request.method == "HEAD",
                                                                   .max_queued_bytes = host_.options.max_queued_bytes},
                                             wake);
  // The handler's pointer has its own count, so that letting go of it is seen.
  const std::shared_ptr<ResponseWriter> writer(outbox_.get(),
                                               [outbox = outbox_](ResponseWriter*) { outbox->released(); });
  read_more();
  host_.handler(std::move(request), writer);
}

void Connection::flush() {
  while (phase_ == Phase::answering && !write_pending_ && outbox_) {
    auto batch = outbox_->take();
    if (batch.too_slow) return close();
    keep_alive_ = batch.keep_alive;
    status_ = batch.status;
    last_batch_ = batch.complete;
    writing_ = std::move(batch.bytes);
    written_ = 0;
    if (writing_.empty() && !last_batch_) return;
    if (!write_some()) return;
    writing_ = {};
    if (last_batch_) return finish_answer();
  }
}

// Mostly the socket takes everything at once; only a full one costs a wait and its timer. True: all is written.
bool Connection::write_some() {
  while (written_ < writing_.size()) {
    error_code error;
    const std::size_t count = socket_write(std::string_view(writing_).substr(written_), error);
    if (error) {
      if (error == asio::error::would_block) {
        wait_writable();
      } else {
        close();
      }
      return false;
    }
    written_ += count;
    if (outbox_) outbox_->taken(count);
  }
  return true;
}

void Connection::after_write() {
  writing_ = {};
  if (last_batch_) return finish_answer();
  flush();
}

void Connection::wait_writable() {
  write_pending_ = true;
  arm(host_.options.write_timeout);
  socket_.async_wait(asio::socket_base::wait_write, [self = shared_from_this()](const error_code& error) {
    self->write_pending_ = false;
    if (self->phase_ == Phase::closed) return;
    if (error) return self->close();
    self->disarm();
    if (self->write_some()) self->after_write();
  });
}

void Connection::finish_answer() {
  host_.count_request(status_);
  if (outbox_) outbox_->abandon();
  outbox_.reset();
  if (refused_) return linger();
  if (!keep_alive_ || host_.draining()) return linger();
  phase_ = Phase::idle;
  arm(host_.options.idle_timeout);
  if (input_.size() == 0) return read_more();
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->phase_ == Phase::idle) self->on_bytes();
  });
}

void Connection::refuse(int status, std::string_view message) {
  refused_ = true;
  keep_alive_ = false;
  parser_.reset();
  phase_ = Phase::answering;
  status_ = status;
  last_batch_ = true;
  writing_ = encode_response(error_response(status, message), false, false);
  written_ = 0;
  disarm();
  if (write_some()) after_write();
}

void Connection::refuse_body() {
  refuse(413, fmt::format("The request's body is larger than {} bytes.", host_.options.max_body_bytes));
}

// Closing with unread input makes the kernel reset the connection, and the client may lose the answer it has not read.
void Connection::linger() {
  phase_ = Phase::lingering;
  input_.consume(input_.size());
  error_code ignored;
  if (tls_) tls_->say_goodbye();
  socket_.shutdown(Socket::shutdown_send, ignored);
  arm(kLingerTimeout);
  read_more();
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  phase_ = Phase::closed;
  timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
  if (const auto outbox = std::move(outbox_)) outbox->abandon();
  host_.closed(id_);
}

}  // namespace hp::net

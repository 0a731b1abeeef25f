#include "net/connection.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/log.h"
#include "net/asio_loop.h"
#include "net/chunk_reader.h"
#include "net/limits.h"

namespace hp::net {
namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::size_t kBodySlack = 64;  // JSON parsers read so far past the end:
                                        // without room they copy the body

struct Connection::Incoming {
  RequestHead head;
  ChunkReader chunks;
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

// The timer is set once and looks at the deadline when it fires: mostly the
// deadline has moved on by then.
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
    refuse(408,
           "The request's headers did not arrive in time; send the whole "
           "request without pauses.");
  else if (phase_ == Phase::body)
    refuse(408,
           "The request's body did not arrive in time; send the whole "
           "request without pauses.");
  else
    close();
}

void Connection::read_more() {
  if (reading_ || phase_ == Phase::closed) return;
  // While an answer is in progress a read stays pending: it is how a hang-up is
  // seen. Beyond the bound we stop reading.
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

// Reads into the thread's scratch memory, so that a connection that waits owns
// no buffer. A long body is read in several pieces a turn: it is still in the
// processor's cache when it is whole.
void Connection::on_readable() {
  for (int reads = 1;; ++reads) {
    const auto scratch = read_scratch();
    error_code error;
    const std::size_t count = socket_read(scratch, error);
    if (error == asio::error::would_block) return read_more();
    if (error) return close();
    const std::string_view bytes(scratch.data(), count);
    if (phase_ != Phase::body || body_left_ == 0) return on_bytes(bytes);
    keep(take_body(bytes));
    if (body_left_ == 0) return dispatch();
    if (count < scratch.size() || reads >= kMaxReadsPerWake) return read_more();
  }
}

void Connection::on_bytes(std::string_view bytes) {
  if (phase_ == Phase::lingering) {
    lingered_ += bytes.size();
    if (lingered_ > kMaxLingerBytes) return close();
    return read_more();
  }
  if (phase_ != Phase::answering && input_.empty()) return take(bytes);  // read where they lie
  input_ += bytes;
  if (phase_ == Phase::answering) return read_more();
  take(input_);
}

// Bytes that nobody has looked at, in the scratch memory or in input_.
void Connection::take(std::string_view bytes) {
  if (phase_ == Phase::body) return take_chunks(bytes);
  const auto end = bytes.find("\r\n\r\n");
  const bool whole = end != std::string_view::npos;
  const std::string_view head = whole ? bytes.substr(0, end + 4) : bytes;
  if (head.size() > host_.options.max_header_bytes)
    return refuse(431, fmt::format("The request's headers are larger than {} bytes.", host_.options.max_header_bytes));
  if (whole) return take_head(head, bytes.substr(head.size()));
  if (const auto lines = check_lines(head); !lines) return refuse_invalid(lines.error());
  if (phase_ == Phase::idle) {
    phase_ = Phase::head;
    arm(host_.options.header_timeout);
  }
  keep(bytes);
  read_more();
}

void Connection::take_head(std::string_view text, std::string_view rest) {
  auto parsed = parse_request_head(text);
  if (!parsed) return refuse_invalid(parsed.error());
  incoming_ = std::make_unique<Incoming>();
  RequestHead& head = incoming_->head = *std::move(parsed);
  if (head.length && *head.length > host_.options.max_body_bytes) return refuse_body();
  phase_ = Phase::body;
  const bool has_body = head.chunked || head.length.value_or(0) > 0;
  if (has_body && rest.empty() && head.expects_continue) {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    error_code ignored;  // 25 bytes into an empty socket buffer: never blocks; a
                         // dead peer shows at the next read
    socket_write(kContinue, ignored);
  }
  if (head.chunked) {
    arm(host_.options.body_timeout);
    return take_chunks(rest);
  }
  body_left_ = static_cast<std::size_t>(head.length.value_or(0));
  if (body_left_ > 0) head.request.body.reserve(body_left_ + kBodySlack);
  keep(take_body(rest));
  if (body_left_ == 0) return dispatch();
  arm(host_.options.body_timeout);
  read_more();
}

// A body of known length goes straight to its place; what follows it, the next
// request's, is returned.
std::string_view Connection::take_body(std::string_view bytes) {
  const std::string_view ours = bytes.substr(0, body_left_);
  incoming_->head.request.body += ours;
  body_left_ -= ours.size();
  return bytes.substr(ours.size());
}

void Connection::take_chunks(std::string_view bytes) {
  std::string& body = incoming_->head.request.body;
  const auto fits = [&](std::uint64_t more) { return more <= host_.options.max_body_bytes - body.size(); };
  bool all_fit = true;
  const auto status = incoming_->chunks.push(bytes, [&](std::string_view data) {
    all_fit = fits(data.size());
    if (all_fit) body += data;
    return all_fit;
  });
  if (!all_fit || !fits(incoming_->chunks.left())) return refuse_body();
  if (!status) return refuse_invalid(status.error());
  if (incoming_->chunks.has_trailers())
    return refuse(400, "The request has trailers; send all headers before the body.");
  keep(bytes);
  return incoming_->chunks.done() ? dispatch() : read_more();
}

void Connection::keep(std::string_view rest) {
  if (rest.data() != input_.data() || rest.size() != input_.size()) std::string(rest).swap(input_);
}

void Connection::dispatch() {
  const auto incoming = std::move(incoming_);
  RequestHead& head = incoming->head;
  keep_alive_ = head.keep_alive && !host_.draining();
  head.request.peer = peer_;
  phase_ = Phase::answering;
  last_batch_ = false;
  disarm();
  const auto wake = [weak = weak_from_this(), executor = socket_.get_executor()] {
    asio::post(executor, [weak] {
      if (const auto self = weak.lock()) self->flush();
    });
  };
  outbox_ = std::make_shared<ResponseOutbox>(ResponseOutbox::Shape{.http_1_1 = head.http_1_1,
                                                                   .keep_alive = keep_alive_,
                                                                   .head = head.request.method == "HEAD",
                                                                   .max_queued_bytes = host_.options.max_queued_bytes},
                                             wake);
  // The handler's pointer has its own count, so that letting go of it is seen.
  const std::shared_ptr<ResponseWriter> writer(outbox_.get(),
                                               [outbox = outbox_](ResponseWriter*) { outbox->released(); });
  read_more();
  host_.handler(std::move(head.request), writer);
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

// Mostly the socket takes everything at once; only a full one costs a wait and
// its timer. True: all is written.
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
  if (input_.empty()) return read_more();
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->phase_ == Phase::idle) self->take(self->input_);
  });
}

void Connection::refuse(int status, std::string_view message) {
  refused_ = true;
  keep_alive_ = false;
  incoming_.reset();
  phase_ = Phase::answering;
  status_ = status;
  last_batch_ = true;
  writing_ = encode_response(error_response(status, message), false, false);
  written_ = 0;
  disarm();
  if (write_some()) after_write();
}

void Connection::refuse_invalid(const Error& error) {
  refuse(400, fmt::format("The request is not valid HTTP: {}.", error.message));
}

void Connection::refuse_body() {
  refuse(413, fmt::format("The request's body is larger than {} bytes.", host_.options.max_body_bytes));
}

// Closing with unread input makes the kernel reset the connection, and the
// client may lose the answer it has not read.
void Connection::linger() {
  phase_ = Phase::lingering;
  input_.clear();
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

#include "net/response_outbox.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>

#include "base/json.h"
#include "base/text.h"

namespace hp::net {
namespace {

constexpr std::size_t kChunkFrame = 20;  // a chunk's size in hex and two line ends
constexpr std::size_t kHeadBytes = 256;  // of most heads, with some headers

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

// A header made from a client's text must not be able to start another header.
void append_one_line(std::string& out, std::string_view text) {
  if (!breaks_line(text)) {
    out += text;
    return;
  }
  std::ranges::copy_if(text, std::back_inserter(out), [](char c) { return c != '\r' && c != '\n' && c != '\0'; });
}

void append_header(std::string& out, std::string_view name, std::string_view value) {
  append_one_line(out, name);
  out += ": ";
  append_one_line(out, value);
  out += "\r\n";
}

/// `more`: bytes that will follow the head.
std::string encode_head(int status, const Headers& headers, std::string_view content_type, bool keep_alive,
                        std::size_t more = 0) {
  std::string out;
  out.reserve(kHeadBytes + more);
  out += "HTTP/1.1 ";
  append_number(out, static_cast<std::uint64_t>(status));
  out.append(" ").append(reason(status)).append("\r\n");
  if (!content_type.empty()) append_header(out, "Content-Type", content_type);
  for (const auto& [name, value] : headers) append_header(out, name, value);
  if (!keep_alive) out += "Connection: close\r\n";
  return out;
}

}  // namespace

std::string encode_response(const HttpResponse& response, bool keep_alive, bool head_only) {
  const bool bodyless = response.status == 204 || response.status == 304;
  std::string out =
      encode_head(response.status, response.headers, bodyless ? std::string_view() : response.content_type, keep_alive,
                  response.body.size());
  if (!bodyless) {
    out += "Content-Length: ";
    append_number(out, response.body.size());
    out += "\r\n";
  }
  out += "\r\n";
  if (!head_only && !bodyless) out += response.body;
  return out;
}

HttpResponse error_response(int status, std::string_view message) {
  HttpResponse response{.status = status, .headers = {}, .body = {}};
  JsonWriter json(response.body);
  json.begin_object().key("error").begin_object();
  json.member("message", message);
  json.member("type", std::string_view(status >= 500 ? "server_error" : "invalid_request_error"));
  json.key("param").null().key("code").null();
  json.end_object().end_object();
  return response;
}

void ResponseOutbox::wake_locked() {
  if (dead_ || woken_) return;
  woken_ = true;
  wake_();
}

void ResponseOutbox::send_locked(const HttpResponse& response) {
  pending_ = encode_response(response, shape_.keep_alive, shape_.head);  // nothing was said before it
  status_ = response.status;
  phase_ = Phase::complete;
  wake_locked();
}

void ResponseOutbox::send(HttpResponse response) {
  const std::lock_guard lock(mutex_);
  if (!dead_ && phase_ == Phase::waiting) send_locked(response);
}

void ResponseOutbox::begin_stream(int status, Headers headers, std::string_view content_type) {
  const std::lock_guard lock(mutex_);
  if (dead_ || phase_ != Phase::waiting) return;
  if (!shape_.http_1_1) shape_.keep_alive = false;  // HTTP/1.0 has no chunks: the close ends the body
  pending_ += encode_head(status, headers, content_type, shape_.keep_alive);
  pending_ += shape_.http_1_1 ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n";
  status_ = status;
  phase_ = Phase::streaming;
  wake_locked();
}

bool ResponseOutbox::write(std::string bytes) {
  const std::lock_guard lock(mutex_);
  if (dead_ || too_slow_ || phase_ != Phase::streaming) return false;
  if (bytes.empty() || shape_.head) return true;
  if (pending_.size() + in_flight_ + bytes.size() > shape_.max_queued_bytes) {
    too_slow_ = true;
    wake_locked();
    return false;
  }
  if (shape_.http_1_1) {
    std::array<char, 16> size;
    char* const end = std::to_chars(size.begin(), size.end(), bytes.size(), 16).ptr;
    pending_.reserve(pending_.size() + bytes.size() + kChunkFrame);
    pending_.append(size.data(), end).append("\r\n").append(bytes).append("\r\n");
  } else {
    pending_ += bytes;
  }
  wake_locked();
  return true;
}

void ResponseOutbox::end() {
  const std::lock_guard lock(mutex_);
  if (dead_ || phase_ != Phase::streaming) return;
  if (shape_.http_1_1 && !shape_.head) pending_ += "0\r\n\r\n";
  phase_ = Phase::complete;
  wake_locked();
}

void ResponseOutbox::on_disconnect(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!gone_) {
      disconnect_ = std::move(callback);
      return;
    }
    if (phase_ == Phase::complete) return;
    phase_ = Phase::complete;
  }
  callback();  // the client left before anybody asked
}

std::size_t ResponseOutbox::queued_bytes() const {
  const std::lock_guard lock(mutex_);
  return pending_.size() + in_flight_;
}

ResponseOutbox::Batch ResponseOutbox::take() {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  Batch batch{.bytes = std::move(pending_),
              .complete = phase_ == Phase::complete,
              .too_slow = too_slow_,
              .keep_alive = shape_.keep_alive,
              .status = status_};
  pending_.clear();
  in_flight_ += batch.bytes.size();
  return batch;
}

void ResponseOutbox::taken(std::size_t count) {
  const std::lock_guard lock(mutex_);
  in_flight_ -= std::min(in_flight_, count);
}

void ResponseOutbox::released() {
  const std::lock_guard lock(mutex_);
  if (dead_ || phase_ == Phase::complete) return;
  if (phase_ == Phase::waiting) {
    send_locked(error_response(500, "The server dropped this request without an answer; please report it."));
  } else {
    too_slow_ = true;  // an unfinished stream can only be cut: the missing last chunk tells the client
    wake_locked();
  }
}

void ResponseOutbox::abandon() {
  // The callback may own the writer, whose release takes the lock: it is called and destroyed outside of it.
  std::function<void()> callback;
  bool cut = false;
  {
    const std::lock_guard lock(mutex_);
    if (gone_) return;
    dead_ = gone_ = true;
    callback = std::exchange(disconnect_, nullptr);
    cut = phase_ != Phase::complete || !pending_.empty() || in_flight_ != 0;
    if (callback) phase_ = Phase::complete;
    pending_.clear();
    in_flight_ = 0;
  }
  if (cut && callback) callback();
}

}  // namespace hp::net

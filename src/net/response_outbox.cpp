#include "net/response_outbox.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/json.h"

namespace hp::net {
namespace {

constexpr std::size_t kChunkFrame = 20;  // a chunk's size in hex and two line ends

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
std::string one_line(std::string_view text) {
  std::string out(text);
  std::erase_if(out, [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
  return out;
}

std::string encode_head(int status, const Headers& headers, std::string_view content_type, bool keep_alive) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\n", status, reason(status));
  if (!content_type.empty()) out += fmt::format("Content-Type: {}\r\n", one_line(content_type));
  for (const auto& [name, value] : headers) out += fmt::format("{}: {}\r\n", one_line(name), one_line(value));
  if (!keep_alive) out += "Connection: close\r\n";
  return out;
}

}  // namespace

std::string encode_response(const HttpResponse& response, bool keep_alive, bool head_only) {
  const bool bodyless = response.status == 204 || response.status == 304;
  std::string out =
      encode_head(response.status, response.headers, bodyless ? std::string_view() : response.content_type, keep_alive);
  if (!bodyless) out += fmt::format("Content-Length: {}\r\n", response.body.size());
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
  pending_ += encode_response(response, shape_.keep_alive, shape_.head);
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

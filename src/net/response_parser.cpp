#include "net/response_parser.h"

#include <algorithm>

#include "net/limits.h"

namespace hp::net {
namespace {

constexpr std::size_t kUsualHeaders = 8;

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return out;
}

Result<Headers> parse_fields(std::string_view text) {
  Headers headers;
  headers.reserve(kUsualHeaders);
  while (!text.empty()) {
    const auto end = text.find("\r\n");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
    const auto colon = line.find(':');
    const std::string_view name = line.substr(0, colon);
    if (name.empty() || colon == std::string_view::npos || std::ranges::any_of(name, is_blank))
      return fail(ErrorCode::corrupt_data, "a header line is not 'name: value': '{}'", line.substr(0, 64));
    headers.emplace_back(lower(name), std::string(trim(line.substr(colon + 1))));
  }
  return headers;
}

}  // namespace

Status ResponseParser::choose_body(const Headers& headers, int status) {
  bool chunked = false, has_length = false;
  for (const auto& [name, value] : headers) {
    if (name == "transfer-encoding") {
      if (chunked || lower(value) != "chunked")
        return fail(ErrorCode::corrupt_data, "unknown Transfer-Encoding '{}'", value);
      chunked = true;
    } else if (name == "content-length") {
      HP_TRY(const std::uint64_t length, parse_length(value, 10));
      if (has_length && length != left_) return fail(ErrorCode::corrupt_data, "two different Content-Lengths");
      left_ = length;
      has_length = true;
    } else if (name == "connection") {
      const std::string option = lower(value);
      if (option.find("close") != std::string::npos) keep_alive_ = false;
      if (option.find("keep-alive") != std::string::npos) keep_alive_ = true;
    }
  }
  if (chunked && has_length) return fail(ErrorCode::corrupt_data, "both Content-Length and Transfer-Encoding");
  if (head_request_ || status == 204 || status == 304) {
    state_ = State::done;
  } else if (chunked) {
    state_ = State::chunked;
  } else if (has_length) {
    state_ = left_ == 0 ? State::done : State::length;
  } else {
    state_ = State::close;
    keep_alive_ = false;
  }
  return {};
}

Result<bool> ResponseParser::parse_head(const Sink& sink) {
  const std::string_view text(text_);
  const auto line_end = text.find("\r\n");
  const std::string_view line = text.substr(0, line_end);
  // "HTTP/1.1 200 OK"
  const bool well_formed = line.size() >= 12 && (line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 ")) &&
                           (line.size() == 12 || line[12] == ' ');
  if (!well_formed)
    return fail(ErrorCode::corrupt_data, "expected an HTTP/1 status line, found '{}'", line.substr(0, 64));
  HP_TRY(const std::uint64_t status, parse_length(line.substr(9, 3), 10));
  if (status < 100 || status > 599) return fail(ErrorCode::corrupt_data, "{} is no HTTP status", status);
  keep_alive_ = line[7] == '1';
  HP_TRY(const Headers headers, parse_fields(text.substr(line_end + 2, text.size() - line_end - 4)));
  text_ = {};
  if (status < 200) return true;  // 100 Continue: the answer comes after it
  HP_TRY_VOID(choose_body(headers, static_cast<int>(status)));
  return !sink.on_head || sink.on_head(static_cast<int>(status), headers);
}

Status ResponseParser::push(std::string_view bytes, const Sink& sink) {
  while (!bytes.empty()) {
    switch (state_) {
      case State::head: {
        const std::size_t before = text_.size();
        text_.append(bytes.substr(0, kClientMaxHeaderBytes + 4 - std::min(before, kClientMaxHeaderBytes)));
        const auto end = text_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
        const bool complete = end != std::string::npos;
        if ((complete ? end + 4 : text_.size()) > kClientMaxHeaderBytes)
          return fail(ErrorCode::corrupt_data, "the answer's headers are larger than {} bytes", kClientMaxHeaderBytes);
        if (!complete) return {};
        text_.resize(end + 4);
        bytes.remove_prefix(end + 4 - before);
        HP_TRY(const bool go_on, parse_head(sink));
        if (!go_on) return {};
        break;
      }
      case State::length:
      case State::close: {
        const std::size_t count = state_ == State::close
                                      ? bytes.size()
                                      : static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
        const std::string_view piece = bytes.substr(0, count);
        bytes.remove_prefix(count);
        if (state_ == State::length && (left_ -= count) == 0) state_ = State::done;
        if (sink.on_body && !sink.on_body(piece)) return {};
        break;
      }
      case State::chunked:
        HP_TRY_VOID(chunks_.push(bytes, [&](std::string_view piece) { return !sink.on_body || sink.on_body(piece); }));
        if (!chunks_.done()) return {};
        state_ = State::done;
        break;
      case State::done:
        return fail(ErrorCode::corrupt_data, "bytes after the end of the answer");
    }
  }
  return {};
}

Status ResponseParser::finish() {
  if (state_ == State::close) state_ = State::done;
  if (state_ != State::done)
    return fail(ErrorCode::unavailable, "the connection was closed before the answer was complete");
  return {};
}

}  // namespace hp::net

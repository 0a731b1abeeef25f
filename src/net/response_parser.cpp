#include "net/response_parser.h"

#include <algorithm>
#include <charconv>

#include "net/limits.h"

namespace hp::net {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return out;
}

Result<std::uint64_t> parse_number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty())
    return fail(ErrorCode::corrupt_data, "expected a length, found '{}'", text.substr(0, 32));
  return value;
}

Result<Headers> parse_fields(std::string_view text) {
  Headers headers;
  while (!text.empty()) {
    const auto end = text.find("\r\n");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
    const auto colon = line.find(':');
    if (colon == 0 || colon == std::string_view::npos || line.find_first_of(" \t") < colon)
      return fail(ErrorCode::corrupt_data, "a header line is not 'name: value': '{}'", line.substr(0, 64));
    headers.emplace_back(lower(line.substr(0, colon)), std::string(trim(line.substr(colon + 1))));
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
      HP_TRY(const std::uint64_t length, parse_number(value, 10));
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
    state_ = State::chunk_size;
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
  HP_TRY(const std::uint64_t status, parse_number(line.substr(9, 3), 10));
  if (status < 100 || status > 599) return fail(ErrorCode::corrupt_data, "{} is no HTTP status", status);
  keep_alive_ = line[7] == '1';
  HP_TRY(const Headers headers, parse_fields(text.substr(line_end + 2, text.size() - line_end - 4)));
  text_ = {};
  if (status < 200) return true;  // 100 Continue: the answer comes after it
  HP_TRY_VOID(choose_body(headers, static_cast<int>(status)));
  return !sink.on_head || sink.on_head(static_cast<int>(status), headers);
}

Result<bool> ResponseParser::take_line(std::string_view& bytes) {
  const auto end = bytes.find('\n');
  const bool complete = end != std::string_view::npos;
  text_.append(bytes.substr(0, end));
  bytes.remove_prefix(complete ? end + 1 : bytes.size());
  if (text_.size() > kMaxChunkLineBytes) return fail(ErrorCode::corrupt_data, "a chunk's size line is too long");
  if (!complete) return false;
  if (text_.empty() || text_.back() != '\r') return fail(ErrorCode::corrupt_data, "a line ends without CR LF");
  text_.pop_back();
  return true;
}

Status ResponseParser::on_chunk_size() {
  const std::string_view size = std::string_view(text_).substr(0, text_.find(';'));
  HP_TRY(left_, parse_number(trim(size), 16));
  text_.clear();
  state_ = left_ == 0 ? State::trailer : State::chunk_data;
  return {};
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
      case State::chunk_data:
      case State::close: {
        const std::size_t count = state_ == State::close
                                      ? bytes.size()
                                      : static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
        const std::string_view piece = bytes.substr(0, count);
        bytes.remove_prefix(count);
        if (state_ != State::close && (left_ -= count) == 0)
          state_ = state_ == State::length ? State::done : State::chunk_end;
        if (sink.on_body && !sink.on_body(piece)) return {};
        break;
      }
      case State::chunk_size:
      case State::chunk_end:
      case State::trailer: {
        HP_TRY(const bool complete, take_line(bytes));
        if (!complete) return {};
        if (state_ == State::chunk_size) {
          HP_TRY_VOID(on_chunk_size());
        } else if (state_ == State::chunk_end) {
          if (!text_.empty()) return fail(ErrorCode::corrupt_data, "a chunk is longer than its size says");
          state_ = State::chunk_size;
        } else {
          if (text_.empty()) state_ = State::done;
          text_.clear();
        }
        break;
      }
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

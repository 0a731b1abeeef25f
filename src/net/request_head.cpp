#include "net/request_head.h"

#include <algorithm>
#include <array>

#include "net/chunk_reader.h"

namespace hp::net {
namespace {

constexpr std::size_t kUsualHeaders = 8;

constexpr auto kTokenChars = [] {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table.at(static_cast<std::size_t>(c)) = true;
  for (int c = 'a'; c <= 'z'; ++c) table.at(static_cast<std::size_t>(c)) = true;
  for (int c = 'A'; c <= 'Z'; ++c) table.at(static_cast<std::size_t>(c)) = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) table.at(static_cast<std::size_t>(c)) = true;
  return table;
}();

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return kTokenChars[static_cast<unsigned char>(c)]; });
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool equals(std::string_view text, std::string_view lower_case) {
  return std::ranges::equal(text, lower_case, {}, lower);
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view take_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find("\r\n"));
  text.remove_prefix(std::min(text.size(), line.size() + 2));
  return line;
}

// "POST /v1/completions HTTP/1.1"
Status parse_request_line(std::string_view line, RequestHead& head) {
  const auto first = line.find(' '), last = line.rfind(' ');
  if (first == std::string_view::npos || first == last)
    return fail(ErrorCode::invalid_argument, "the first line is not 'method target HTTP/1.1'");
  const std::string_view method = line.substr(0, first), target = line.substr(first + 1, last - first - 1),
                         version = line.substr(last + 1);
  if (!is_token(method)) return fail(ErrorCode::invalid_argument, "the method is not a word");
  if (target.empty() || std::ranges::any_of(target, [](char c) { return is_control(c) || c == ' '; }))
    return fail(ErrorCode::invalid_argument, "the target holds a space or a control character");
  if (version != "HTTP/1.1" && version != "HTTP/1.0")
    return fail(ErrorCode::invalid_argument, "the version is neither HTTP/1.1 nor HTTP/1.0");
  head.http_1_1 = head.keep_alive = version == "HTTP/1.1";
  head.request.method = method;
  head.request.target = target;
  head.request.path = target.substr(0, target.find('?'));
  return {};
}

Status parse_field(std::string_view line, Headers& headers) {
  const auto colon = line.find(':');
  const std::string_view name = line.substr(0, colon);
  if (colon == std::string_view::npos || !is_token(name))
    return fail(ErrorCode::invalid_argument, "a header line is not 'name: value'");
  const std::string_view value = trim(line.substr(colon + 1));
  if (std::ranges::any_of(value, [](char c) { return is_control(c) && c != '\t'; }))
    return fail(ErrorCode::invalid_argument, "a header's value holds a control character");
  auto& [key, text] = headers.emplace_back(name, value);
  std::ranges::transform(key, key.begin(), lower);
  return {};
}

void read_connection(std::string_view options, RequestHead& head) {
  while (!options.empty()) {
    const std::string_view option = options.substr(0, options.find(','));
    options.remove_prefix(std::min(options.size(), option.size() + 1));
    if (equals(trim(option), "close")) head.keep_alive = false;
    if (equals(trim(option), "keep-alive") && !head.http_1_1) head.keep_alive = true;
  }
}

// How long the body is, and what becomes of the connection.
Status read_framing(RequestHead& head) {
  std::size_t lengths = 0, encodings = 0, hosts = 0;
  std::string_view length, encoding;
  for (const auto& [name, value] : head.request.headers) {
    if (name == "content-length") {
      ++lengths;
      length = value;
    } else if (name == "transfer-encoding") {
      ++encodings;
      encoding = value;
    } else if (name == "host") {
      ++hosts;
    } else if (name == "connection") {
      read_connection(value, head);
    } else if (name == "expect") {
      head.expects_continue = equals(value, "100-continue");
    }
  }
  if (lengths + encodings > 1)
    return fail(ErrorCode::invalid_argument,
                "it gives its body's length more than once; send one Content-Length or chunks");
  if (encodings == 1 && (!equals(encoding, "chunked") || !head.http_1_1))
    return fail(ErrorCode::invalid_argument,
                "its Transfer-Encoding is not supported; send chunked with HTTP/1.1, or a Content-Length");
  if (lengths == 1) {
    const auto bytes = parse_length(length, 10);
    if (!bytes) return fail(ErrorCode::invalid_argument, "its Content-Length is not a number");
    head.length = *bytes;
  }
  head.chunked = encodings == 1;
  if (head.http_1_1 && hosts != 1) return fail(ErrorCode::invalid_argument, "HTTP/1.1 needs exactly one Host header");
  return {};
}

}  // namespace

// Bare line feeds and folded lines are where two HTTP parsers disagree: RFC 9112, sections 2.2 and 5.2.
Status check_lines(std::string_view head) {
  for (auto at = head.find('\n'); at != std::string_view::npos; at = head.find('\n', at + 1)) {
    if (at == 0 || head[at - 1] != '\r')
      return fail(ErrorCode::invalid_argument, "a header line ends with a bare line feed; lines end with CR LF");
    if (at + 1 < head.size() && (head[at + 1] == ' ' || head[at + 1] == '\t'))
      return fail(ErrorCode::invalid_argument, "a header is folded over two lines; send it on one line");
  }
  return {};
}

Result<RequestHead> parse_request_head(std::string_view head) {
  HP_TRY_VOID(check_lines(head));
  RequestHead out;
  HP_TRY_VOID(parse_request_line(take_line(head), out));
  out.request.headers.reserve(kUsualHeaders);
  for (std::string_view line = take_line(head); !line.empty(); line = take_line(head))
    HP_TRY_VOID(parse_field(line, out.request.headers));
  HP_TRY_VOID(read_framing(out));
  return out;
}

}  // namespace hp::net

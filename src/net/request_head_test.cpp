#include "net/request_head.h"

#include <gtest/gtest.h>

#include "net/chunk_reader.h"

namespace hp::net {
namespace {

TEST(RequestHead, ReadsWhatARequestSays) {
  const auto head = parse_request_head(
      "POST /v1/completions?x=1 HTTP/1.1\r\nHost: a\r\nX-Mixed-Case:\t two words \r\nContent-Length: 12\r\n"
      "Empty:\r\nConnection: Keep-Alive , CLOSE\r\nExpect: 100-Continue\r\n\r\n");
  ASSERT_TRUE(head) << head.error().message;
  EXPECT_EQ(head->request.method, "POST");
  EXPECT_EQ(head->request.target, "/v1/completions?x=1");
  EXPECT_EQ(head->request.path, "/v1/completions");
  EXPECT_EQ(head->request.header("x-mixed-case"), "two words");
  EXPECT_EQ(head->request.headers.size(), 6U);
  EXPECT_EQ(head->length, 12U);
  EXPECT_TRUE(head->http_1_1 && head->expects_continue);
  EXPECT_FALSE(head->chunked || head->keep_alive);
}

TEST(RequestHead, KeepsConnectionsAsTheVersionSays) {
  const auto kept = [](std::string_view head) { return parse_request_head(head)->keep_alive; };
  EXPECT_TRUE(kept("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_FALSE(kept("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(kept("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  EXPECT_FALSE(kept("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n"));
}

TEST(RequestHead, RefusesWhatTwoReadersCouldReadDifferently) {
  for (const std::string_view head : {
           std::string_view("\r\n\r\n"),
           std::string_view("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
           std::string_view("GET /\r\n\r\n"),
           std::string_view("GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
           std::string_view("GET / x HTTP/1.1\r\nHost: a\r\n\r\n"),
           std::string_view("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
           std::string_view("GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
           std::string_view("GET / http/1.1\r\nHost: a\r\n\r\n"),
           std::string_view("G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
           std::string_view("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n"),
           std::string_view("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 29),
           std::string_view("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n"),
           std::string_view("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
           std::string_view("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
           std::string_view("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n"),
           std::string_view("GET / HTTP/1.1\r\nHost: a\r\nX: b\x01\r\n\r\n"),
           std::string_view("GET / HTTP/1.1\r\nHost: a\r\nX: b\x7f\r\n\r\n"),
           std::string_view("GET / HTTP/1.1\r\nHost: a\r\nX: b\n\r\n"),
           std::string_view("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"),
           std::string_view("GET / HTTP/1.1\r\n\r\n"),
           std::string_view("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
           std::string_view("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
           std::string_view("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"),
           std::string_view("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n"),
           std::string_view("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
           std::string_view("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n"),
           std::string_view("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
           std::string_view("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
           std::string_view("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0b"
                            "chunked\r\n\r\n"),
           std::string_view("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
       })
    EXPECT_FALSE(parse_request_head(head)) << head;
}

TEST(RequestHead, APartOfAHeadMayEndAnywhere) {
  EXPECT_TRUE(check_lines("GET / HTTP/1.1\r\nHo"));
  EXPECT_TRUE(check_lines("GET / HTTP/1.1\r\n"));
  EXPECT_FALSE(check_lines("GET / HTTP/1.1\nHo"));
  EXPECT_FALSE(check_lines("GET / HTTP/1.1\r\nA: b\r\n\tc"));
}

std::string read_chunks(std::string_view bytes, std::size_t step, bool& done, std::string* rest = nullptr) {
  ChunkReader reader;
  std::string body, left;
  while (!bytes.empty()) {
    std::string_view part = bytes.substr(0, step);
    bytes.remove_prefix(part.size());
    const auto status = reader.push(part, [&](std::string_view data) {
      body += data;
      return true;
    });
    if (!status) return "error";
    left += part;
  }
  done = reader.done();
  if (rest != nullptr) *rest = left;
  return reader.has_trailers() ? body + " and trailers" : body;
}

TEST(ChunkReader, ReadsInAnyGroupingAndLeavesWhatFollows) {
  constexpr std::string_view kBytes = "3\r\nabc\r\n0A;name=value\r\n0123456789\r\n0\r\n\r\nGET /next";
  for (std::size_t step = 1; step <= kBytes.size(); ++step) {
    bool done = false;
    std::string rest;
    EXPECT_EQ(read_chunks(kBytes, step, done, &rest), "abc0123456789") << step;
    EXPECT_TRUE(done);
    EXPECT_EQ(rest, "GET /next");
  }
}

TEST(ChunkReader, TellsOfTrailersAndRefusesBrokenChunks) {
  bool done = false;
  EXPECT_EQ(read_chunks("1\r\na\r\n0\r\nX: y\r\n\r\n", 100, done), "a and trailers");
  EXPECT_TRUE(done);
  EXPECT_EQ(read_chunks("5\r\nab", 100, done), "ab");
  EXPECT_FALSE(done);
  for (const std::string_view bytes : {"0x1\r\na\r\n", "+1\r\na\r\n", "-1\r\na\r\n", "\r\na\r\n",
                                       "10000000000000000\r\n", "1\r\nab\r\n", "1\na\r\n", "1 1\r\na\r\n", "g\r\n"})
    EXPECT_EQ(read_chunks(bytes, 100, done), "error") << bytes;
  EXPECT_EQ(read_chunks(std::string(5000, '1'), 100, done), "error");
}

}  // namespace
}  // namespace hp::net

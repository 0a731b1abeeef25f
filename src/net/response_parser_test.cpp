#include "net/response_parser.h"

#include <gtest/gtest.h>

namespace hp::net {
namespace {

struct Read {
  int status = 0;
  std::string body;
  bool ok = false, done = false, keep_alive = false;
};

Read read(std::string_view wire, std::size_t step, bool head = false, bool close = false) {
  ResponseParser parser(head);
  Read out;
  const ResponseParser::Sink sink{.on_head =
                                      [&](int status, const Headers&) {
                                        out.status = status;
                                        return true;
                                      },
                                  .on_body =
                                      [&](std::string_view bytes) {
                                        out.body += bytes;
                                        return true;
                                      }};
  out.ok = true;
  for (std::size_t at = 0; at < wire.size() && out.ok; at += step)
    out.ok = parser.push(wire.substr(at, step), sink).has_value();
  if (close && out.ok) out.ok = parser.finish().has_value();
  out.done = parser.done();
  out.keep_alive = parser.keep_alive();
  return out;
}

TEST(ResponseParser, ReadsEveryFramingInAnyGrouping) {
  struct Case {
    const char* wire;
    const char* body;
    bool head, close, keep_alive;
  };
  const Case cases[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false, false, true},
      {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: Close\r\n\r\nhello", "hello", false, false, false},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: 1\r\n\r\n", "hello",
       false, false, true},
      {"HTTP/1.0 200 OK\r\n\r\nhello", "hello", false, true, false},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", "hello", false, false, true},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", true, false, true},
      {"HTTP/1.1 204 No Content\r\n\r\n", "", false, false, true},
      {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", false, false, true},
  };
  for (const Case& c : cases)
    for (std::size_t step = 1; step <= 100; ++step) {
      const Read got = read(c.wire, step, c.head, c.close);
      EXPECT_TRUE(got.ok && got.done) << c.wire << step;
      EXPECT_EQ(got.body, c.body) << c.wire;
      EXPECT_EQ(got.keep_alive, c.keep_alive) << c.wire;
      EXPECT_EQ(got.status / 100, 2);
    }
}

TEST(ResponseParser, RefusesWhatTwoReadersCouldReadDifferently) {
  for (const std::string_view wire : {
           "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
           "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nhel\r\n",
           "HTTP/1.1 200 OK\r\nA b: 1\r\n\r\n",
           "HTTP/1.1 200 OK\r\n folded\r\n\r\n",
           "HTTP/2 200 OK\r\n\r\n",
           "HTTP/1.1 999 OK\r\n\r\n",
           "hello world, this is not HTTP\r\n\r\n",
       })
    EXPECT_FALSE(read(wire, wire.size()).ok) << wire;
  EXPECT_FALSE(read("HTTP/1.1 200 OK\r\nX: " + std::string(70'000, 'x'), 1000).ok);
  EXPECT_FALSE(read("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", 100, false, true).ok) << "cut";
}

}  // namespace
}  // namespace hp::net

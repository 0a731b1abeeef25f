// A whole connection of the HTTP server, fed with arbitrary bytes over a real socket: it answers or closes, never more
// answers than a handler gave or one refusal, and the next client is served.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/log.h"
#include "net/http_server.h"

namespace {

std::atomic<int> handled{0};

const std::string& address() {
  static hp::MetricsRegistry metrics;
  static const std::string path = "/tmp/homeport-fuzz-" + std::to_string(::getpid()) + ".sock";
  static const auto server = [] {
    hp::log::configure({.level = hp::log::Level::off});
    auto started = hp::net::HttpServer::start(
        {.address = "unix:" + path, .max_body_bytes = 4096},
        [](const hp::net::HttpRequest& request, const std::shared_ptr<hp::net::ResponseWriter>& writer) {
          ++handled;
          HP_CHECK(request.body.size() <= 4096, "{}", request.body.size());
          for (const auto& [name, value] : request.headers)
            HP_CHECK((name + value).find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos, "'{}'", name);
          writer->send({.headers = {}, .body = "ok"});
        },
        metrics);
    HP_CHECK(started, "{}", started.error().message);
    return *std::move(started);
  }();
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string& path = address();
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  HP_CHECK(::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0, "the server is gone");
  const int before = handled;
  while (size > 0) {
    const auto n = ::send(fd, data, size, MSG_NOSIGNAL);
    if (n <= 0) break;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  ::shutdown(fd, SHUT_WR);
  std::string answer;
  char part[4096];
  for (ssize_t n = 0; (n = ::recv(fd, part, sizeof part, 0)) > 0;) answer.append(part, static_cast<std::size_t>(n));
  ::close(fd);
  int answers = 0;
  for (auto at = answer.find("HTTP/1.1 2"); at != std::string::npos; at = answer.find("HTTP/1.1 2", at + 1)) ++answers;
  HP_CHECK(answers <= handled - before, "{} answers to {} requests", answers, handled - before);
  return 0;
}

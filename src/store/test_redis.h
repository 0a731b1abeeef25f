// A redis-server of a test's own, on a free port, without files; it dies with the test.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace hp::store {

class TestRedis {
 public:
  TestRedis() : port_(free_port()) { start(); }
  ~TestRedis() { kill(); }
  TestRedis(const TestRedis&) = delete;
  TestRedis& operator=(const TestRedis&) = delete;

  [[nodiscard]] static bool installed() { return ::access(kProgram, X_OK) == 0; }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void start() {
    pid_ = ::fork();
    if (pid_ != 0) return wait_until_it_listens();
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ::dup2(null, 1);
    ::dup2(null, 2);
    const std::string port = std::to_string(port_);
    ::execl(kProgram, kProgram, "--port", port.c_str(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            nullptr);
    ::_exit(127);
  }
  void freeze() const { ::kill(pid_, SIGSTOP); }
  void thaw() const { ::kill(pid_, SIGCONT); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  void wait_until_it_listens() const {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 6'000; ++i) {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const bool there = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
      ::close(fd);
      if (there) return;
      ::usleep(10'000);
    }
  }
  static constexpr const char* kProgram = "/usr/bin/redis-server";
  // Outside the range of outgoing connections, so that it is still free when the server starts again.
  static int free_port() {
    std::random_device random;
    for (;;) {
      const auto port = static_cast<std::uint16_t>(10'000 + random() % 20'000);
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(port);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      const bool free = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
      ::close(fd);
      if (free) return port;
    }
  }
  int port_;
  pid_t pid_ = -1;
};

}  // namespace hp::store

// A server of a test's own that speaks as much of Redis' protocol as to be late.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>

namespace hp::store {

/// Says PONG to everything, `pause` late, to one client after the other.
class LateServer {
 public:
  explicit LateServer(std::chrono::milliseconds pause)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), pause_(pause) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(fd_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(fd_, 16);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] {
      for (int client = 0; (client = ::accept(fd_, nullptr, nullptr)) >= 0; ::close(client), ++clients_) {
        std::array<char, 256> bytes{};
        while (::recv(client, bytes.data(), bytes.size(), 0) > 0) {
          std::this_thread::sleep_for(pause_.load());
          if (::send(client, "+PONG\r\n", 7, MSG_NOSIGNAL) < 0) break;
        }
      }
    });
  }
  ~LateServer() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  LateServer(const LateServer&) = delete;
  LateServer& operator=(const LateServer&) = delete;
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void set_pause(std::chrono::milliseconds pause) { pause_ = pause; }
  [[nodiscard]] int clients() const { return clients_; }

 private:
  int fd_, port_ = 0;
  std::atomic<std::chrono::milliseconds> pause_;
  std::atomic<int> clients_{0};
  std::thread thread_;
};

}  // namespace hp::store

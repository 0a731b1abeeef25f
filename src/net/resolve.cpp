#include "net/resolve.h"

#include <netdb.h>
#include <sys/socket.h>

#include <set>

namespace hp::net {

Status check_own_address(const std::string& address) {
  if (address.starts_with("unix:") || address.starts_with("127.") || address == "::1" || address == "localhost")
    return {};
  return fail(ErrorCode::invalid_argument,
              "the admin address must be this machine's own (127.0.0.1, ::1 or unix:/path), found '{}'", address);
}

Result<std::vector<std::string>> resolve_all(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &list); error != 0)
    return fail(ErrorCode::unavailable, "cannot resolve '{}': {}", host, ::gai_strerror(error));
  std::set<std::string> addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(entry->ai_addr, entry->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
      addresses.insert(text);
  }
  ::freeaddrinfo(list);
  return std::vector<std::string>(addresses.begin(), addresses.end());
}

}  // namespace hp::net

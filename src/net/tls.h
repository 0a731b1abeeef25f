// TLS for the client: certificate and host name verified against the system's authorities (SSL_CERT_FILE and
// SSL_CERT_DIR name others). Works on a non-blocking socket that somebody else owns. Private to this room.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hp::net {

/// What a call ended with; for read and write: wait until the socket is ready that way and call again.
enum class TlsOutcome { done, want_read, want_write, closed, failed };

class TlsSession {
 public:
  static Result<std::unique_ptr<TlsSession>> create(int socket, const std::string& host);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  TlsOutcome handshake();
  TlsOutcome read(std::span<char> into, std::size_t& count);
  TlsOutcome write(std::string_view bytes, std::size_t& count);
  /// Decrypted bytes wait inside, though the socket may have none.
  [[nodiscard]] bool pending() const;
  /// Why the last call failed: "certificate verify failed: self-signed certificate".
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  struct Handle;
  explicit TlsSession(std::unique_ptr<Handle> handle);
  TlsOutcome outcome(int result);
  std::unique_ptr<Handle> handle_;
  std::string error_;
};

}  // namespace hp::net

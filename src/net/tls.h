// TLS on a non-blocking socket that somebody else owns, for both sides. A client verifies certificate and host name
// against an authority of its own or the system's (SSL_CERT_FILE and SSL_CERT_DIR name others). Private to this room.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/tls_files.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace hp::net {

/// What a call ended with; for read and write: wait until the socket is ready that way and call again.
enum class TlsOutcome { done, want_read, want_write, closed, failed };

class TlsSession {
 public:
  /// `authority`: null takes the system's.
  static Result<std::unique_ptr<TlsSession>> connect(int socket, const std::string& host,
                                                     const TlsAuthority* authority);
  static Result<std::unique_ptr<TlsSession>> accept(int socket, const TlsIdentity& identity);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  TlsOutcome handshake();
  TlsOutcome read(std::span<char> into, std::size_t& count);
  TlsOutcome write(std::string_view bytes, std::size_t& count);
  /// Tells the peer that nothing comes after this, so that it can tell an end from a cut. After a handshake only.
  void say_goodbye();
  /// Decrypted bytes wait inside, though the socket may have none.
  [[nodiscard]] bool pending() const;
  /// Why the last call failed: "certificate verify failed: self-signed certificate". "http request" on the accepting
  /// side: the client spoke plain HTTP.
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  struct Handle;
  explicit TlsSession(std::unique_ptr<Handle> handle);
  static Result<std::unique_ptr<Handle>> open(ssl_ctx_st* context, int socket);
  TlsOutcome outcome(int result);
  std::unique_ptr<Handle> handle_;
  std::string error_;
};

}  // namespace hp::net

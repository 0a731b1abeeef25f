// The OpenSSL side of TlsIdentity and TlsAuthority. Private to this room.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "net/tls_files.h"

namespace hp::net {

struct SslContextDeleter {
  void operator()(SSL_CTX* c) const { SSL_CTX_free(c); }
};
using SslContext = std::unique_ptr<SSL_CTX, SslContextDeleter>;

struct TlsIdentity::Context {
  SslContext ssl;
};
struct TlsAuthority::Context {
  SslContext ssl;
};

/// For clients: the peer is verified. Null when OpenSSL has no memory. Without authorities yet.
SslContext new_client_context();
/// What OpenSSL says of the last failure; clears it.
std::string last_tls_error();

}  // namespace hp::net

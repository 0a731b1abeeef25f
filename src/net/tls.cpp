#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>
#include <climits>
#include <cstdint>

#include "net/tls_context.h"

namespace hp::net {
namespace {

// A BIO over the socket that never raises SIGPIPE; OpenSSL's own uses write().
int socket_of(BIO* bio) {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio)));
}
bool again() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}
int bio_write(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const auto n = ::send(socket_of(bio), data, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (n < 0 && again()) BIO_set_retry_write(bio);
  return static_cast<int>(n);
}
int bio_read(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  const auto n = ::recv(socket_of(bio), data, static_cast<std::size_t>(size), 0);
  if (n < 0 && again()) BIO_set_retry_read(bio);
  return static_cast<int>(n);
}
long bio_ctrl(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD* socket_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "homeport socket");
    BIO_meth_set_write(m, bio_write);
    BIO_meth_set_read(m, bio_read);
    BIO_meth_set_ctrl(m, bio_ctrl);
    return m;
  }();
  return method;
}

SSL_CTX* system_client_context() {
  static const SslContext context = [] {
    SslContext c = new_client_context();
    if (c) SSL_CTX_set_default_verify_paths(c.get());
    return c;
  }();
  return context.get();
}

}  // namespace

struct TlsSession::Handle {
  SSL* ssl = nullptr;
  ~Handle() { SSL_free(ssl); }
};

TlsSession::TlsSession(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
TlsSession::~TlsSession() = default;

Result<std::unique_ptr<TlsSession::Handle>> TlsSession::open(ssl_ctx_st* context, int socket) {
  auto handle = std::make_unique<Handle>();
  handle->ssl = context != nullptr ? SSL_new(context) : nullptr;
  BIO* bio = handle->ssl != nullptr ? BIO_new(socket_method()) : nullptr;
  if (bio == nullptr) return fail(ErrorCode::internal, "TLS cannot be set up: {}", last_tls_error());
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(socket)));
  BIO_set_init(bio, 1);
  SSL_set_bio(handle->ssl, bio, bio);
  return handle;
}

Result<std::unique_ptr<TlsSession>> TlsSession::connect(int socket, const std::string& host,
                                                        const TlsAuthority* authority) {
  HP_TRY(auto handle, open(authority != nullptr ? authority->context().ssl.get() : system_client_context(), socket));
  X509_VERIFY_PARAM* verify = SSL_get0_param(handle->ssl);
  const bool is_address = X509_VERIFY_PARAM_set1_ip_asc(verify, host.c_str()) == 1;
  if (!is_address &&
      (SSL_set1_host(handle->ssl, host.c_str()) != 1 || SSL_set_tlsext_host_name(handle->ssl, host.c_str()) != 1))
    return fail(ErrorCode::invalid_argument, "'{}' is no host name for TLS: {}", host, last_tls_error());
  ERR_clear_error();
  SSL_set_connect_state(handle->ssl);
  return std::unique_ptr<TlsSession>(new TlsSession(std::move(handle)));
}

Result<std::unique_ptr<TlsSession>> TlsSession::accept(int socket, const TlsIdentity& identity) {
  const auto context = identity.context();
  HP_TRY(auto handle, open(context->ssl.get(), socket));  // the session holds a reference of its own
  SSL_set_accept_state(handle->ssl);
  return std::unique_ptr<TlsSession>(new TlsSession(std::move(handle)));
}

TlsOutcome TlsSession::outcome(int result) {
  switch (SSL_get_error(handle_->ssl, result)) {
    case SSL_ERROR_NONE:
      return TlsOutcome::done;
    case SSL_ERROR_WANT_READ:
      return TlsOutcome::want_read;
    case SSL_ERROR_WANT_WRITE:
      return TlsOutcome::want_write;
    case SSL_ERROR_ZERO_RETURN:
      return TlsOutcome::closed;
    default:
      break;
  }
  const long verdict = SSL_get_verify_result(handle_->ssl);
  error_ = last_tls_error();
  if (error_.empty()) error_ = "the connection was cut";
  if (verdict != X509_V_OK) error_ += std::string(": ") + X509_verify_cert_error_string(verdict);
  return TlsOutcome::failed;
}

TlsOutcome TlsSession::handshake() {
  ERR_clear_error();
  return outcome(SSL_do_handshake(handle_->ssl));
}

TlsOutcome TlsSession::read(std::span<char> into, std::size_t& count) {
  ERR_clear_error();
  count = 0;
  return outcome(SSL_read_ex(handle_->ssl, into.data(), into.size(), &count));
}

TlsOutcome TlsSession::write(std::string_view bytes, std::size_t& count) {
  ERR_clear_error();
  count = 0;
  return outcome(SSL_write_ex(handle_->ssl, bytes.data(), bytes.size(), &count));
}

void TlsSession::say_goodbye() {
  ERR_clear_error();
  SSL_shutdown(handle_->ssl);
}

bool TlsSession::pending() const {
  return SSL_pending(handle_->ssl) > 0;
}

}  // namespace hp::net

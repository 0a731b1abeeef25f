#include "net/tls_files.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include <algorithm>
#include <ctime>

#include "base/log.h"
#include "net/tls_context.h"

namespace hp::net {
namespace {

constexpr int kExpiryWarningDays = 14;

// A key with a passphrase must fail, not ask at the terminal.
int no_passphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*data*/) {
  return 0;
}

// HTTP/1.1 is all we speak; a client that offers other protocols only is served without an answer to its offer.
int choose_protocol(SSL* /*ssl*/, const unsigned char** out, unsigned char* size, const unsigned char* offered,
                    unsigned int offered_size, void* /*data*/) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, kOurs, sizeof kOurs - 1, offered, offered_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

void warn_of_expiry(SSL_CTX* context, const std::string& file) {
  int days = 0, seconds = 0;
  const X509* certificate = SSL_CTX_get0_certificate(context);
  if (certificate == nullptr || ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate)) != 1) return;
  if (days < 0 || seconds < 0)
    log::warn("the certificate in {} has expired; clients will refuse it", file);
  else if (days < kExpiryWarningDays)
    log::warn("the certificate in {} expires in {} days", file, days);
}

Result<SslContext> server_context(const std::string& certificate_file, const std::string& key_file) {
  ERR_clear_error();
  SslContext context(SSL_CTX_new(TLS_server_method()));
  if (!context) return fail(ErrorCode::internal, "TLS cannot be set up: {}", last_tls_error());
  SSL_CTX* c = context.get();
  SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
  SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_default_passwd_cb(c, no_passphrase);
  SSL_CTX_set_alpn_select_cb(c, choose_protocol, nullptr);
  if (SSL_CTX_use_certificate_chain_file(c, certificate_file.c_str()) != 1)
    return fail(ErrorCode::invalid_argument, "{}: expected a certificate in PEM form, with its chain after it: {}",
                certificate_file, last_tls_error());
  if (SSL_CTX_use_PrivateKey_file(c, key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    const std::string why = last_tls_error();
    if (why.find("mismatch") != std::string::npos)
      return fail(ErrorCode::invalid_argument, "the key in {} does not belong to the certificate in {}", key_file,
                  certificate_file);
    return fail(ErrorCode::invalid_argument, "{}: expected a private key in PEM form without a passphrase: {}",
                key_file, why);
  }
  if (SSL_CTX_check_private_key(c) != 1)
    return fail(ErrorCode::invalid_argument, "the key in {} does not belong to the certificate in {}: {}", key_file,
                certificate_file, last_tls_error());
  warn_of_expiry(c, certificate_file);
  return context;
}

}  // namespace

std::string last_tls_error() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    if (reason != nullptr) text = reason;
  }
  return text;
}

SslContext new_client_context() {
  SslContext context(SSL_CTX_new(TLS_client_method()));
  if (!context) return context;
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return context;
}

TlsIdentity::TlsIdentity(std::string certificate_file, std::string key_file)
    : certificate_file_(std::move(certificate_file)), key_file_(std::move(key_file)) {}
TlsIdentity::~TlsIdentity() = default;

Result<std::shared_ptr<TlsIdentity>> TlsIdentity::load(std::string certificate_file, std::string key_file) {
  if (certificate_file.empty() && key_file.empty()) return nullptr;
  if (certificate_file.empty() || key_file.empty())
    return fail(ErrorCode::invalid_argument, "TLS needs a certificate and its key: {} is missing",
                certificate_file.empty() ? "the certificate" : "the key");
  std::shared_ptr<TlsIdentity> identity(new TlsIdentity(std::move(certificate_file), std::move(key_file)));
  HP_TRY_VOID(identity->reload());
  return identity;
}

Status TlsIdentity::reload() {
  HP_TRY(auto ssl, server_context(certificate_file_, key_file_));
  auto fresh = std::make_shared<const Context>(Context{std::move(ssl)});
  const std::lock_guard lock(mutex_);
  context_ = std::move(fresh);
  return {};
}

std::int64_t TlsIdentity::expires_at() const {
  const auto now = context();
  const X509* certificate = SSL_CTX_get0_certificate(now->ssl.get());
  std::tm end{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) return 0;
  return ::timegm(&end);
}

std::shared_ptr<const TlsIdentity::Context> TlsIdentity::context() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

TlsAuthority::TlsAuthority(std::unique_ptr<Context> context) : context_(std::move(context)) {}
TlsAuthority::~TlsAuthority() = default;

Result<std::shared_ptr<const TlsAuthority>> TlsAuthority::load(const std::string& file) {
  ERR_clear_error();
  SslContext context = new_client_context();
  if (!context) return fail(ErrorCode::internal, "TLS cannot be set up: {}", last_tls_error());
  if (SSL_CTX_load_verify_locations(context.get(), file.c_str(), nullptr) != 1)
    return fail(ErrorCode::invalid_argument, "{}: expected certificates of authorities in PEM form: {}", file,
                last_tls_error());
  return std::shared_ptr<const TlsAuthority>(new TlsAuthority(std::make_unique<Context>(Context{std::move(context)})));
}

}  // namespace hp::net

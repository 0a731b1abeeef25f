// Certificates from PEM files: what a server shows (TlsIdentity) and whom a client believes (TlsAuthority).
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"

namespace hp::net {

/// A server's certificate, with the chain behind it, and its private key. TLS 1.2 and 1.3.
class TlsIdentity {
 public:
  /// Null when both names are empty: plain HTTP. An error names the file and what is wrong with it, also when key and
  /// certificate do not belong together.
  static Result<std::shared_ptr<TlsIdentity>> load(std::string certificate_file, std::string key_file);
  ~TlsIdentity();
  TlsIdentity(const TlsIdentity&) = delete;
  TlsIdentity& operator=(const TlsIdentity&) = delete;

  /// Reads the files again, for connections that come from now on. On an error the old pair stays.
  Status reload();
  /// End of the certificate that is shown now, in seconds since 1970.
  [[nodiscard]] std::int64_t expires_at() const;

  struct Context;
  [[nodiscard]] std::shared_ptr<const Context> context() const;

 private:
  TlsIdentity(std::string certificate_file, std::string key_file);
  const std::string certificate_file_, key_file_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Context> context_;
};

/// Certificate authorities of one PEM file, in place of the system's.
class TlsAuthority {
 public:
  static Result<std::shared_ptr<const TlsAuthority>> load(const std::string& file);
  ~TlsAuthority();
  TlsAuthority(const TlsAuthority&) = delete;
  TlsAuthority& operator=(const TlsAuthority&) = delete;

  struct Context;
  [[nodiscard]] const Context& context() const { return *context_; }

 private:
  explicit TlsAuthority(std::unique_ptr<Context> context);
  std::unique_ptr<Context> context_;
};

}  // namespace hp::net

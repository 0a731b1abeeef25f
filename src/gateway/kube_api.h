// Where the Kubernetes API is, and requests to it in the name of the pod's service account.
#pragma once

#include <memory>
#include <string>

#include "base/config.h"
#include "base/result.h"
#include "net/http_client.h"

namespace hp::gateway {

struct KubeOptions {
  std::string url;         ///< of the API; empty: https:// and KUBERNETES_SERVICE_HOST and _PORT
  std::string token_file;  ///< read again for every request: Kubernetes changes it
  std::string ca_file;
};
KubeOptions kube_options(const Config& config);

class KubeApi {
 public:
  static Result<KubeApi> open(const KubeOptions& options);
  /// A GET of `target` on a connection of its own.
  [[nodiscard]] net::ClientRequest request(std::string target) const;

 private:
  bool tls_ = true;
  std::string host_;
  std::uint16_t port_ = 443;
  std::string token_file_;
  std::shared_ptr<const net::TlsAuthority> authority_;
};

}  // namespace hp::gateway

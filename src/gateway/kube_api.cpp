#include "gateway/kube_api.h"

#include <cstdlib>
#include <fstream>

#include "gateway/node_table.h"

namespace hp::gateway {

KubeOptions kube_options(const Config& config) {
  return {.url = config.text("gateway.kube_url"),
          .token_file = config.text("gateway.kube_token_file"),
          .ca_file = config.text("gateway.kube_ca_file")};
}

Result<KubeApi> KubeApi::open(const KubeOptions& options) {
  KubeApi api;
  std::string url = options.url;
  if (url.empty()) {
    const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
    const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
    if (host == nullptr)
      return fail(ErrorCode::invalid_argument,
                  "the Kubernetes API is not known: run inside a cluster, or set gateway.kube_url");
    url = fmt::format(
        fmt::runtime(std::string_view(host).find(':') != std::string_view::npos ? "https://[{}]:{}" : "https://{}:{}"),
        host, port != nullptr ? port : "443");
  }
  api.tls_ = url.starts_with("https://");
  if (!api.tls_ && !url.starts_with("http://"))
    return fail(ErrorCode::invalid_argument, "gateway.kube_url must begin with https://, found '{}'", url);
  HP_TRY(const NodeConfig address, parse_node(url));
  api.host_ = address.host;
  api.port_ = address.port;
  api.token_file_ = options.token_file;
  if (api.tls_ && !options.ca_file.empty()) {
    HP_TRY(api.authority_, net::TlsAuthority::load(options.ca_file));
  }
  return api;
}

net::ClientRequest KubeApi::request(std::string target) const {
  net::ClientRequest request{.host = host_, .port = port_, .tls = tls_, .authority = authority_};
  request.target = std::move(target);
  request.headers = {{"Accept", "application/json"}};
  request.keep_alive = false;
  if (std::ifstream file(token_file_); file) {
    std::string token;
    std::getline(file, token);
    if (!token.empty()) request.headers.emplace_back("Authorization", "Bearer " + token);
  }
  return request;
}

}  // namespace hp::gateway

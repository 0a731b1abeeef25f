// What a hub says about a repository: its files, their sizes and hashes, and where they lie. Speaks the API of Hugging
// Face (and of mirrors named by HF_ENDPOINT) and of ModelScope.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "hub/url.h"
#include "net/http_client.h"

namespace hp::hub {

struct HubFile {
  std::string path;  ///< relative, checked: never leaves its folder
  std::uint64_t size = 0;
  std::string sha256;   ///< of large files; empty otherwise
  std::string git_sha;  ///< git's hash of the blob, for small files; empty otherwise
};

struct Hub {
  enum class Kind { hugging_face, model_scope };
  Kind kind = Kind::hugging_face;
  Url base;
  std::string token;  ///< sent to the hub itself only, never to where it redirects
  std::string revision = "main";

  /// From HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME, MODELSCOPE_ENDPOINT and MODELSCOPE_API_TOKEN.
  static Result<Hub> from_environment(Kind kind, const std::function<const char*(const char*)>& variable);
  [[nodiscard]] Url file_url(std::string_view repository, std::string_view path) const;
};

/// Headers of an answer after redirects, and where it came from in the end.
struct Landed {
  int status = 0;
  net::Headers headers;
  Url url;
};

/// GET that follows redirects. `sink` gets the body of a 2xx answer; the token goes to the hub's own server only.
Result<Landed> get(net::HttpClient& client, const Hub& hub, Url url, net::Headers headers, std::uint64_t max_bytes,
                   const std::function<void(const Landed&)>& begin, const std::function<bool(std::string_view)>& sink);

/// All files of the repository.
Result<std::vector<HubFile>> list_files(net::HttpClient& client, const Hub& hub, const std::string& repository);

}  // namespace hp::hub

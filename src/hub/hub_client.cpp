#include "hub/hub_client.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <future>

#include "base/json.h"
#include "hub/limits.h"

namespace hp::hub {
namespace {

std::string header_of(const net::Headers& headers, std::string_view name) {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

bool redirects(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// A path out of a hub's list must stay inside the model's folder.
bool stays_inside(std::string_view path) {
  if (path.empty() || path.size() > 1024 || path.front() == '/' || path.find('\0') != std::string_view::npos ||
      path.find('\\') != std::string_view::npos)
    return false;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, end - at);
    if (part.empty() || part == "." || part == "..") return false;
    at = end + 1;
  }
  return true;
}

std::string text_of(const JsonValue& object, std::string_view key) {
  const JsonValue* v = object.find(key);
  const std::string* s = v != nullptr ? v->as_string() : nullptr;
  return s != nullptr ? *s : std::string();
}

std::int64_t number_of(const JsonValue& object, std::string_view key) {
  const JsonValue* v = object.find(key);
  return v != nullptr ? v->as_int().value_or(-1) : -1;
}

Status add_file(HubFile file, std::int64_t size, const Url& from, std::vector<HubFile>& out) {
  if (!stays_inside(file.path) || size < 0 || out.size() >= kMaxFiles)
    return fail(ErrorCode::corrupt_data, "{} lists the file '{}' of {} bytes: not a plain relative path, or too many",
                from.text(), file.path.substr(0, 200), size);
  file.size = static_cast<std::uint64_t>(size);
  out.push_back(std::move(file));
  return {};
}

/// One page of /api/models/…/tree/….
Status read_hugging_face(const JsonValue& json, const Url& from, std::vector<HubFile>& out) {
  const JsonValue::Array* entries = json.as_array();
  if (entries == nullptr)
    return fail(ErrorCode::corrupt_data, "{} answered a {}, expected a list of files", from.text(), json.type_name());
  for (const JsonValue& e : *entries) {
    if (text_of(e, "type") != "file") continue;
    HubFile file{.path = text_of(e, "path")};
    const JsonValue* lfs = e.find("lfs");
    if (lfs != nullptr && lfs->as_object() != nullptr) {
      file.sha256 = text_of(*lfs, "oid");
      if (file.sha256.starts_with("sha256:")) file.sha256.erase(0, 7);
    } else {
      file.git_sha = text_of(e, "oid");
    }
    HP_TRY_VOID(add_file(std::move(file), number_of(e, "size"), from, out));
  }
  return {};
}

Status read_model_scope(const JsonValue& json, const Url& from, std::vector<HubFile>& out) {
  const JsonValue* data = json.find("Data");
  const JsonValue* list = data != nullptr ? data->find("Files") : nullptr;
  const JsonValue::Array* entries = list != nullptr ? list->as_array() : nullptr;
  if (entries == nullptr)
    return fail(ErrorCode::corrupt_data, "{} answered without Data.Files: {}", from.text(), text_of(json, "Message"));
  for (const JsonValue& e : *entries) {
    if (text_of(e, "Type") != "blob") continue;
    HP_TRY_VOID(
        add_file({.path = text_of(e, "Path"), .sha256 = text_of(e, "Sha256")}, number_of(e, "Size"), from, out));
  }
  return {};
}

/// The address of the next page in a Link header, or empty.
std::string next_page(const net::Headers& headers) {
  const std::string link = header_of(headers, "link");
  const std::size_t open = link.find('<'), close = link.find('>');
  if (open == std::string::npos || close == std::string::npos || link.find("rel=\"next\"", close) == std::string::npos)
    return {};
  return link.substr(open + 1, close - open - 1);
}

Error refusal(int status, const Url& url, bool has_token) {
  if (status == 401 || status == 403)
    return {ErrorCode::unavailable,
            fmt::format("{} answered {}: {}", url.text(), status,
                        has_token ? "the token does not open this model; accept its terms on the hub's page"
                                  : "the model does not exist or wants a token (HF_TOKEN)")};
  if (status == 404) return {ErrorCode::not_found, fmt::format("{} is not there (404): check the name", url.text())};
  return {ErrorCode::unavailable, fmt::format("{} answered {}", url.text(), status)};
}

}  // namespace

Result<Hub> Hub::from_environment(Kind kind, const std::function<const char*(const char*)>& variable) {
  const auto text = [&](const char* name, std::string fallback) {
    const char* v = variable(name);
    return v != nullptr && *v != '\0' ? std::string(v) : std::move(fallback);
  };
  Hub hub;
  hub.kind = kind;
  if (kind == Kind::model_scope) {
    HP_TRY(hub.base, Url::parse(text("MODELSCOPE_ENDPOINT", "https://modelscope.cn")));
    hub.token = text("MODELSCOPE_API_TOKEN", "");
    hub.revision = "master";
    return hub;
  }
  HP_TRY(hub.base, Url::parse(text("HF_ENDPOINT", "https://huggingface.co")));
  const std::string home = text("HF_HOME", text("HOME", "") + "/.cache/huggingface");
  hub.token = text("HF_TOKEN", "");
  if (hub.token.empty()) {
    std::ifstream file(text("HF_TOKEN_PATH", home + "/token"));
    std::getline(file, hub.token);
  }
  while (!hub.token.empty() && static_cast<unsigned char>(hub.token.back()) <= ' ') hub.token.pop_back();
  return hub;
}

Url Hub::file_url(std::string_view repository, std::string_view path) const {
  Url url = base;
  const std::string root = base.target == "/" ? "" : base.target;
  url.target = kind == Kind::model_scope
                   ? fmt::format("{}/api/v1/models/{}/repo?Revision={}&FilePath={}", root, repository,
                                 encode_path(revision), encode_path(path))
                   : fmt::format("{}/{}/resolve/{}/{}", root, repository, encode_path(revision), encode_path(path));
  return url;
}

Result<Landed> get(net::HttpClient& client, const Hub& hub, Url url, net::Headers headers, std::uint64_t max_bytes,
                   const std::function<void(const Landed&)>& begin, const std::function<bool(std::string_view)>& sink) {
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    net::ClientRequest request{
        .host = url.host, .port = url.port, .tls = url.tls, .target = url.target, .headers = headers};
    request.connect_timeout = std::chrono::seconds(15);
    request.read_timeout = std::chrono::seconds(30);
    request.max_body_bytes = max_bytes;
    request.headers.emplace_back("User-Agent", "homeport");
    if (!hub.token.empty() && url.same_server(hub.base))
      request.headers.emplace_back("Authorization", "Bearer " + hub.token);
    Landed landed{.url = url};
    std::promise<Status> done;
    std::atomic<bool> stopped{false};
    std::atomic<net::HttpClient::Handle> handle{0};
    handle = client.start(std::move(request), {.on_headers =
                                                   [&](int status, const net::Headers& h) {
                                                     landed.status = status;
                                                     landed.headers = h;
                                                     if (status / 100 == 2 && begin) begin(landed);
                                                   },
                                               .on_data =
                                                   [&](std::string_view bytes) {
                                                     if (landed.status / 100 != 2) return;
                                                     if (!stopped) stopped = !sink(bytes);
                                                     if (stopped) client.cancel(handle);
                                                   },
                                               .on_done = [&](Status s) { done.set_value(std::move(s)); }});
    HP_TRY_VOID(done.get_future().get());
    if (!redirects(landed.status)) {
      if (landed.status / 100 == 2) return landed;
      return fail(refusal(landed.status, url, !hub.token.empty()));
    }
    HP_TRY(url, url.resolve(header_of(landed.headers, "location")));
  }
  return fail(ErrorCode::unavailable, "{} redirects more than {} times", url.text(), kMaxRedirects);
}

Result<std::vector<HubFile>> list_files(net::HttpClient& client, const Hub& hub, const std::string& repository) {
  Url url = hub.base;
  const std::string root = hub.base.target == "/" ? "" : hub.base.target;
  const bool scope = hub.kind == Hub::Kind::model_scope;
  url.target =
      scope ? fmt::format("{}/api/v1/models/{}/repo/files?Recursive=true&Revision={}", root, repository,
                          encode_path(hub.revision))
            : fmt::format("{}/api/models/{}/tree/{}?recursive=true", root, repository, encode_path(hub.revision));
  std::vector<HubFile> files;
  for (int page = 0; page < kMaxListPages; ++page) {
    std::string body;
    HP_TRY(const Landed landed, get(client, hub, url, {}, kMaxListBytes, {}, [&](std::string_view bytes) {
             body += bytes;
             return true;
           }));
    auto json = JsonValue::parse(body);
    if (!json) return fail(std::move(json.error()).with_context(url.text()));
    HP_TRY_VOID(scope ? read_model_scope(*json, url, files) : read_hugging_face(*json, url, files));
    const std::string next = next_page(landed.headers);
    if (next.empty()) return files;
    HP_TRY(url, url.resolve(next));
  }
  return fail(ErrorCode::resource_exhausted, "the file list of {} has more than {} pages", repository, kMaxListPages);
}

}  // namespace hp::hub

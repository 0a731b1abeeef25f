#include "cli/kube_scale.h"

#include <algorithm>
#include <vector>

#include "base/json.h"

namespace hp::cli {
namespace {

constexpr int kMostConflicts = 5;
constexpr std::chrono::milliseconds kTimeout{5'000};
constexpr std::size_t kLongestName = 253;

std::vector<std::string> parts_of(std::string_view text) {
  std::vector<std::string> out;
  for (;;) {
    const auto slash = text.find('/');
    out.emplace_back(text.substr(0, slash));
    if (slash == std::string_view::npos) return out;
    text.remove_prefix(slash + 1);
  }
}

/// What Kubernetes takes for a name: nothing of it can change a path's meaning.
bool is_name(std::string_view text) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'; };
  return !text.empty() && text.size() <= kLongestName && std::ranges::all_of(text, plain) && text.front() != '.' &&
         text.front() != '-';
}

}  // namespace

Result<std::shared_ptr<KubeScale>> KubeScale::open(const Config& config, net::HttpClient& client) {
  const std::string& text = config.text("ops.kube_scale");
  std::vector<std::string> parts = parts_of(text);
  if (parts.size() == 2) parts.insert(parts.begin() + 1, "deployments");
  if (parts.size() != 3 || (parts[1] != "deployments" && parts[1] != "statefulsets") || !is_name(parts[0]) ||
      !is_name(parts[2]))
    return fail(ErrorCode::invalid_argument,
                "ops.kube_scale: expected namespace/NAME of a Deployment, or namespace/statefulsets/NAME, found '{}'",
                text);
  HP_TRY(auto api, gateway::KubeApi::open(gateway::kube_options(config)));
  std::string path = fmt::format("/apis/apps/v1/namespaces/{}/{}/{}/scale", parts[0], parts[1], parts[2]);
  return std::shared_ptr<KubeScale>(
      new KubeScale(std::move(api), std::move(path), text, config.integer("ops.kube_replicas_max"), client));
}

Result<net::HttpResponse> KubeScale::ask(net::ClientRequest request) {
  request.connect_timeout = request.read_timeout = kTimeout;
  HP_TRY(net::HttpResponse answer, client_.fetch(std::move(request)));
  if (answer.status == 200 || answer.status == 409) return answer;
  const auto json = JsonValue::parse(answer.body);
  const JsonValue* message = json ? json->find("message") : nullptr;
  return fail(ErrorCode::unavailable, "the Kubernetes API answers {} for {}{}", answer.status, path_,
              message != nullptr && message->as_string() != nullptr ? ": " + *message->as_string() : "");
}

Result<KubeScale::Scale> KubeScale::read() {
  HP_TRY(const net::HttpResponse answer, ask(api_.request(path_)));
  const auto json = JsonValue::parse(answer.body);
  const JsonValue* spec = json ? json->find("spec") : nullptr;
  const JsonValue* meta = json ? json->find("metadata") : nullptr;
  const JsonValue* version = meta != nullptr ? meta->find("resourceVersion") : nullptr;
  if (spec == nullptr || version == nullptr || version->as_string() == nullptr)
    return fail(ErrorCode::corrupt_data, "the Kubernetes API's answer for {} is no Scale", path_);
  const JsonValue* replicas = spec->find("replicas");  // left out when there are none
  return Scale{.replicas = replicas != nullptr ? replicas->as_int().value_or(0) : 0, .version = *version->as_string()};
}

Result<bool> KubeScale::write(const Scale& seen, std::int64_t replicas, bool dry_run) {
  net::ClientRequest request = api_.request(path_ + "?fieldManager=homeport" + (dry_run ? "&dryRun=All" : ""));
  request.method = "PATCH";
  request.headers.emplace_back("Content-Type", "application/merge-patch+json");
  JsonWriter json(request.body);
  json.begin_object().key("metadata").begin_object().member("resourceVersion", std::string_view(seen.version));
  json.end_object().key("spec").begin_object().member("replicas", replicas).end_object().end_object();
  HP_TRY(const net::HttpResponse answer, ask(std::move(request)));
  return answer.status == 200;
}

Result<FleetControls::Change> KubeScale::change(int by, bool dry_run) {
  for (int i = 0; i < kMostConflicts; ++i) {
    HP_TRY(const Scale seen, read());
    const std::int64_t wanted = by > 0 ? std::max(seen.replicas, std::min(seen.replicas + by, most_))
                                       : std::min(seen.replicas, std::max<std::int64_t>(seen.replicas + by, 1));
    if (wanted == seen.replicas)
      return fail(ErrorCode::resource_exhausted, "{} has {} replicas: {}", name_, seen.replicas,
                  by > 0 ? fmt::format("at most {} (ops.kube_replicas_max)", most_) : "one stays");
    HP_TRY(const bool written, write(seen, wanted, dry_run));
    if (!written) continue;
    return FleetControls::Change{.nodes = static_cast<int>(std::abs(wanted - seen.replicas)),
                                 .text = fmt::format("{}: {} replicas instead of {}", name_, wanted, seen.replicas)};
  }
  return fail(ErrorCode::unavailable, "{} is changed by somebody else all the time", name_);
}

}  // namespace hp::cli

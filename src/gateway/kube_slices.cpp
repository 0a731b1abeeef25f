#include "gateway/kube_slices.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include "base/json.h"

namespace hp::gateway {
namespace {

constexpr std::int64_t kGone = 410;

std::string text_at(const JsonValue* object, std::string_view key) {
  const JsonValue* value = object != nullptr ? object->find(key) : nullptr;
  return value != nullptr && value->as_string() != nullptr ? *value->as_string() : std::string();
}

std::optional<std::uint16_t> port_number(std::string_view text) {
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number > 0 ? std::optional(number) : std::nullopt;
}

// A name of Kubernetes (RFC 1123 label or subdomain): it goes into a request's path.
bool is_kube_name(std::string_view text) {
  return !text.empty() && text.size() <= 253 &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-.") == std::string_view::npos;
}

KubeSlice slice_of(const JsonValue& object) {
  KubeSlice slice{.name = text_at(object.find("metadata"), "name"), .endpoints = {}, .ports = {}};
  if (const JsonValue* list = object.find("endpoints"); list != nullptr && list->as_array() != nullptr)
    for (const JsonValue& endpoint : *list->as_array()) {
      const JsonValue* addresses = endpoint.find("addresses");
      if (addresses == nullptr || addresses->as_array() == nullptr || addresses->as_array()->empty()) continue;
      const JsonValue& first = addresses->as_array()->front();  // all of one pod are alike: one is enough
      if (first.as_string() == nullptr) continue;
      const JsonValue* conditions = endpoint.find("conditions");
      const JsonValue* terminating = conditions != nullptr ? conditions->find("terminating") : nullptr;
      slice.endpoints.push_back({.pod = text_at(endpoint.find("targetRef"), "name"),
                                 .address = *first.as_string(),
                                 .terminating = terminating != nullptr && terminating->as_bool().value_or(false)});
    }
  if (const JsonValue* list = object.find("ports"); list != nullptr && list->as_array() != nullptr)
    for (const JsonValue& port : *list->as_array()) {
      const JsonValue* number = port.find("port");
      const std::int64_t value = number != nullptr ? number->as_int().value_or(0) : 0;
      if (value > 0 && value < 65536)
        slice.ports.emplace_back(text_at(&port, "name"), static_cast<std::uint16_t>(value));
    }
  return slice;
}

}  // namespace

Result<KubeSource> parse_kube_source(std::string_view text) {
  KubeSource source;
  const std::string_view address = text.substr(0, text.find(';'));
  const std::string_view options = text.substr(address.size());
  const auto slash = address.find('/'), colon = address.rfind(':');
  if (slash == std::string_view::npos || colon == std::string_view::npos || colon < slash)
    return fail(ErrorCode::invalid_argument, "expected k8s:namespace/service:port, found 'k8s:{}'", address);
  source.space = address.substr(0, slash);
  source.service = address.substr(slash + 1, colon - slash - 1);
  source.port = address.substr(colon + 1);
  if (!is_kube_name(source.space) || !is_kube_name(source.service) || !is_kube_name(source.port))
    return fail(ErrorCode::invalid_argument,
                "expected k8s:namespace/service:port with names as Kubernetes has them, found 'k8s:{}'", address);
  HP_TRY(source.pattern, parse_node(fmt::format("{}=pod:1{}", source.service, options)));
  return source;
}

Result<KubeList> parse_slice_list(std::string_view json) {
  HP_TRY(const JsonValue list, JsonValue::parse(json));
  KubeList out{.version = text_at(list.find("metadata"), "resourceVersion"), .slices = {}};
  const JsonValue* items = list.find("items");
  if (out.version.empty() || items == nullptr || (items->as_array() == nullptr && !items->is_null()))
    return fail(ErrorCode::corrupt_data, "expected an EndpointSliceList with metadata.resourceVersion and items");
  if (items->as_array() != nullptr)
    for (const JsonValue& item : *items->as_array()) out.slices.push_back(slice_of(item));
  return out;
}

Result<KubeEvent> parse_watch_event(std::string_view json) {
  HP_TRY(const JsonValue event, JsonValue::parse(json));
  const std::string type = text_at(&event, "type");
  const JsonValue* object = event.find("object");
  if (object == nullptr || object->as_object() == nullptr)
    return fail(ErrorCode::corrupt_data, "a watch event without an object");
  KubeEvent out{.version = text_at(object->find("metadata"), "resourceVersion"), .message = {}, .slice = {}};
  if (type == "ERROR") {
    const JsonValue* code = object->find("code");
    out.kind = code != nullptr && code->as_int() == kGone ? KubeEvent::Kind::too_old : KubeEvent::Kind::error;
    out.message = text_at(object, "message");
    return out;
  }
  if (type == "BOOKMARK") {
    out.kind = KubeEvent::Kind::bookmark;
    return out;
  }
  if (type != "ADDED" && type != "MODIFIED" && type != "DELETED")
    return fail(ErrorCode::corrupt_data, "a watch event of the unknown type '{}'", type);
  out.kind = type == "DELETED" ? KubeEvent::Kind::remove : KubeEvent::Kind::put;
  out.slice = slice_of(*object);
  if (out.slice.name.empty()) return fail(ErrorCode::corrupt_data, "an EndpointSlice without a name");
  return out;
}

void KubeSlices::replace(std::vector<KubeSlice> slices) {
  slices_.clear();
  for (KubeSlice& slice : slices) slices_[slice.name] = std::move(slice);
}

void KubeSlices::apply(const KubeEvent& event) {
  if (event.kind == KubeEvent::Kind::put) slices_[event.slice.name] = event.slice;
  if (event.kind == KubeEvent::Kind::remove) slices_.erase(event.slice.name);
}

std::vector<NodeConfig> KubeSlices::nodes(const KubeSource& source) const {
  std::vector<NodeConfig> out;
  std::set<std::pair<std::string, std::uint16_t>> seen;
  const auto number = port_number(source.port);
  for (const auto& [name, slice] : slices_) {
    const auto named = std::ranges::find(slice.ports, source.port, &std::pair<std::string, std::uint16_t>::first);
    const auto port = number ? number : named != slice.ports.end() ? std::optional(named->second) : std::nullopt;
    if (!port) continue;
    for (const KubeEndpoint& endpoint : slice.endpoints) {
      if (endpoint.terminating || !seen.emplace(endpoint.address, *port).second) continue;
      NodeConfig node = source.pattern;
      node.name = fmt::format("{}/{}", source.service, endpoint.pod.empty() ? endpoint.address : endpoint.pod);
      node.host = endpoint.address;
      node.port = *port;
      out.push_back(std::move(node));
    }
  }
  std::ranges::sort(out, {}, &NodeConfig::name);
  return out;
}

}  // namespace hp::gateway

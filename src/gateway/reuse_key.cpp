#include "gateway/reuse_key.h"

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "net/sha256.h"

namespace hp::gateway {
namespace {

bool changes_nothing(std::string_view key) {
  return key == "user" || key == "session_id";
}

// Tools are written into the prompt and a schema's members are generated in the order in which the client gave them: to
// change it is to ask for another answer.
bool order_matters(std::string_view key) {
  return key == "tools" || key == "functions" || key == "response_format";
}

void write(JsonWriter& json, const JsonValue& value, bool top, bool keep_order = false) {
  if (const auto* array = value.as_array()) {
    json.begin_array();
    for (const JsonValue& item : *array) write(json, item, false, keep_order);
    json.end_array();
  } else if (const auto* object = value.as_object()) {
    std::vector<const JsonValue::Member*> members;
    for (const auto& member : *object)
      if (!top || !changes_nothing(member.first)) members.push_back(&member);
    if (!keep_order)
      std::ranges::stable_sort(members, {}, [](const JsonValue::Member* m) { return std::string_view(m->first); });
    json.begin_object();
    for (const JsonValue::Member* member : members) {
      json.key(member->first);
      write(json, member->second, false, keep_order || (top && order_matters(member->first)));
    }
    json.end_object();
  } else if (const auto whole = value.as_int(); whole && !keep_order) {
    json.value(*whole);  // 1 and 1.0 alike
  } else {
    json.json(value);
  }
}

// Lengths between the parts: no two different lists of parts give one text.
std::string hash_of(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const std::string_view part : parts) text.append(std::to_string(part.size())).append(":").append(part);
  return net::sha256_hex(text);
}

}  // namespace

Result<std::string> canonical_request(std::string_view body) {
  HP_TRY(const JsonValue value, JsonValue::parse(body));
  std::string out;
  JsonWriter json(out);
  write(json, value, true);
  return out;
}

Result<std::optional<ReuseKey>> reuse_key(const ReuseQuery& query) {
  const bool cached = query.cache && query.deterministic && !query.identity.empty();
  if (query.idempotency_key.empty() && !cached) return std::nullopt;
  HP_TRY(const std::string canonical, canonical_request(query.body));
  ReuseKey key{.key = {}, .body_hash = hash_of({query.target, canonical})};
  if (!query.idempotency_key.empty()) {
    key.idempotent = true;
    key.key = hash_of({"idempotent", query.tenant, query.idempotency_key});
  } else {
    key.key = hash_of({"cached", query.identity, query.tenant, key.body_hash});
  }
  return key;
}

}  // namespace hp::gateway

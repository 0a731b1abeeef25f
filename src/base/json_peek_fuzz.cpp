#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/json.h"
#include "base/json_peek.h"

// What the full parser takes as an object, the peek takes too, and sees the same keys and values.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string body(reinterpret_cast<const char*>(data), size);
  std::vector<std::pair<std::string, std::string>> seen;
  const auto status = hp::visit_members(
      body, [&](std::string_view key, std::string_view raw) { seen.emplace_back(std::string(key), std::string(raw)); });
  const auto whole = hp::JsonValue::parse(body);
  if (!whole || whole->as_object() == nullptr) return 0;
  const auto& object = *whole->as_object();
  if (!status || object.size() != seen.size()) std::abort();
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const auto value = hp::JsonValue::parse(seen[i].second);
    if (object[i].first != seen[i].first || !value || value->dump() != object[i].second.dump()) std::abort();
  }
  return 0;
}

// Whatever is accepted must come out as JSON that is accepted again and is a fixed point; nothing may crash.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto value = hp::JsonValue::parse(text);
  if (value) {
    const std::string once = value->dump();
    const auto again = hp::JsonValue::parse(once);
    HP_CHECK(again.has_value(), "{}", once);
    HP_CHECK(again->dump() == once, "{}", once);
  }
  std::string quoted;
  hp::append_json_string(quoted, text);
  const auto string = hp::JsonValue::parse(quoted);
  HP_CHECK(string.has_value() && string->as_string() != nullptr, "{}", quoted);
  return 0;
}

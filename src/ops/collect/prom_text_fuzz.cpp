#include <cstdint>

#include "ops/collect/prom_text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view page(reinterpret_cast<const char*>(data), size);
  double sum = 0;
  hp::ops::parse_prom_text(page, [&](const hp::ops::PromSample& s) {
    if (s.name.data() < page.data() || s.name.data() + s.name.size() > page.data() + page.size()) __builtin_trap();
    sum += s.value;
    static_cast<void>(hp::ops::prom_label(s.labels, "le"));
  });
  return 0;
}

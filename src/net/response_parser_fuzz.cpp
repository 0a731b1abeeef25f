#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "net/response_parser.h"

// The same bytes whole and one by one: the same body, the same verdict.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view wire(reinterpret_cast<const char*>(data), size);
  std::string body[2];
  bool ok[2] = {true, true};
  for (int way = 0; way < 2; ++way) {
    hp::net::ResponseParser parser;
    const hp::net::ResponseParser::Sink sink{.on_head = {}, .on_body = [&](std::string_view bytes) {
                                               body[way] += bytes;
                                               return true;
                                             }};
    const std::size_t step = way == 0 ? size + 1 : 1;
    for (std::size_t at = 0; at < size && ok[way]; at += step)
      ok[way] = parser.push(wire.substr(at, step), sink).has_value();
  }
  if (ok[0] != ok[1] || body[0] != body[1]) std::abort();
  return 0;
}

// The product's evaluation of the rules over series: `rules_tool` reads a line of JSON per moment, {"ms": …, "node":
// "page", "gateway": "page", "up": true}, and prints "ms rule phase" for every change. tests/ops/test_rules.py holds it
// against promtool.
#include <cstdio>
#include <iostream>

#include "base/json.h"
#include "ops/test_series.h"

int main() {
  using namespace hp;
  ops::SeriesRun run(*ops::load_rules());
  for (std::string line; std::getline(std::cin, line);) {
    const auto moment = JsonValue::parse(line);
    if (!moment) {
      std::fprintf(stderr, "%s\n", moment.error().message.c_str());
      return 1;
    }
    const std::int64_t ms = moment->find("ms")->as_int().value_or(0);
    for (const ops::AlertChange& change : run.round({.at_ms = ms,
                                          .node = *moment->find("node")->as_string(),
                                          .gateway = *moment->find("gateway")->as_string(),
                                          .up = moment->find("up")->as_bool().value_or(true)}))
      std::printf("%lld %s %s\n", static_cast<long long>(ms), change.rule->id.c_str(),
                  std::string(to_string(change.to)).c_str());
  }
  return 0;
}

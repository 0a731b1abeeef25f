#include "base/toml.h"

#include <gtest/gtest.h>

namespace hp {
namespace {

TEST(Toml, BecomesTheTreeThatJsonGives) {
  const auto tree =
      parse_toml("a = 1\nb = [1.5, true]\n[t]\nwhen = 2026-11-24\n[[row]]\nn = 'x'\n[[row]]\nn = 'y'\n", "f");
  ASSERT_TRUE(tree.has_value()) << tree.error().message;
  EXPECT_EQ(tree->dump(), R"({"a":1,"b":[1.5,true],"row":[{"n":"x"},{"n":"y"}],"t":{"when":"2026-11-24"}})");
}

TEST(Toml, NamesFileAndLineOfAFault) {
  const auto tree = parse_toml("a = 1\nb = = 2\n", "prices.toml");
  ASSERT_FALSE(tree.has_value());
  EXPECT_NE(tree.error().message.find("prices.toml:2: not valid TOML"), std::string::npos) << tree.error().message;
}

}  // namespace
}  // namespace hp

#include "node/api_keys.h"

#include <cstddef>

namespace hp {
namespace {

constexpr std::string_view kScheme = "bearer ";

/// Looks at every byte of both, whatever the first difference: time tells only the lengths.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0U : 1U;
  for (std::size_t i = 0; i < b.size(); ++i)
    difference |= static_cast<unsigned char>(a.empty() ? 0 : a[i % a.size()]) ^ static_cast<unsigned char>(b[i]);
  return difference == 0;
}

bool starts_with_scheme(std::string_view text) {
  if (text.size() < kScheme.size()) return false;
  for (std::size_t i = 0; i < kScheme.size(); ++i)
    if ((text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] + 32) : text[i]) != kScheme[i]) return false;
  return true;
}

}  // namespace

bool may_enter(const std::vector<std::string>& keys, std::string_view authorization) {
  if (keys.empty()) return true;
  if (!starts_with_scheme(authorization)) return false;
  const std::string_view given = authorization.substr(kScheme.size());
  bool found = false;
  for (const std::string& key : keys) found = equal_in_constant_time(key, given) || found;
  return found;
}

}  // namespace hp

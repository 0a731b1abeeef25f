// Takes secrets out of text that leaves the machine or is kept: known ones by value, others by how they look.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/config.h"

namespace hp::ops {

/// Every occurrence of a known secret, and the value after "key=", "password: ", "Authorization: Bearer " and the like,
/// user and password of a URL, and query parameters of webhooks that bear a token. Keeps lines and lengths of lines
/// apart from that.
std::string redacted(std::string_view text, std::span<const std::string> secrets);

/// The configuration in force, one key per line with its source; never the value of a key that holds secrets.
std::string redacted_config(const Config& config);

/// Secrets that this process was given: the words of its key files, and what stands after key= in the list of nodes.
std::vector<std::string> secrets_of(const Config& config);

}  // namespace hp::ops

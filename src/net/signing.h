// Message authentication for webhooks: HMAC-SHA256 (RFC 2104) and base64 (RFC 4648).
#pragma once

#include <string>
#include <string_view>

namespace hp::net {

/// 32 raw bytes.
std::string hmac_sha256(std::string_view key, std::string_view text);
std::string base64(std::string_view bytes);
std::string hex(std::string_view bytes);
/// For a query: everything but unreserved characters as %XX.
std::string percent_encode(std::string_view text);

}  // namespace hp::net

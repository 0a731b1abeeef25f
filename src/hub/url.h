// The parts of an http or https address. No user names, no fragments.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hp::hub {

struct Url {
  bool tls = true;
  std::string host;
  std::uint16_t port = 443;
  std::string target = "/";  ///< path and query

  static Result<Url> parse(std::string_view text);
  /// What a Location or Link header means, seen from here: an address or a path.
  [[nodiscard]] Result<Url> resolve(std::string_view reference) const;
  [[nodiscard]] bool same_server(const Url& other) const {
    return tls == other.tls && host == other.host && port == other.port;
  }
  [[nodiscard]] std::string text() const;
};

/// Percent-encodes everything but unreserved characters and '/'.
std::string encode_path(std::string_view path);

}  // namespace hp::hub

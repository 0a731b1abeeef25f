#include "hub/url.h"

#include <algorithm>
#include <charconv>

namespace hp::hub {

Result<Url> Url::parse(std::string_view text) {
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
    url.tls = false;
    url.port = 80;
  } else {
    return fail(ErrorCode::invalid_argument, "'{}' is no address: expected http://HOST or https://HOST", text);
  }
  const std::size_t slash = std::min(rest.find_first_of("/?"), rest.size());
  std::string_view authority = rest.substr(0, slash);
  std::string_view target = rest.substr(slash);
  target = target.substr(0, target.find('#'));
  url.target = target.starts_with('/') ? std::string(target) : "/" + std::string(target);
  const std::size_t colon = authority.rfind(':');
  if (colon != std::string_view::npos && authority.find(']', colon) == std::string_view::npos) {
    const std::string_view digits = authority.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), url.port);
    if (error != std::errc() || end != digits.data() + digits.size() || url.port == 0)
      return fail(ErrorCode::invalid_argument, "'{}': the port '{}' is no number from 1 to 65535", text, digits);
    authority = authority.substr(0, colon);
  }
  if (authority.starts_with('[') && authority.ends_with(']')) authority = authority.substr(1, authority.size() - 2);
  url.host = authority;
  const auto odd = [](unsigned char c) { return c <= ' ' || c == 127; };
  if (url.host.empty() || url.host.find('@') != std::string::npos || std::ranges::any_of(text, odd))
    return fail(ErrorCode::invalid_argument, "'{}' is no address: expected a host without spaces or user name", text);
  return url;
}

Result<Url> Url::resolve(std::string_view reference) const {
  if (reference.find("://") != std::string_view::npos) return parse(reference);
  if (reference.starts_with("//")) return parse((tls ? "https:" : "http:") + std::string(reference));
  Url out = *this;
  if (!reference.starts_with('/'))
    return fail(ErrorCode::corrupt_data, "'{}' leads to '{}', expected an address or an absolute path", text(),
                reference);
  out.target = reference;
  return out;
}

std::string Url::text() const {
  const bool usual = port == (tls ? 443 : 80);
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return fmt::format("{}://{}{}{}", tls ? "https" : "http", name, usual ? "" : fmt::format(":{}", port), target);
}

std::string encode_path(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-_.~/").find(c) != std::string_view::npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

}  // namespace hp::hub

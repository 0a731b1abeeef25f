#include "ops/console/console_assets.h"

#include <fmt/format.h>

#include <array>
#include <span>

#include "base/hash.h"

namespace hp::ops {
namespace data {
extern const std::string_view web_app_js, web_login_js, web_console_css, web_index_html, web_login_html, web_icon_svg;
}
namespace {

const std::array<ConsoleAsset, 6>& assets() {
  static const std::array<ConsoleAsset, 6> all{{
      {"index.html", "text/html; charset=utf-8", data::web_index_html},
      {"app.js", "text/javascript; charset=utf-8", data::web_app_js},
      {"login.html", "text/html; charset=utf-8", data::web_login_html, true},
      {"login.js", "text/javascript; charset=utf-8", data::web_login_js, true},
      {"console.css", "text/css; charset=utf-8", data::web_console_css, true},
      {"icon.svg", "image/svg+xml", data::web_icon_svg, true},
  }};
  return all;
}

}  // namespace

void add_console_headers(net::HttpResponse& response) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kHeaders{{
      {"Content-Security-Policy",
       "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action "
       "'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types default"},
      {"X-Content-Type-Options", "nosniff"},
      {"X-Frame-Options", "DENY"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Opener-Policy", "same-origin"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
      {"Permissions-Policy", "camera=(), microphone=(), geolocation=()"},
  }};
  for (const auto& [name, value] : kHeaders) response.headers.emplace_back(name, value);
}

const ConsoleAsset* find_console_asset(std::string_view path) {
  for (const ConsoleAsset& asset : assets())
    if (asset.path == path) return &asset;
  return nullptr;
}

net::HttpResponse asset_response(const ConsoleAsset& asset, const net::HttpRequest& request) {
  const std::string tag = fmt::format("\"{:016x}\"", hash128(std::as_bytes(std::span(asset.gzip))).low);
  net::HttpResponse response{.headers = {{"Cache-Control", "no-cache"}, {"ETag", tag}, {"Vary", "Cookie"}},
                             .body = {},
                             .content_type = std::string(asset.content_type)};
  if (request.header("if-none-match") == tag) {
    response.status = 304;
    return response;
  }
  response.headers.emplace_back("Content-Encoding", "gzip");
  response.body = asset.gzip;
  return response;
}

}  // namespace hp::ops

// The console's files, compiled in and compressed, and the headers that keep a browser from doing anything else.
#pragma once

#include <memory>
#include <string_view>

#include "net/http.h"

namespace hp::ops {

/// The headers of every answer of the console: own files only, no frames, no guessing of types.
void add_console_headers(net::HttpResponse& response);

/// "app.js", "index.html"…; nullptr when there is none. `open`: shown to who is not logged in.
struct ConsoleAsset {
  std::string_view path, content_type, gzip;
  bool open = false;
};
const ConsoleAsset* find_console_asset(std::string_view path);
net::HttpResponse asset_response(const ConsoleAsset& asset, const net::HttpRequest& request);

}  // namespace hp::ops

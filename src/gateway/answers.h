// Bodies that the gateway itself answers with.
#pragma once

#include <string>
#include <string_view>

#include "net/http.h"

namespace hp::gateway {

/// {"error": {"message", "type", "param", "code"}}
std::string error_json(int status, std::string_view message, std::string_view code = {});
net::HttpResponse error_answer(int status, std::string_view message, std::string_view code = {});

}  // namespace hp::gateway

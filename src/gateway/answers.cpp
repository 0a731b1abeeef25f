#include "gateway/answers.h"

#include "base/json.h"

namespace hp::gateway {
namespace {
std::string_view type_of(int status) {
  if (status == 401) return "authentication_error";
  if (status == 404) return "not_found_error";
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}
}  // namespace

std::string error_json(int status, std::string_view message, std::string_view code) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("error").begin_object();
  json.member("message", message).member("type", type_of(status)).key("param").null().key("code");
  if (code.empty()) {
    json.null();
  } else {
    json.value(code);
  }
  json.end_object().end_object();
  return out;
}

net::HttpResponse error_answer(int status, std::string_view message, std::string_view code) {
  return {.status = status, .headers = {}, .body = error_json(status, message, code)};
}

}  // namespace hp::gateway

#include "gateway/access_line.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"

namespace hp::gateway {
namespace {
constexpr std::size_t kMaxLoggedBytes = 200;  // of a path or a model's name: a client chose them

// A stream's id lets its tenant read it, and any path may be a key that was typed in the wrong place: only words are
// repeated.
std::string_view shown(std::string_view path) {
  constexpr std::string_view kStreams = "/v1/streams/", kApi = "/v1/";
  if (path.starts_with(kStreams)) return kStreams;
  if (!path.starts_with(kApi)) return "/";
  const bool words = std::ranges::all_of(path.substr(kApi.size()),
                                         [](char c) { return (c >= 'a' && c <= 'z') || c == '_' || c == '/'; });
  return words ? path.substr(0, kMaxLoggedBytes) : kApi;
}

double rounded(double ms) {
  return std::round(ms * 10) / 10;
}
}  // namespace

std::string access_json(const AccessLine& line, std::int64_t unix_ms) {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  json.member("time", fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(unix_ms / 1000), unix_ms % 1000));
  json.member("trace", line.trace).member("stream", line.stream).member("tenant", line.tenant);
  json.member("method", line.method).member("path", shown(line.path));
  json.member("model", line.model.substr(0, kMaxLoggedBytes)).member("streamed", line.streamed);
  json.member("reattached", line.reattached);
  json.member("status", line.status).member("outcome", line.outcome);
  json.member("prompt_tokens", line.prompt_tokens).member("completion_tokens", line.completion_tokens);
  json.key("first_token_ms");
  if (line.first_token_ms) {
    json.value(rounded(*line.first_token_ms));
  } else {
    json.null();
  }
  json.member("ms", rounded(line.ms));
  json.key("nodes").begin_array();
  for (const std::string& node : line.nodes) json.value(node);
  json.end_array();
  json.member("attempts", line.attempts).member("resumes", line.resumes);
  json.end_object();
  return out;
}

}  // namespace hp::gateway

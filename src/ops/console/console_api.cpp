// The console's answers in JSON.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/json.h"
#include "base/log.h"
#include "ops/console/console_limits.h"
#include "ops/console/console_server.h"

namespace hp::ops {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low < 0) {
      out += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const auto end = std::min(text.find(separator), text.size());
    if (end > 0) out.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::size_t number_or(const std::string& text, std::size_t otherwise, std::size_t highest) {
  if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos) return otherwise;
  return std::min<std::size_t>(std::stoul(text), highest);
}

std::string table_json(const History::Table& table) {
  std::string out = fmt::format("{{\"from_ms\":{},\"step_ms\":{},\"columns\":[", table.from_ms, table.step_ms);
  for (const auto& column : table.columns) {
    out += &column == &table.columns.front() ? "{\"name\":" : ",{\"name\":";
    append_json_string(out, column.name);
    out += ",\"values\":[";
    for (std::size_t i = 0; i < column.values.size(); ++i) {
      if (i > 0) out += ',';
      if (std::isfinite(column.values[i]))
        fmt::format_to(std::back_inserter(out), "{:.4g}", column.values[i]);
      else
        out += "null";
    }
    out += "]}";
  }
  return out + "]}";
}

void answer(const std::shared_ptr<net::ResponseWriter>& writer, const Result<std::string>& body) {
  if (body) return send_console(writer, {.headers = {}, .body = *body});
  const int status = body.error().code == ErrorCode::not_found            ? 404
                     : body.error().code == ErrorCode::invalid_argument   ? 400
                     : body.error().code == ErrorCode::resource_exhausted ? 429
                     : body.error().code == ErrorCode::unavailable        ? 503
                                                                          : 500;
  send_console_error(writer, status, body.error().message);
}

}  // namespace

std::string query_parameter(std::string_view target, std::string_view name) {
  const auto mark = target.find('?');
  if (mark == std::string_view::npos) return {};
  for (const std::string& pair : split(target.substr(mark + 1), '&')) {
    const auto equals = pair.find('=');
    if (std::string_view(pair).substr(0, equals) == name)
      return equals == std::string::npos ? std::string() : percent_decoded(std::string_view(pair).substr(equals + 1));
  }
  return {};
}

/// ?window=15m|6h|7d&points=N and either lanes=a:mean,b:p99 or nodes=metric:lane&top=N.
Result<std::string> ConsoleServer::history_json(std::string_view target) const {
  const std::string window = query_parameter(target, "window");
  const std::size_t resolution = window == "7d" ? 2 : window == "6h" ? 1 : 0;
  if (!window.empty() && window != "15m" && resolution == 0)
    return fail(ErrorCode::invalid_argument, "window: expected 15m, 6h or 7d, found '{}'", window);
  const std::size_t points =
      number_or(query_parameter(target, "points"), limits::kMaxHistoryPoints, limits::kMaxHistoryPoints);
  if (const std::string nodes = query_parameter(target, "nodes"); !nodes.empty()) {
    const auto colon = nodes.rfind(':');
    const std::size_t top = number_or(query_parameter(target, "top"), 8, limits::kMaxHistoryLanes);
    return table_json(history_.query_nodes(resolution, nodes.substr(0, colon),
                                           colon == std::string::npos ? "mean" : nodes.substr(colon + 1), top, points));
  }
  std::vector<std::string> lanes = split(query_parameter(target, "lanes"), ',');
  if (lanes.size() > limits::kMaxHistoryLanes) lanes.resize(limits::kMaxHistoryLanes);
  return table_json(history_.query(resolution, lanes, points));
}

void ConsoleServer::get(const net::HttpRequest& request, const Session& session, const Writer& writer) {
  static constexpr std::string_view kApi = "/console/api/";
  if (!request.path.starts_with(kApi)) return send_console_error(writer, 404, "there is no such page");
  const std::string_view path = std::string_view(request.path).substr(kApi.size());
  if (path == "events") return watch(session, writer);
  if (path == "history") return answer(writer, history_json(request.target));
  if (path.starts_with("list/") && source_.list)
    return work_->post([this, writer, what = std::string(path.substr(5)), target = request.target] {
      std::int64_t before = 0;
      const std::string text = query_parameter(target, "before_ms");
      std::from_chars(text.data(), text.data() + text.size(), before);
      answer(writer, source_.list(what, before, number_or(query_parameter(target, "limit"), 50, 200)));
    });
  if (path.starts_with("journey/") && source_.journey)
    return work_->post(
        [this, writer, stream = std::string(path.substr(8))] { answer(writer, source_.journey(stream)); });
  send_console_error(writer, 404, "there is no such page");
}

void ConsoleServer::post(const net::HttpRequest& request, const Session& session, const Writer& writer) {
  if (!session.may_act) return send_console_error(writer, 403, "this key may look, not act");
  static constexpr std::string_view kApi = "/console/api/";
  auto body = JsonValue::parse(request.body, 4);
  if (!body || body->as_object() == nullptr) return send_console_error(writer, 400, "expected a JSON object");
  if (!request.path.starts_with(kApi) || !source_.order)
    return send_console_error(writer, 404, "there is no such page");
  ConsoleOrder order{.what = request.path.substr(kApi.size()), .body = *std::move(body), .who = session.name};
  log::info("console: {}: {} {}", order.who, order.what, order.body.dump());
  work_->post([this, writer, order = std::move(order)] { answer(writer, source_.order(order)); });
}

}  // namespace hp::ops

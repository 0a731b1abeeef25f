#include "ops/console/console.h"

#include <chrono>
#include <future>

#include "base/json.h"
#include "base/log.h"
#include "ops/console/console_assets.h"
#include "ops/console/console_limits.h"
#include "ops/console/console_server.h"

namespace hp::ops {
namespace {

constexpr std::string_view kRoot = "/console";

/// The peer without its port.
std::string_view address_of(std::string_view peer) {
  return peer.substr(0, peer.rfind(':'));
}

/// A POST that another site's page made the browser send. Old browsers send neither header: the token stops them.
bool from_elsewhere(const net::HttpRequest& request) {
  const std::string_view site = request.header("sec-fetch-site");
  if (!site.empty() && site != "same-origin" && site != "none") return true;
  std::string_view origin = request.header("origin");
  if (origin.empty()) return false;
  const auto scheme = origin.find("://");
  if (scheme == std::string_view::npos) return true;  // "null"
  origin.remove_prefix(scheme + 3);
  return origin != request.header("host") && origin != request.header("x-forwarded-host");
}

std::string cookie(std::string_view value, const net::HttpRequest& request, std::int64_t max_age_s) {
  return fmt::format("{}={}; Path={}; Max-Age={}; HttpOnly; SameSite=Strict{}", ConsoleAuth::kCookie, value, kRoot,
                     max_age_s, request.header("x-forwarded-proto") == "https" ? "; Secure" : "");
}

}  // namespace

std::int64_t unix_ms_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void send_console(const std::shared_ptr<net::ResponseWriter>& writer, net::HttpResponse response) {
  add_console_headers(response);
  bool cached = false;
  for (const auto& [name, value] : response.headers) cached = cached || name == "Cache-Control";
  if (!cached) response.headers.emplace_back("Cache-Control", "no-store");
  writer->send(std::move(response));
}

void send_console_error(const std::shared_ptr<net::ResponseWriter>& writer, int status, std::string_view message) {
  std::string body;
  JsonWriter(body).begin_object().member("error", message).end_object();
  send_console(writer, {.status = status, .headers = {}, .body = std::move(body)});
}

std::unique_ptr<Console> Console::start(ConsoleOptions options, ConsoleSource source) {
  auto console = std::make_unique<ConsoleServer>(std::move(options), std::move(source));
  console->begin();
  return console;
}

ConsoleServer::ConsoleServer(ConsoleOptions options, ConsoleSource source)
    : options_(std::move(options)), source_(std::move(source)), auth_(options_.keys, options_.secret) {
  if (!options_.history_file.empty()) file_.emplace(options_.history_file);
  loop_ = net::EventLoop::create();
  work_ = net::EventLoop::create();
}

ConsoleServer::~ConsoleServer() {
  work_.reset();
  loop_->post([this] {
    for (const Watcher& w : watchers_) w.writer->end();
  });
  loop_.reset();
}

bool ConsoleServer::handle(net::HttpRequest& request, std::shared_ptr<net::ResponseWriter>& writer,
                           const ConsoleForward& forward) {
  if (request.path != kRoot && !request.path.starts_with("/console/")) return false;
  route(std::move(request), writer, forward);
  return true;
}

std::string ConsoleServer::session_json(const std::optional<Session>& session) const {
  std::string body;
  JsonWriter json(body);
  json.begin_object().member("logged_in", session.has_value());
  json.member("csrf", session ? session->csrf : auth_.login_token(unix_ms_now()));
  if (session)
    json.member("name", session->name).member("may_act", session->may_act).member("version", options_.version);
  json.end_object();
  return body;
}

void ConsoleServer::route(net::HttpRequest request, const Writer& writer, const ConsoleForward& forward) {
  const std::optional<Session> session = auth_.session_of(request.header("cookie"), unix_ms_now());
  const bool get_it = request.method == "GET", post_it = request.method == "POST";
  if (!get_it && !post_it) return send_console_error(writer, 405, "GET and POST only");
  const std::string_view path =
      request.path.size() <= kRoot.size() + 1 ? "" : std::string_view(request.path).substr(kRoot.size() + 1);
  if (get_it && path.empty()) {
    if (request.path == kRoot)  // the pages' links are relative
      return send_console(writer, {.status = 302, .headers = {{"Location", "/console/"}}, .body = {}});
    return send_console(writer, asset_response(*find_console_asset(session ? "index.html" : "login.html"), request));
  }
  if (get_it && path == "api/session") return send_console(writer, {.headers = {}, .body = session_json(session)});
  if (const ConsoleAsset* asset = get_it ? find_console_asset(path) : nullptr; asset != nullptr && asset->open)
    return send_console(writer, asset_response(*asset, request));
  if (request.body.size() > limits::kMaxConsoleBodyBytes) return send_console_error(writer, 413, "too large");
  if (post_it && from_elsewhere(request)) return send_console_error(writer, 403, "not from this page");
  if (post_it && path == "api/login") return login(request, writer);
  if (!session) return send_console_error(writer, 401, "log in first");
  if (post_it && !equal_in_constant_time(request.header("x-csrf-token"), session->csrf))
    return send_console_error(writer, 403, "the token of this session is missing or wrong; load the page again");
  if (const ConsoleAsset* asset = get_it ? find_console_asset(path) : nullptr)
    return send_console(writer, asset_response(*asset, request));
  if (post_it && path == "api/logout") return logout(request, *session, writer);
  if (post_it && path == "api/chat") return chat(std::move(request), *session, writer, forward);
  loop_->post([this, request = std::move(request), session = *session, writer, get_it] {
    if (get_it) return get(request, session, writer);
    post(request, session, writer);
  });
}

void ConsoleServer::login(const net::HttpRequest& request, const Writer& writer) {
  const std::int64_t now = unix_ms_now();
  if (!auth_.login_token_ok(request.header("x-csrf-token"), now))
    return send_console_error(writer, 403, "this form is too old; load the page again");
  const auto json = JsonValue::parse(request.body, 4);
  const JsonValue* key = json ? json->find("key") : nullptr;
  if (key == nullptr || key->as_string() == nullptr) return send_console_error(writer, 400, "expected {\"key\": …}");
  const auto session = auth_.login(*key->as_string(), address_of(request.peer), now);
  if (!session) {
    const bool many = session.error() == ConsoleAuth::Refusal::too_many;
    log::warn("console: a login from {} was refused: {}", address_of(request.peer),
              many ? "too many wrong keys this minute" : "wrong key");
    return send_console_error(writer, many ? 429 : 401,
                              many ? "too many attempts; wait a minute" : "this key is not known here");
  }
  log::info("console: {} logged in from {}", session->name, address_of(request.peer));
  send_console(writer, {.headers = {{"Set-Cookie", cookie(session->value, request, (session->ends_ms - now) / 1000)}},
                        .body = session_json(*session)});
}

void ConsoleServer::logout(const net::HttpRequest& request, const Session& session, const Writer& writer) {
  auth_.logout(session);
  send_console(writer, {.headers = {{"Set-Cookie", cookie("", request, 0)}}, .body = "{}"});
}

void ConsoleServer::chat(net::HttpRequest request, const Session& session, const Writer& writer,
                         const ConsoleForward& forward) {
  if (!forward) return send_console_error(writer, 404, "there is no chat here");
  if (!session.may_act) return send_console_error(writer, 403, "this key may look, not act");
  net::HttpRequest inner{.method = "POST",
                         .target = "/v1/chat/completions",
                         .path = "/v1/chat/completions",
                         .headers = {{"content-type", "application/json"}},
                         .body = std::move(request.body),
                         .peer = std::move(request.peer)};
  forward(std::move(inner), writer);
}

void ConsoleServer::with_history(const std::function<void(const History&)>& look) {
  std::promise<void> done;
  loop_->post([&] {
    look(history_);
    done.set_value();
  });
  done.get_future().get();
}

}  // namespace hp::ops

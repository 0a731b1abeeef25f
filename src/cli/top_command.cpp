// `top`: the console's overview in a terminal.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/json.h"
#include "cli/command.h"
#include "cli/console_wiring.h"
#include "cli/plan_common.h"
#include "cli/signal_thread.h"
#include "hub/url.h"
#include "net/http_client.h"
#include "ops/console/console_auth.h"
#include "ops/console/top_screen.h"

namespace hp::cli {
namespace {

struct TopFlags {
  std::string url = "http://127.0.0.1:8000", key_file;
  double interval_s = 1;
  bool once = false, json = false;
};

/// A session at a console.
class Viewer {
 public:
  Viewer(hub::Url url, std::string key) : url_(std::move(url)), key_(std::move(key)) {}

  /// The picture as the console sends it.
  Result<std::string> look() {
    if (cookie_.empty()) HP_TRY_VOID(login());
    HP_TRY(net::HttpResponse answer, ask("GET", "/console/api/list/view", {}));
    if (answer.status == 401) {  // the session has ended
      HP_TRY_VOID(login());
      HP_TRY(answer, ask("GET", "/console/api/list/view", {}));
    }
    if (answer.status != 200) return refused(answer);
    return std::move(answer.body);
  }

 private:
  Result<net::HttpResponse> ask(std::string method, std::string target, std::string body, net::Headers headers = {}) {
    if (!cookie_.empty()) headers.emplace_back("Cookie", cookie_);
    if (!body.empty()) headers.emplace_back("Content-Type", "application/json");
    return client_->fetch({.method = std::move(method),
                           .host = url_.host,
                           .port = url_.port,
                           .tls = url_.tls,
                           .target = std::move(target),
                           .headers = std::move(headers),
                           .body = std::move(body),
                           .read_timeout = std::chrono::seconds(10)});
  }
  tl::unexpected<Error> refused(const net::HttpResponse& answer) const {
    if (answer.status == 404)
      return fail(ErrorCode::not_found,
                  "{}: there is no console; it is part of `homeport serve` and `homeport gateway`", url_.text());
    const auto json = JsonValue::parse(answer.body);
    const JsonValue* why = json ? json->find("error") : nullptr;
    return fail(
        ErrorCode::unavailable, "{}: {}", url_.text(),
        why != nullptr && why->as_string() != nullptr ? *why->as_string() : fmt::format("answered {}", answer.status));
  }
  Status login() {
    cookie_.clear();
    HP_TRY(const net::HttpResponse session, ask("GET", "/console/api/session", {}));
    const auto json = JsonValue::parse(session.body);
    const JsonValue* token = json ? json->find("csrf") : nullptr;
    if (session.status != 200 || token == nullptr || token->as_string() == nullptr) return refused(session);
    std::string body;
    JsonWriter(body).begin_object().member("key", key_).end_object();
    HP_TRY(const net::HttpResponse answer,
           ask("POST", "/console/api/login", std::move(body), {{"X-CSRF-Token", *token->as_string()}}));
    if (answer.status != 200) return refused(answer);
    for (const auto& [name, value] : answer.headers)
      if (name == "set-cookie") cookie_ = value.substr(0, value.find(';'));
    return {};
  }

  hub::Url url_;
  std::string key_, cookie_;
  std::unique_ptr<net::HttpClient> client_ = net::HttpClient::create();
};

/// The terminal without echo and without waiting for a line, and a screen of our own; all of it undone at the end.
class RawTerminal {
 public:
  RawTerminal() {
    ::tcgetattr(STDIN_FILENO, &before_);
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    std::fputs("\x1b[?1049h\x1b[?25l", stdout);
  }
  ~RawTerminal() {
    std::fputs("\x1b[?25h\x1b[?1049l", stdout);
    std::fflush(stdout);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios before_{};
};

/// What a person wants: keys, a window of another size, and the signals that end a program, which must not leave the
/// terminal as it is. Make it before other threads.
class Wishes {
 public:
  Wishes() = default;
  ~Wishes() { ::close(wake_); }
  Wishes(const Wishes&) = delete;
  Wishes& operator=(const Wishes&) = delete;

  /// Returns early when there is one; true: to quit.
  bool quit_within(double seconds) {
    std::array<pollfd, 2> wait{
        {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0}, {.fd = wake_, .events = POLLIN, .revents = 0}}};
    ::poll(wait.data(), wait.size(), static_cast<int>(seconds * 1000));
    std::uint64_t woken = 0;
    if (wait[1].revents != 0 && ::read(wake_, &woken, sizeof woken) < 0) return false;
    if (ended_) return true;
    if (wait[0].revents == 0) return false;
    char key = 0;
    return ::read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q';
  }

 private:
  int wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  std::atomic<bool> ended_ = false;
  SignalThread signals_{{SIGINT, SIGTERM, SIGHUP, SIGWINCH}, [this](int signal) {
                          if (signal != SIGWINCH) ended_ = true;
                          ::eventfd_write(wake_, 1);
                        }};
};

ops::TopSize terminal_size() {
  ops::TopSize size{.colours = ::isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr};
  winsize window{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
    size.columns = window.ws_col, size.rows = window.ws_row;
  else
    size.rows = 1'000;
  return size;
}

Result<int> show_once(Viewer& viewer, bool json) {
  HP_TRY(const std::string text, viewer.look());
  HP_TRY(const JsonValue view, JsonValue::parse(text));
  ops::TopSize size = terminal_size();
  size.rows = 1'000;
  std::fputs((json ? text + "\n" : ops::top_screen(view, size)).c_str(), stdout);
  return kExitOk;
}

Result<int> show(Viewer& viewer, Wishes& wishes, double interval_s) {
  const RawTerminal terminal;
  do {
    const auto text = viewer.look();
    const auto view = text ? JsonValue::parse(*text) : fail(text.error());
    ops::TopSize size = terminal_size();
    std::string screen = "\x1b[H";
    if (view) {
      size.rows = std::max<std::size_t>(size.rows, 2) - 1;
      for (const char c : ops::top_screen(*view, size)) screen += c == '\n' ? "\x1b[K\n" : std::string(1, c);
    } else {
      screen += ops::fitted(view.error().message, size.columns) + "\x1b[K\n";
    }
    screen += "\x1b[J\x1b[2mq: quit\x1b[0m";
    std::fputs(screen.c_str(), stdout);
    std::fflush(stdout);
  } while (!wishes.quit_within(interval_s));
  return kExitOk;
}

}  // namespace

Command top_command() {
  auto flags = std::make_shared<TopFlags>();
  return {.name = "top",
          .summary = "a cluster's health, nodes and incidents in the terminal",
          .details =
              "Shows what the console at /console shows. The key is the console's; on the machine of the gateway "
              "the one it made is found by itself. q ends.",
          .examples =
              "  homeport top\n  homeport top --url http://gateway:8000 --key-file key.txt\n"
              "  homeport top --once\n  homeport top --json | jq .cluster",
          .sections = {"ops"},
          .declare =
              [flags](Arguments& a) {
                a.text("--url", flags->url, "Address of a gateway.", "URL");
                a.text("--key-file", flags->key_file, "File with a key of the console.", "FILE");
                a.number("--interval", flags->interval_s, "Seconds between two looks.", 0.2, 3600);
                a.toggle("--once", flags->once, "Print one screen and end.");
                a.toggle("--json", flags->json, "Print the picture as JSON and end.");
              },
          .run = [flags](const Invocation& in) -> Result<int> {
            HP_TRY(hub::Url url, hub::Url::parse(flags->url));
            std::string key = default_console_key(in.config);
            if (!flags->key_file.empty()) {
              HP_TRY(key, read_text_file(flags->key_file));
            }
            key = key.substr(0, key.find_first_of(" \r\n"));
            if (key.empty())
              return fail(ErrorCode::invalid_argument,
                          "there is no console key on this machine: give one with --key-file");
            if (flags->once || flags->json || ::isatty(STDOUT_FILENO) == 0) {
              Viewer viewer(std::move(url), std::move(key));
              return show_once(viewer, flags->json);
            }
            Wishes wishes;
            Viewer viewer(std::move(url), std::move(key));
            return show(viewer, wishes, flags->interval_s);
          }};
}

}  // namespace hp::cli

#include "net/mail.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <ctime>

#include "net/signing.h"
#include "net/tls.h"

namespace hp::net {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kMaxLine = 4096, kMaxReplyLines = 64, kBase64Line = 76;

std::string address_of(std::string_view text) {  // "Name <a@b>" or "a@b"
  const auto open = text.rfind('<');
  if (open == std::string_view::npos) return std::string(text);
  return std::string(text.substr(open + 1, text.find('>', open) - open - 1));
}

/// Nothing that ends a line may come from outside.
bool one_line(std::string_view text) {
  return text.find_first_of("\r\n") == std::string_view::npos;
}

class Session {
 public:
  explicit Session(const MailServer& server) : server_(server), end_(Clock::now() + server.timeout) {}
  ~Session() {
    tls_.reset();
    if (socket_ >= 0) ::close(socket_);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Status connect();
  Status secure();
  /// Sends a line (unless empty) and expects a reply of the class, 2 for 2xx.
  Status ask(const std::string& line, char expected, std::string* reply = nullptr);
  Status send(std::string_view bytes);
  [[nodiscard]] bool is_secure() const { return tls_ != nullptr; }

 private:
  Status wait(short events);
  Result<std::string> line();
  const MailServer& server_;
  const Clock::time_point end_;
  int socket_ = -1;
  std::unique_ptr<TlsSession> tls_;
  std::string pending_;
};

Status Session::wait(short events) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end_ - Clock::now()).count();
  pollfd fd{.fd = socket_, .events = events, .revents = 0};
  if (left <= 0 || ::poll(&fd, 1, static_cast<int>(left)) <= 0)
    return fail(ErrorCode::deadline_exceeded, "the mail server {}:{} does not answer in {} ms", server_.host,
                server_.port, server_.timeout.count());
  return {};
}

Status Session::connect() {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(server_.host.c_str(), std::to_string(server_.port).c_str(), &hints, &found);
      code != 0)
    return fail(ErrorCode::unavailable, "the mail server {}: {}", server_.host, ::gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    socket_ = ::socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (socket_ < 0) continue;
    int error = ::connect(socket_, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS && wait(POLLOUT)) {
      socklen_t size = sizeof error;
      ::getsockopt(socket_, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error == 0) return {};
    ::close(socket_);
    socket_ = -1;
  }
  return fail(ErrorCode::unavailable, "no connection to the mail server {}:{}", server_.host, server_.port);
}

Status Session::secure() {
  HP_TRY(tls_, TlsSession::connect(socket_, server_.host, nullptr));
  for (;;) {
    const TlsOutcome outcome = tls_->handshake();
    if (outcome == TlsOutcome::done) return {};
    if (outcome != TlsOutcome::want_read && outcome != TlsOutcome::want_write)
      return fail(ErrorCode::unavailable, "the mail server {}: {}", server_.host, tls_->error());
    HP_TRY_VOID(wait(outcome == TlsOutcome::want_read ? POLLIN : POLLOUT));
  }
}

Status Session::send(std::string_view bytes) {
  while (!bytes.empty()) {
    std::size_t count = 0;
    TlsOutcome outcome = TlsOutcome::done;
    if (tls_) {
      outcome = tls_->write(bytes, count);
    } else {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0)
        count = static_cast<std::size_t>(sent);
      else
        outcome = errno == EAGAIN ? TlsOutcome::want_write : TlsOutcome::failed;
    }
    if (outcome == TlsOutcome::done)
      bytes.remove_prefix(count);
    else if (outcome == TlsOutcome::failed || outcome == TlsOutcome::closed)
      return fail(ErrorCode::unavailable, "the mail server {} broke the connection off", server_.host);
    else
      HP_TRY_VOID(wait(outcome == TlsOutcome::want_read ? POLLIN : POLLOUT));
  }
  return {};
}

Result<std::string> Session::line() {
  for (;;) {
    if (const auto end = pending_.find('\n'); end != std::string::npos) {
      std::string out = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      if (!out.empty() && out.back() == '\r') out.pop_back();
      return out;
    }
    if (pending_.size() > kMaxLine) return fail(ErrorCode::corrupt_data, "the mail server sends endless lines");
    std::array<char, 1024> buffer{};
    std::size_t count = 0;
    TlsOutcome outcome = TlsOutcome::done;
    if (tls_) {
      outcome = tls_->read(buffer, count);
    } else {
      const ssize_t got = ::recv(socket_, buffer.data(), buffer.size(), 0);
      if (got > 0)
        count = static_cast<std::size_t>(got);
      else
        outcome = got == 0 ? TlsOutcome::closed : errno == EAGAIN ? TlsOutcome::want_read : TlsOutcome::failed;
    }
    if (outcome == TlsOutcome::done)
      pending_.append(buffer.data(), count);
    else if (outcome == TlsOutcome::failed || outcome == TlsOutcome::closed)
      return fail(ErrorCode::unavailable, "the mail server {} closed the connection", server_.host);
    else
      HP_TRY_VOID(wait(outcome == TlsOutcome::want_read ? POLLIN : POLLOUT));
  }
}

Status Session::ask(const std::string& command, char expected, std::string* reply) {
  if (!command.empty()) HP_TRY_VOID(send(command + "\r\n"));
  for (std::size_t i = 0; i < kMaxReplyLines; ++i) {
    HP_TRY(const std::string text, line());
    if (reply != nullptr) *reply += text + "\n";
    if (text.size() < 3) return fail(ErrorCode::corrupt_data, "the mail server says '{}'", text);
    if (text.size() > 3 && text[3] == '-') continue;
    if (text[0] == expected) return {};
    // The command is not shown: it may hold a password.
    return fail(text[0] == '4' ? ErrorCode::unavailable : ErrorCode::invalid_argument,
                "the mail server {} answers '{}'", server_.host, text);
  }
  return fail(ErrorCode::corrupt_data, "the mail server sends endless replies");
}

std::string encoded_word(std::string_view text) {  // RFC 2047; plain ASCII stays readable
  bool plain = true;
  for (const char c : text) plain = plain && c >= ' ' && c <= '~';
  return plain ? std::string(text) : "=?UTF-8?B?" + base64(text) + "?=";
}

}  // namespace

std::string mail_bytes(const Mail& mail, std::time_t now) {
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  std::array<char, 64> date{};
  std::strftime(date.data(), date.size(), "%a, %d %b %Y %H:%M:%S +0000", &utc);
  std::string to;
  for (const std::string& address : mail.to) to += (to.empty() ? "" : ", ") + address;
  std::string out = fmt::format(
      "From: {}\r\nTo: {}\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: {}\r\nMIME-Version: 1.0\r\n"
      "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\nAuto-Submitted: "
      "auto-generated\r\n"
      "\r\n",
      mail.from, to, encoded_word(mail.subject), date.data(), mail.message_id);
  const std::string body = base64(mail.text);  // no line of it can begin with a dot
  for (std::size_t i = 0; i < body.size(); i += kBase64Line) out += body.substr(i, kBase64Line) + "\r\n";
  return out;
}

Status send_mail(const MailServer& server, const Mail& mail) {
  bool clean = one_line(mail.from) && one_line(mail.subject) && one_line(mail.message_id);
  for (const std::string& to : mail.to) clean = clean && one_line(to);
  if (!clean || mail.to.empty() || mail.from.empty())
    return fail(ErrorCode::invalid_argument, "a mail needs 'from' and 'to' addresses, each on one line");
  Session session(server);
  HP_TRY_VOID(session.connect());
  if (server.security == MailServer::Security::tls) HP_TRY_VOID(session.secure());
  HP_TRY_VOID(session.ask("", '2'));
  HP_TRY_VOID(session.ask("EHLO homeport", '2'));
  if (server.security == MailServer::Security::starttls) {
    HP_TRY_VOID(session.ask("STARTTLS", '2'));
    HP_TRY_VOID(session.secure());
    HP_TRY_VOID(session.ask("EHLO homeport", '2'));
  }
  if (!server.user.empty()) {
    if (!session.is_secure() && server.host != "127.0.0.1" && server.host != "::1" && server.host != "localhost")
      return fail(ErrorCode::invalid_argument, "a password goes to {} only over TLS: set security to starttls or tls",
                  server.host);
    const std::string plain = std::string(1, '\0') + server.user + std::string(1, '\0') + server.password;
    HP_TRY_VOID(session.ask("AUTH PLAIN " + base64(plain), '2'));
  }
  HP_TRY_VOID(session.ask("MAIL FROM:<" + address_of(mail.from) + ">", '2'));
  for (const std::string& to : mail.to) HP_TRY_VOID(session.ask("RCPT TO:<" + address_of(to) + ">", '2'));
  HP_TRY_VOID(session.ask("DATA", '3'));
  HP_TRY_VOID(session.send(mail_bytes(mail, std::time(nullptr))));
  HP_TRY_VOID(session.ask(".", '2'));
  static_cast<void>(session.ask("QUIT", '2'));  // the mail is taken already
  return {};
}

}  // namespace hp::net

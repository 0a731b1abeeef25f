// Sends one mail over SMTP (RFC 5321): blocking, with limits on every wait. STARTTLS or TLS from the start where asked,
// with the server's certificate verified; AUTH PLAIN only over TLS or to this machine.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"

namespace hp::net {

struct MailServer {
  enum class Security { none, starttls, tls };
  std::string host = "127.0.0.1";
  std::uint16_t port = 25;
  Security security = Security::none;
  std::string user, password;  ///< empty: no login
  std::chrono::milliseconds timeout{10'000};
};

struct Mail {
  std::string from;
  std::vector<std::string> to;
  std::string subject, text;  ///< UTF-8
  std::string message_id;     ///< "<…@…>"; the same for a retry, so that a mail that came twice shows as one
};

Status send_mail(const MailServer& server, const Mail& mail);

/// As it goes over the wire, without the envelope: for tests.
std::string mail_bytes(const Mail& mail, std::time_t now);

}  // namespace hp::net

// Where notices go and in what form: pure functions from a notice to the bytes that a service expects. Sources of the
// forms: the services' own webhook documentation, named at each function in channel_format.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/mail.h"
#include "ops/cluster_view.h"

namespace hp::ops {

enum class ChannelKind { webhook, alertmanager, dingtalk, feishu, wecom, slack, pagerduty, mail };
std::string_view to_string(ChannelKind kind);

struct Url {
  bool tls = false;
  std::string host, target = "/";
  std::uint16_t port = 80;
};
Result<Url> parse_url(std::string_view text);

/// Minutes of the local day; equal ends: never.
struct QuietHours {
  int from = 0, to = 0;
  [[nodiscard]] bool holds(int minute_of_day) const;
};

struct Channel {
  std::string name;
  ChannelKind kind = ChannelKind::webhook;
  Url url;
  std::string secret;  ///< signing secret, or PagerDuty's routing key
  bool zh = false;
  int level = 2;  ///< the least urgent level it is told: 1 service down, 2 slow too, 3 single messages too
  std::vector<std::string> roles;  ///< "lead": gets what a playbook tells the lead
  bool escalation = false;         ///< only when nobody has reacted
  QuietHours quiet;                ///< level 2 and 3 wait until their end
  std::int64_t heartbeat_ms = 0;   ///< says "watching works" so often: the dead-man signal
  net::MailServer mail_server;
  std::string mail_from;
  std::vector<std::string> mail_to;
};

struct NoticeOptions {
  std::vector<Channel> channels;
  std::int64_t group_wait_ms = 1'000;        ///< what comes within so long goes in one message
  std::int64_t escalate_after_ms = 900'000;  ///< an incident that nobody acknowledged
  std::int64_t repeat_after_ms = 3'600'000;  ///< an incident that goes on
  std::string link;                          ///< of the console
};

/// [[channel]] tables and, at the top, group_wait_s, escalate_after_s, repeat_after_s, link. A secret may be "env:NAME"
/// or "file:/path".
Result<NoticeOptions> load_notices(std::string_view toml, std::string_view source);

enum class NoticeKind { opened, update, escalated, reminder, closed, message, message_end, test, heartbeat };
std::string_view to_string(NoticeKind kind);

struct Notice {
  NoticeKind kind = NoticeKind::opened;
  int level = 2;
  std::int64_t incident_id = 0;
  std::string key;  ///< the same for all notices about one matter
  std::string rule, instance, en, zh;
  std::vector<TimelineEntry> timeline;
  std::int64_t at_ms = 0, started_ms = 0;
  std::string role;  ///< only for channels of this role; empty: all
};

struct HttpPost {
  std::string target, body, content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

std::string notice_title(const Notice& notice, bool zh);
std::string notice_text(const Notice& notice, bool zh, std::string_view link);
/// Whether several notices may go in one message.
bool may_merge(ChannelKind kind);
HttpPost format_post(const Channel& channel, const std::vector<Notice>& notices, std::string_view link,
                     std::int64_t now_ms);
net::Mail format_mail(const Channel& channel, const std::vector<Notice>& notices, std::string_view link);
/// Whether the service took it: several answer 200 and say in the body that they did not.
Status judge_answer(ChannelKind kind, int status, std::string_view body);

}  // namespace hp::ops

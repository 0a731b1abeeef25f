// Reading the channels' file.
#include "ops/notice/channel.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <span>

#include "base/config.h"
#include "base/toml.h"
#include "ops/limits.h"

namespace hp::ops {
namespace {

constexpr std::array<std::string_view, 8> kKinds{"webhook", "alertmanager", "dingtalk",  "feishu",
                                                 "wecom",   "slack",        "pagerduty", "mail"};
constexpr std::array<std::string_view, 9> kNoticeKinds{"opened",  "update",      "escalated", "reminder", "closed",
                                                       "message", "message_end", "test",      "heartbeat"};
constexpr std::string_view kPagerDuty = "https://events.pagerduty.com/v2/enqueue";

Result<std::string> text_of(std::string_view where, const JsonValue& v) {
  if (v.as_string() == nullptr)
    return fail(ErrorCode::invalid_argument, "{}: expected a text, found {}", where, v.dump());
  return *v.as_string();
}

Result<std::size_t> one_of(std::string_view where, const JsonValue& v, std::span<const std::string_view> names) {
  const auto found = v.as_string() == nullptr ? names.end() : std::ranges::find(names, *v.as_string());
  if (found == names.end())
    return fail(ErrorCode::invalid_argument, "{}: expected one of {}, found {}", where, fmt::join(names, ", "),
                v.dump());
  return static_cast<std::size_t>(found - names.begin());
}

/// "env:NAME", "file:/path" or the secret itself.
Result<std::string> secret_of(std::string_view where, const JsonValue& v) {
  if (v.as_string() == nullptr) return fail(ErrorCode::invalid_argument, "{}: expected a text", where);
  const std::string& text = *v.as_string();
  if (text.starts_with("env:")) {
    const char* value = std::getenv(text.c_str() + 4);
    if (value == nullptr) return fail(ErrorCode::invalid_argument, "{}: {} is not set", where, text.substr(4));
    return value;
  }
  if (!text.starts_with("file:")) return text;
  std::ifstream file(text.substr(5));
  std::string secret;
  if (!std::getline(file, secret)) return fail(ErrorCode::io_error, "{}: cannot read {}", where, text.substr(5));
  if (secret.ends_with('\r')) secret.pop_back();
  return secret;
}

Result<std::int64_t> seconds_of(std::string_view where, const JsonValue& v) {
  const auto number = v.as_double();
  if (!number || *number < 0 || *number > 30 * 86'400.0)
    return fail(ErrorCode::invalid_argument, "{}: expected seconds, found {}", where, v.dump());
  return std::llround(*number * 1000);
}

Result<std::vector<std::string>> list_of(std::string_view where, const JsonValue& v) {
  std::vector<std::string> out;
  if (v.as_array() == nullptr) return fail(ErrorCode::invalid_argument, "{}: expected a list of texts", where);
  for (const JsonValue& item : *v.as_array()) {
    HP_TRY(std::string text, text_of(where, item));
    out.push_back(std::move(text));
  }
  return out;
}

Result<int> minute_of(std::string_view where, std::string_view text) {
  int hour = -1, minute = -1;
  const auto colon = text.find(':');
  if (colon != std::string_view::npos) {
    std::from_chars(text.data(), text.data() + colon, hour);
    std::from_chars(text.data() + colon + 1, text.data() + text.size(), minute);
  }
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59)
    return fail(ErrorCode::invalid_argument, "{}: expected a time like 22:00, found '{}'", where, text);
  return hour * 60 + minute;
}

Result<QuietHours> quiet_of(std::string_view where, const JsonValue& v) {
  HP_TRY(const std::string text, text_of(where, v));
  const auto dash = text.find('-');
  if (dash == std::string::npos)
    return fail(ErrorCode::invalid_argument, "{}: expected hours like 22:00-07:00, found '{}'", where, text);
  HP_TRY(const int from, minute_of(where, std::string_view(text).substr(0, dash)));
  HP_TRY(const int to, minute_of(where, std::string_view(text).substr(dash + 1)));
  return QuietHours{from, to};
}

Status set_mail(Channel& c, std::string_view where, std::string_view key, const JsonValue& v) {
  if (key == "from") {
    HP_TRY(c.mail_from, text_of(where, v));
  } else if (key == "to") {
    HP_TRY(c.mail_to, list_of(where, v));
  } else if (key == "user") {
    HP_TRY(c.mail_server.user, text_of(where, v));
  } else if (key == "password") {
    HP_TRY(c.mail_server.password, secret_of(where, v));
  } else if (key == "security") {
    static constexpr std::array<std::string_view, 3> kNames{"none", "starttls", "tls"};
    HP_TRY(const std::size_t index, one_of(where, v, kNames));
    c.mail_server.security = static_cast<net::MailServer::Security>(index);
  } else {
    static constexpr std::array<std::string_view, 16> kKeys{
        "name", "kind", "url",  "secret",   "language", "level", "roles",       "escalation",
        "from", "to",   "user", "password", "security", "quiet", "heartbeat_s", "routing_key"};
    const std::string_view near = nearest_name(key, kKeys);
    return fail(ErrorCode::invalid_argument, "{}: unknown key{}", where,
                near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
  }
  return {};
}

Status set(Channel& c, std::string_view where, std::string_view key, const JsonValue& v) {
  if (key == "name") {
    HP_TRY(c.name, text_of(where, v));
  } else if (key == "kind") {
    HP_TRY(const std::size_t index, one_of(where, v, kKinds));
    c.kind = static_cast<ChannelKind>(index);
  } else if (key == "url") {
    HP_TRY(const std::string text, secret_of(where, v));
    HP_TRY(c.url, parse_url(text));
  } else if (key == "secret" || key == "routing_key") {
    HP_TRY(c.secret, secret_of(where, v));
  } else if (key == "language") {
    static constexpr std::array<std::string_view, 2> kLanguages{"en", "zh"};
    HP_TRY(const std::size_t index, one_of(where, v, kLanguages));
    c.zh = index == 1;
  } else if (key == "level") {
    const auto level = v.as_int();
    if (!level || *level < 1 || *level > 3)
      return fail(ErrorCode::invalid_argument, "{}: expected 1, 2 or 3, found {}", where, v.dump());
    c.level = static_cast<int>(*level);
  } else if (key == "roles") {
    HP_TRY(c.roles, list_of(where, v));
  } else if (key == "escalation") {
    if (!v.as_bool()) return fail(ErrorCode::invalid_argument, "{}: expected true or false", where);
    c.escalation = *v.as_bool();
  } else if (key == "quiet") {
    HP_TRY(c.quiet, quiet_of(where, v));
  } else if (key == "heartbeat_s") {
    HP_TRY(c.heartbeat_ms, seconds_of(where, v));
  } else {
    return set_mail(c, where, key, v);
  }
  return {};
}

Result<Channel> channel_of(const JsonValue& entry, std::string_view source, std::size_t number) {
  Channel c;
  if (entry.as_object() == nullptr) return fail(ErrorCode::invalid_argument, "{}: [[channel]] is a table", source);
  for (const auto& [key, value] : *entry.as_object())
    HP_TRY_VOID(set(c, fmt::format("{}: channel {}: {}", source, number, key), key, value));
  if (c.kind == ChannelKind::pagerduty && c.url.host.empty()) {
    HP_TRY(c.url, parse_url(kPagerDuty));
  }
  if (c.name.empty()) c.name = std::string(to_string(c.kind));
  if (c.url.host.empty())
    return fail(ErrorCode::invalid_argument, "{}: channel '{}': 'url' is missing{}", source, c.name,
                c.kind == ChannelKind::mail ? " (smtp://host:port)" : "");
  if (c.kind == ChannelKind::mail) {
    c.mail_server.host = c.url.host;
    c.mail_server.port = c.url.port;
    if (c.mail_from.empty() || c.mail_to.empty())
      return fail(ErrorCode::invalid_argument, "{}: channel '{}': 'from' and 'to' are missing", source, c.name);
  }
  return c;
}

}  // namespace

std::string_view to_string(ChannelKind kind) {
  return kKinds[static_cast<std::size_t>(kind)];
}

std::string_view to_string(NoticeKind kind) {
  return kNoticeKinds[static_cast<std::size_t>(kind)];
}

bool QuietHours::holds(int minute) const {
  return from <= to ? minute >= from && minute < to : minute >= from || minute < to;
}

Result<Url> parse_url(std::string_view text) {
  Url url;
  const auto scheme_end = text.find("://");
  const std::string_view scheme = text.substr(0, scheme_end == std::string_view::npos ? 0 : scheme_end);
  if (scheme != "http" && scheme != "https" && scheme != "smtp" && scheme != "smtps")
    return fail(ErrorCode::invalid_argument, "an address begins with http://, https:// or smtp://");  // may be a secret
  url.tls = scheme == "https" || scheme == "smtps";
  url.port = scheme == "https" ? 443 : scheme == "smtp" ? 25 : scheme == "smtps" ? 465 : 80;
  std::string_view rest = text.substr(scheme_end + 3);
  const auto slash = rest.find_first_of("/?");
  std::string_view host = rest.substr(0, slash);
  if (slash != std::string_view::npos) url.target = rest.substr(slash);
  if (url.target.front() == '?') url.target.insert(0, "/");
  if (const auto colon = host.rfind(':');
      colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
    const std::string_view port = host.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (error != std::errc() || end != port.data() + port.size() || url.port == 0)
      return fail(ErrorCode::invalid_argument, "an address has a port from 1 to 65535 after its host");
    host = host.substr(0, colon);
  }
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  url.host = host;
  const bool clean = url.target.find_first_of(" \r\n\t") == std::string::npos;
  if (url.host.empty() || !clean)
    return fail(ErrorCode::invalid_argument, "an address has a host and no blanks: https://host/path");
  return url;
}

Result<NoticeOptions> load_notices(std::string_view toml, std::string_view source) {
  NoticeOptions options;
  HP_TRY(const JsonValue root, parse_toml(toml, source));
  for (const auto& [key, value] : *root.as_object()) {
    const std::string where = fmt::format("{}: {}", source, key);
    if (key == "group_wait_s") {
      HP_TRY(options.group_wait_ms, seconds_of(where, value));
    } else if (key == "escalate_after_s") {
      HP_TRY(options.escalate_after_ms, seconds_of(where, value));
    } else if (key == "repeat_after_s") {
      HP_TRY(options.repeat_after_ms, seconds_of(where, value));
    } else if (key == "link") {
      HP_TRY(options.link, text_of(where, value));
    } else if (key == "channel" && value.as_array() != nullptr) {
      for (const JsonValue& entry : *value.as_array()) {
        HP_TRY(Channel channel, channel_of(entry, source, options.channels.size() + 1));
        if (std::ranges::find(options.channels, channel.name, &Channel::name) != options.channels.end())
          return fail(ErrorCode::invalid_argument, "{}: two channels have the name '{}'", source, channel.name);
        options.channels.push_back(std::move(channel));
      }
    } else {
      return fail(ErrorCode::invalid_argument,
                  "{}: unknown key '{}'; expected [[channel]], group_wait_s, escalate_after_s, repeat_after_s or link",
                  source, key);
    }
  }
  if (options.channels.size() > limits::kMaxChannels)
    return fail(ErrorCode::invalid_argument, "{}: more than {} channels", source, limits::kMaxChannels);
  return options;
}

}  // namespace hp::ops

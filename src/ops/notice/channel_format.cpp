#include <array>
#include <ctime>

#include "base/json.h"
#include "net/signing.h"
#include "ops/notice/channel.h"

namespace hp::ops {
namespace {

std::string clock_text(std::int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm local{};
  ::localtime_r(&seconds, &local);
  std::array<char, 32> out{};
  std::strftime(out.data(), out.size(), "%Y-%m-%d %H:%M:%S", &local);
  return out.data();
}

std::string utc_text(std::int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 32> out{};
  std::strftime(out.data(), out.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return out.data();
}

struct Words {
  std::string_view en, zh;
};

Words kind_words(const Notice& n) {
  switch (n.kind) {
    case NoticeKind::opened:
      return n.level == 1 ? Words{"Service down", "服务中断"} : Words{"Service degraded", "服务降级"};
    case NoticeKind::update:
      return {"Under way", "处理中"};
    case NoticeKind::escalated:
      return {"Nobody has reacted", "尚无人响应"};
    case NoticeKind::reminder:
      return {"Still open", "仍未恢复"};
    case NoticeKind::closed:
      return {"Recovered", "已恢复"};
    case NoticeKind::message:
      return {"Alert", "告警"};
    case NoticeKind::message_end:
      return {"Alert ended", "告警解除"};
    case NoticeKind::test:
      return {"Test", "测试"};
    case NoticeKind::heartbeat:
      break;
  }
  return {"Watching works", "监控正常"};
}

bool is_end(NoticeKind kind) {
  return kind == NoticeKind::closed || kind == NoticeKind::message_end;
}

std::string merged_title(const std::vector<Notice>& notices, bool zh) {
  std::string title = notice_title(notices.front(), zh);
  if (notices.size() > 1)
    title += zh ? fmt::format("（共 {} 条）", notices.size()) : fmt::format(" (+{})", notices.size() - 1);
  return title;
}

std::string merged_text(const std::vector<Notice>& notices, bool zh, std::string_view link) {
  std::string text;
  for (const Notice& n : notices) text += (text.empty() ? "" : "\n\n") + notice_text(n, zh, link);
  return text;
}

/// DingTalk, custom robot with signature: timestamp and base64 of HMAC over "timestamp\nsecret", in the query.
HttpPost dingtalk(const Channel& c, const std::string& title, const std::string& text, std::int64_t now_ms) {
  HttpPost post{.target = c.url.target, .body = {}, .headers = {}};
  if (!c.secret.empty()) {
    const std::string sign = net::base64(net::hmac_sha256(c.secret, fmt::format("{}\n{}", now_ms, c.secret)));
    post.target += fmt::format("{}timestamp={}&sign={}", post.target.find('?') == std::string::npos ? '?' : '&', now_ms,
                               net::percent_encode(sign));
  }
  JsonWriter json(post.body);
  json.begin_object().member("msgtype", "text").key("text").begin_object();
  json.member("content", std::string_view(title + "\n" + text)).end_object().end_object();
  return post;
}

/// Feishu and Lark, custom bot with signature: the key is "timestamp\nsecret", the message empty; seconds.
HttpPost feishu(const Channel& c, const std::string& title, const std::string& text, std::int64_t now_ms) {
  HttpPost post{.target = c.url.target, .body = {}, .headers = {}};
  JsonWriter json(post.body);
  json.begin_object();
  if (!c.secret.empty()) {
    const std::string seconds = std::to_string(now_ms / 1000);
    json.member("timestamp", std::string_view(seconds));
    json.member("sign", std::string_view(net::base64(net::hmac_sha256(seconds + "\n" + c.secret, ""))));
  }
  json.member("msg_type", "text").key("content").begin_object();
  json.member("text", std::string_view(title + "\n" + text)).end_object().end_object();
  return post;
}

/// WeCom group robot: the key in the address is its only proof.
HttpPost wecom(const Channel& c, const std::string& title, const std::string& text) {
  static constexpr std::size_t kMaxContent = 2'000;  // bytes; the service refuses more than 2048
  HttpPost post{.target = c.url.target, .body = {}, .headers = {}};
  std::string content = title + "\n" + text;
  if (content.size() > kMaxContent) {
    std::size_t end = kMaxContent;
    while (end > 0 && (static_cast<unsigned char>(content[end]) & 0xC0) == 0x80) --end;
    content = content.substr(0, end) + "…";
  }
  JsonWriter json(post.body);
  json.begin_object().member("msgtype", "text").key("text").begin_object();
  json.member("content", std::string_view(content)).end_object().end_object();
  return post;
}

/// Slack incoming webhook; &, < and > are its markup.
HttpPost slack(const Channel& c, const std::string& title, const std::string& text) {
  HttpPost post{.target = c.url.target, .body = {}, .headers = {}};
  std::string escaped;
  for (const char ch : "*" + title + "*\n" + text) {
    if (ch == '&')
      escaped += "&amp;";
    else if (ch == '<')
      escaped += "&lt;";
    else if (ch == '>')
      escaped += "&gt;";
    else
      escaped += ch;
  }
  JsonWriter json(post.body);
  json.begin_object().member("text", std::string_view(escaped)).end_object();
  return post;
}

/// PagerDuty Events API v2.
HttpPost pagerduty(const Channel& c, const Notice& n, std::string_view link) {
  HttpPost post{.target = c.url.target, .body = {}, .headers = {}};
  JsonWriter json(post.body);
  json.begin_object().member("routing_key", std::string_view(c.secret));
  json.member("event_action", is_end(n.kind) ? "resolve" : "trigger").member("dedup_key", std::string_view(n.key));
  if (!is_end(n.kind)) {
    json.key("payload").begin_object().member("summary", std::string_view(notice_title(n, c.zh)));
    json.member("source", std::string_view(n.instance.empty() ? "homeport" : n.instance));
    json.member("severity", n.level == 1 ? "critical" : n.level == 2 ? "warning" : "info");
    json.member("timestamp", std::string_view(utc_text(n.started_ms))).member("component", "homeport");
    json.member("class", std::string_view(n.rule)).key("custom_details").begin_object();
    json.member("text", std::string_view(notice_text(n, c.zh, link))).end_object().end_object();
    json.member("client", "Homeport");
    if (!link.empty()) json.member("client_url", link);
  }
  json.end_object();
  return post;
}

/// What Alertmanager sends to its webhook receivers, version 4.
HttpPost alertmanager(const Channel& c, const std::vector<Notice>& notices, std::string_view link) {
  HttpPost post{.target = c.url.target, .body = {}, .headers = {}};
  bool all_over = true;
  for (const Notice& n : notices) all_over = all_over && is_end(n.kind);
  JsonWriter json(post.body);
  json.begin_object().member("version", "4").member("groupKey", std::string_view(notices.front().key));
  json.member("truncatedAlerts", 0).member("status", all_over ? "resolved" : "firing");
  json.member("receiver", std::string_view(c.name)).key("groupLabels").begin_object().end_object();
  json.key("commonLabels").begin_object().member("job", "homeport").end_object();
  json.key("commonAnnotations").begin_object().end_object().member("externalURL", link).key("alerts").begin_array();
  for (const Notice& n : notices) {
    json.begin_object().member("status", is_end(n.kind) ? "resolved" : "firing").key("labels").begin_object();
    json.member("alertname", std::string_view(n.rule)).member("instance", std::string_view(n.instance));
    json.member("job", "homeport").member("incident", std::string_view(std::to_string(n.level)));
    json.member("severity", n.level == 1 ? "critical" : n.level == 2 ? "warning" : "info").end_object();
    json.key("annotations").begin_object().member("summary", std::string_view(notice_title(n, false)));
    json.member("summary_zh", std::string_view(notice_title(n, true)));
    json.member("description", std::string_view(notice_text(n, c.zh, link))).end_object();
    json.member("startsAt", std::string_view(utc_text(n.started_ms)));
    json.member("endsAt", std::string_view(is_end(n.kind) ? utc_text(n.at_ms) : "0001-01-01T00:00:00Z"));
    json.member("generatorURL", link).member("fingerprint", std::string_view(n.key)).end_object();
  }
  json.end_array().end_object();
  return post;
}

/// Our own form, signed over "timestamp.body" so that an old message cannot be sent again.
HttpPost webhook(const Channel& c, const std::vector<Notice>& notices, std::string_view link, std::int64_t now_ms) {
  HttpPost post{.target = c.url.target, .body = {}, .headers = {}};
  JsonWriter json(post.body);
  json.begin_object().member("channel", std::string_view(c.name)).key("notices").begin_array();
  for (const Notice& n : notices) {
    json.begin_object()
        .member("kind", to_string(n.kind))
        .member("level", n.level)
        .member("key", std::string_view(n.key));
    json.member("incident", n.incident_id).member("rule", std::string_view(n.rule));
    json.member("instance", std::string_view(n.instance)).member("en", std::string_view(n.en));
    json.member("zh", std::string_view(n.zh)).member("at_ms", n.at_ms).member("started_ms", n.started_ms);
    json.member("title", std::string_view(notice_title(n, c.zh))).key("timeline").begin_array();
    for (const TimelineEntry& e : n.timeline) {
      json.begin_object().member("at_ms", e.at_ms).member("kind", std::string_view(e.kind));
      json.member("who", std::string_view(e.who)).member("action", std::string_view(e.action));
      json.member("target", std::string_view(e.target)).member("text", std::string_view(e.text)).member("ok", e.ok);
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().member("link", link).end_object();
  const std::string seconds = std::to_string(now_ms / 1000);
  post.headers.emplace_back("Homeport-Timestamp", seconds);
  if (!c.secret.empty())
    post.headers.emplace_back("Homeport-Signature",
                              "sha256=" + net::hex(net::hmac_sha256(c.secret, seconds + "." + post.body)));
  return post;
}

}  // namespace

std::string notice_title(const Notice& n, bool zh) {
  const Words words = kind_words(n);
  if (n.kind == NoticeKind::test || n.kind == NoticeKind::heartbeat)
    return fmt::format("[Homeport] {}", zh ? words.zh : words.en);
  return zh ? fmt::format("[Homeport {} 级] {}：{}（{}）", n.level, words.zh, n.zh, n.instance)
            : fmt::format("[Homeport level {}] {}: {} ({})", n.level, words.en, n.en, n.instance);
}

std::string notice_text(const Notice& n, bool zh, std::string_view link) {
  std::string text = zh ? fmt::format("时间：{}", clock_text(n.at_ms)) : fmt::format("Time: {}", clock_text(n.at_ms));
  if (n.started_ms > 0 && n.started_ms != n.at_ms)
    text += zh ? fmt::format("（开始于 {}，持续 {} 秒）", clock_text(n.started_ms), (n.at_ms - n.started_ms) / 1000)
               : fmt::format(" (since {}, {} s)", clock_text(n.started_ms), (n.at_ms - n.started_ms) / 1000);
  for (const TimelineEntry& e : n.timeline)
    text += fmt::format("\n{} {}{}{}{}: {}", clock_text(e.at_ms).substr(11),
                        e.ok ? ""
                        : zh ? "失败 "
                             : "FAILED ",
                        e.action.empty() ? e.kind : e.action, e.target.empty() ? "" : " ", e.target, e.text);
  if (!link.empty()) text += fmt::format("\n{}", link);
  return text;
}

bool may_merge(ChannelKind kind) {
  return kind != ChannelKind::pagerduty;
}

HttpPost format_post(const Channel& c, const std::vector<Notice>& notices, std::string_view link, std::int64_t now_ms) {
  switch (c.kind) {
    case ChannelKind::dingtalk:
      return dingtalk(c, merged_title(notices, c.zh), merged_text(notices, c.zh, link), now_ms);
    case ChannelKind::feishu:
      return feishu(c, merged_title(notices, c.zh), merged_text(notices, c.zh, link), now_ms);
    case ChannelKind::wecom:
      return wecom(c, merged_title(notices, c.zh), merged_text(notices, c.zh, link));
    case ChannelKind::slack:
      return slack(c, merged_title(notices, c.zh), merged_text(notices, c.zh, link));
    case ChannelKind::pagerduty:
      return pagerduty(c, notices.front(), link);
    case ChannelKind::alertmanager:
      return alertmanager(c, notices, link);
    case ChannelKind::webhook:
    case ChannelKind::mail:
      break;
  }
  return webhook(c, notices, link, now_ms);
}

net::Mail format_mail(const Channel& c, const std::vector<Notice>& notices, std::string_view link) {
  const Notice& first = notices.front();
  return {.from = c.mail_from,
          .to = c.mail_to,
          .subject = merged_title(notices, c.zh),
          .text = merged_text(notices, c.zh, link) + "\n",
          .message_id = fmt::format("<{}.{}.{}@homeport>", first.key, to_string(first.kind), first.at_ms)};
}

Status judge_answer(ChannelKind kind, int status, std::string_view body) {
  if (status < 200 || status >= 300)
    return fail(ErrorCode::unavailable, "it answers {}: {}", status, body.substr(0, 200));
  const bool robot = kind == ChannelKind::dingtalk || kind == ChannelKind::wecom || kind == ChannelKind::feishu;
  if (!robot) return {};
  const auto json = JsonValue::parse(body);
  if (json)
    for (const std::string_view key : {"errcode", "code", "StatusCode"})
      if (const JsonValue* code = json->find(key); code != nullptr && code->as_int() == 0) return {};
  return fail(ErrorCode::unavailable, "it refuses the message: {}", body.substr(0, 200));
}

}  // namespace hp::ops

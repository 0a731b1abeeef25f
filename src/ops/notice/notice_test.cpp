#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "net/signing.h"
#include "ops/notice/notifier.h"

namespace hp::ops {
namespace {

Channel channel(std::string_view lines) {
  const auto options = load_notices("[[channel]]\n" + std::string(lines), "notices.toml");
  EXPECT_TRUE(options.has_value()) << options.error().message;
  return options->channels.at(0);
}

Notice notice(NoticeKind kind, int level = 1, const std::string& key = "homeport-1") {
  Notice n;
  n.kind = kind;
  n.level = level;
  n.key = key;
  n.rule = "node_down";
  n.instance = "node1";
  n.en = "A node does not answer";
  n.zh = "节点无响应";
  n.at_ms = n.started_ms = 1'700'000'000'000;
  return n;
}

JsonValue body(const HttpPost& post) {
  return JsonValue::parse(post.body).value();
}

// The sign of each robot as its own documentation computes it, once more by hand.
TEST(Channels, SignaturesOfTheRobots) {
  const Channel ding = channel("kind=\"dingtalk\"\nurl=\"https://h/robot/send?access_token=t\"\nsecret=\"SEC1\"\n");
  const HttpPost d = format_post(ding, {notice(NoticeKind::opened)}, "", 1'700'000'000'123);
  EXPECT_EQ(d.target, "/robot/send?access_token=t&timestamp=1700000000123&sign=" +
                          net::percent_encode(net::base64(net::hmac_sha256("SEC1", "1700000000123\nSEC1"))));
  const Channel lark = channel("kind=\"feishu\"\nurl=\"https://h/hook/x\"\nsecret=\"s\"\nlanguage=\"zh\"\n");
  const JsonValue f = body(format_post(lark, {notice(NoticeKind::opened)}, "", 1'700'000'000'123));
  EXPECT_EQ(*f.find("timestamp")->as_string(), "1700000000");
  EXPECT_EQ(*f.find("sign")->as_string(), net::base64(net::hmac_sha256("1700000000\ns", "")));
  EXPECT_NE(f.find("content")->find("text")->as_string()->find("服务中断：节点无响应"), std::string::npos);
}

TEST(Channels, SigningAsInTheStandards) {
  // RFC 4231, test case 2.
  EXPECT_EQ(net::hex(net::hmac_sha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(net::base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(net::percent_encode("a+/=é"), "a%2B%2F%3D%C3%A9");
}

TEST(Channels, FormsOfTheOthers) {
  const Channel pager = channel("kind=\"pagerduty\"\nrouting_key=\"R\"\n");
  const JsonValue p = body(format_post(pager, {notice(NoticeKind::opened)}, "", 0));
  EXPECT_EQ(*p.find("event_action")->as_string(), "trigger");
  EXPECT_EQ(*p.find("dedup_key")->as_string(), "homeport-1");
  EXPECT_EQ(*p.find("payload")->find("severity")->as_string(), "critical");
  EXPECT_EQ(*body(format_post(pager, {notice(NoticeKind::closed)}, "", 0)).find("event_action")->as_string(),
            "resolve");
  const Channel am = channel("kind=\"alertmanager\"\nurl=\"http://h/api\"\n");
  const JsonValue a = body(format_post(am, {notice(NoticeKind::opened), notice(NoticeKind::closed)}, "", 0));
  EXPECT_EQ(*a.find("version")->as_string(), "4");
  EXPECT_EQ(a.find("alerts")->as_array()->size(), 2u);
  EXPECT_EQ(*a.find("status")->as_string(), "firing") << "as long as one of them fires";
  const Channel slack = channel("kind=\"slack\"\nurl=\"https://h/x\"\n");
  Notice nasty = notice(NoticeKind::opened);
  nasty.instance = "<!channel>";
  EXPECT_EQ(format_post(slack, {nasty}, "", 0).body.find("<!channel>"), std::string::npos);
  const Channel hook = channel("kind=\"webhook\"\nurl=\"http://h/x\"\nsecret=\"k\"\n");
  const HttpPost w = format_post(hook, {notice(NoticeKind::opened)}, "", 5'000);
  EXPECT_EQ(w.headers.at(1).second, "sha256=" + net::hex(net::hmac_sha256("k", "5." + w.body)));
}

TEST(Channels, AnswersThatAreNone) {
  EXPECT_TRUE(judge_answer(ChannelKind::dingtalk, 200, R"({"errcode":0})").has_value());
  EXPECT_FALSE(judge_answer(ChannelKind::dingtalk, 200, R"({"errcode":310000,"errmsg":"sign not match"})").has_value());
  EXPECT_FALSE(judge_answer(ChannelKind::slack, 403, "invalid_token").has_value());
}

TEST(Channels, ErrorsSayWhereAndWhat) {
  const auto message = [](std::string_view toml) { return load_notices(toml, "n.toml").error().message; };
  EXPECT_NE(message("[[channel]]\nkind=\"slak\"\n").find("expected one of webhook"), std::string::npos);
  EXPECT_NE(message("[[channel]]\nkind=\"slack\"\n").find("'url' is missing"), std::string::npos);
  EXPECT_NE(message("[[channel]]\nkind=\"slack\"\nurl=\"https://h\"\nquiet=\"25:00-1:00\"\n").find("22:00"),
            std::string::npos);
}

struct Bench {
  MetricsRegistry metrics;
  std::vector<std::pair<std::string, std::vector<Notice>>> sent;
  bool works = true;
  Moment now{.at_ms = 1'000'000, .wall_ms = 1'700'000'000'000};
  Notifier notifier;
  explicit Bench(std::string_view toml)
      : notifier(
            load_notices(toml, "n.toml").value(),
            [this](const Channel& c, const std::vector<Notice>& n, const Notifier::Done& done) {
              if (works) sent.emplace_back(c.name, n);
              done(works ? Status() : fail(ErrorCode::unavailable, "down"));
            },
            metrics) {}
  void wait(std::int64_t ms, int minute = 720) {
    for (std::int64_t t = 0; t < ms; t += 500) {
      now.at_ms += 500;
      now.wall_ms += 500;
      notifier.round(now, minute);
    }
  }
};

constexpr std::string_view kHook = "group_wait_s=1\n[[channel]]\nname=\"a\"\nkind=\"webhook\"\nurl=\"http://h/\"\n";

TEST(Notifier, GroupsAndSaysEachThingOnce) {
  Bench b(kHook);
  b.notifier.tell(notice(NoticeKind::opened), b.now);
  b.notifier.tell(notice(NoticeKind::opened), b.now);
  b.notifier.tell(notice(NoticeKind::opened, 2, "homeport-2"), b.now);
  b.wait(500);
  EXPECT_TRUE(b.sent.empty()) << "waits for what belongs to it";
  b.wait(3'000);
  std::size_t notices = 0;
  for (const auto& [name, list] : b.sent) notices += list.size();
  EXPECT_EQ(notices, 2u);
  b.notifier.tell(notice(NoticeKind::closed), b.now);
  b.notifier.tell(notice(NoticeKind::closed, 1, "never-opened"), b.now);
  b.wait(3'000);
  EXPECT_EQ(b.sent.back().second.size(), 1u) << "the end only of what was begun";
}

TEST(Notifier, AChannelThatIsDownGetsItAllLater) {
  Bench b(kHook);
  b.works = false;
  for (int i = 0; i < 30; ++i) b.notifier.tell(notice(NoticeKind::opened, 1, "homeport-" + std::to_string(i)), b.now);
  b.wait(600'000);
  EXPECT_TRUE(b.sent.empty());
  EXPECT_EQ(b.notifier.views().at(0).queued, 30u);
  EXPECT_LT(b.notifier.views().at(0).failed, 25u) << "retries back off";
  b.works = true;
  b.wait(120'000);
  std::size_t notices = 0;
  for (const auto& [name, list] : b.sent) notices += list.size();
  EXPECT_EQ(notices, 30u);
}

TEST(Notifier, QuietHoursHoldBackWhatCanWait) {
  Bench b(std::string(kHook) + "quiet=\"22:00-07:00\"\n");
  b.notifier.tell(notice(NoticeKind::opened, 2, "slow"), b.now);
  b.notifier.tell(notice(NoticeKind::opened, 1, "down"), b.now);
  b.wait(5'000, 23 * 60);
  ASSERT_EQ(b.sent.size(), 1u);
  EXPECT_EQ(b.sent[0].second.at(0).key, "down");
  b.wait(5'000, 7 * 60);
  EXPECT_EQ(b.sent.size(), 2u);
}

TEST(Notifier, LevelsRolesAndEscalation) {
  Bench b(
      "group_wait_s=0\n[[channel]]\nname=\"one\"\nkind=\"webhook\"\nurl=\"http://h/\"\nlevel=1\n"
      "[[channel]]\nname=\"lead\"\nkind=\"webhook\"\nurl=\"http://h/\"\nroles=[\"lead\"]\n"
      "[[channel]]\nname=\"boss\"\nkind=\"webhook\"\nurl=\"http://h/\"\nescalation=true\n");
  b.notifier.tell(notice(NoticeKind::opened, 2, "slow"), b.now);
  b.wait(1'000);
  ASSERT_EQ(b.sent.size(), 1u);
  EXPECT_EQ(b.sent[0].first, "lead");
  Notice update = notice(NoticeKind::update, 1, "down");
  update.role = "lead";
  b.notifier.tell(update, b.now);
  b.wait(1'000);
  EXPECT_EQ(b.sent.back().first, "lead");
  b.sent.clear();
  b.notifier.tell(notice(NoticeKind::escalated, 1, "down"), b.now);
  b.notifier.tell(notice(NoticeKind::closed, 1, "down"), b.now);
  b.wait(2'000);
  EXPECT_TRUE(std::ranges::any_of(b.sent, [](const auto& s) { return s.first == "boss"; }));
}

TEST(Notifier, TheHeartbeatComesAndNeverPilesUp) {
  Bench b(std::string(kHook) + "heartbeat_s=60\n");
  b.wait(180'000);
  EXPECT_GE(b.sent.size(), 3u);
  EXPECT_EQ(b.sent[0].second.at(0).kind, NoticeKind::heartbeat);
  b.works = false;
  b.wait(600'000);
  EXPECT_LE(b.notifier.views().at(0).queued, 1u);
}

}  // namespace
}  // namespace hp::ops

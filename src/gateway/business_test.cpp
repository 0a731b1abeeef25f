#include "gateway/business.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace hp::gateway {
namespace {

std::string chunk(std::string_view content, std::string_view finish = {}) {
  std::string json;
  JsonWriter w(json);
  w.begin_object().key("choices").begin_array().begin_object().key("delta").begin_object();
  w.member("content", content).end_object();
  if (!finish.empty()) w.member("finish_reason", finish);
  w.end_object().end_array().end_object();
  return json;
}

TEST(Refusals, PhrasesOfBothLanguages) {
  MetricsRegistry metrics;
  const Business business(metrics, default_refusal_phrases());
  for (const std::string_view reply :
       {"I can't assist with that request.", "I’m unable to help you with this.", "i CANNOT FULFILL this",
        "\n\nI must decline.", "很抱歉，我无法回答这个问题。", "抱歉，我不能提供这样的内容。", "对不起，我不能这样做",
        "我无法协助您完成这项操作"})
    EXPECT_TRUE(business.is_refusal(reply)) << reply;
  for (const std::string_view reply :
       {"", "Certainly! I can assist with that.", "我可以提供帮助。", "您好，请问需要什么？"})
    EXPECT_FALSE(business.is_refusal(reply)) << reply;
}

TEST(Refusals, AListOfOnesOwn) {
  const auto phrases = parse_refusal_phrases("# ours\r\nNot at this branch\r\n\n本柜台不办理  \n");
  EXPECT_EQ(phrases, (std::vector<std::string>{"Not at this branch", "本柜台不办理"}));
  MetricsRegistry metrics;
  const Business business(metrics, phrases);
  EXPECT_TRUE(business.is_refusal("Sorry, NOT AT THIS BRANCH."));
  EXPECT_TRUE(business.is_refusal("本柜台不办理此业务"));
  EXPECT_FALSE(business.is_refusal("I can't assist with that.")) << "the list replaces the shipped one";
}

TEST(Refusals, ABeginningInPieces) {
  RefusalEar ear;
  ear.hear(R"({"choices":[{"delta":{"role":"assistant"}}]})", {});
  ear.hear(chunk("I can\"t "), {});
  ear.hear(R"({"choices":[{"delta":{"content":"\u6211\u65e0\u6cd5"}}]})", {});
  ear.hear(R"({"choices":[{"delta":{"content":"broken)", {});
  EXPECT_EQ(ear.beginning(), "I can\"t 我无法");
  EXPECT_FALSE(ear.filtered());
  ear.hear(chunk(std::string(1'000, 'x')), {});
  EXPECT_EQ(ear.beginning().size(), RefusalEar::kMaxRefusalBytes) << "deaf to the rest";
}

TEST(Refusals, TheModelsOwnFilter) {
  RefusalEar streamed, whole;
  streamed.hear(chunk("", "content_filter"), {});
  EXPECT_TRUE(streamed.filtered());
  whole.hear("{}", "content_filter");
  EXPECT_TRUE(whole.filtered());
  RefusalEar ended;
  ended.hear(chunk("content_filter", "stop"), "stop");
  EXPECT_FALSE(ended.filtered());
}

TEST(Business, CountsByTenantAndModel) {
  MetricsRegistry metrics;
  Business business(metrics, {});
  for (int i = 0; i < 3; ++i) business.request("acme");
  business.tokens("acme", 100, 20);
  business.refused("acme", "v2", "phrase");
  business.refused("acme", "v2", "content_filter");
  business.refused("acme", "r1", "phrase");
  business.refused("clinic", "v2", "phrase");
  business.timed_out("clinic", "r1");
  const std::string page = metrics.render();
  for (const std::string_view line :
       {R"(homeport_tenant_requests_total{tenant="acme"} 3)",
        R"(homeport_tenant_prompt_tokens_total{tenant="acme"} 100)",
        R"(homeport_tenant_completion_tokens_total{tenant="acme"} 20)",
        R"(homeport_refusals_total{tenant="acme",model="v2",by="phrase"} 1)",
        R"(homeport_refusals_total{tenant="acme",model="v2",by="content_filter"} 1)",
        R"(homeport_refusals_total{tenant="acme",model="r1",by="phrase"} 1)",
        R"(homeport_tenant_refusals_total{tenant="acme"} 3)", R"(homeport_tenant_refusals_total{tenant="clinic"} 1)",
        R"(homeport_tenant_timeouts_total{tenant="clinic",model="r1"} 1)", "homeport_gateway_timeouts_total 1"})
    EXPECT_NE(page.find(std::string(line) + "\n"), std::string::npos) << line << "\n" << page;
}

}  // namespace
}  // namespace hp::gateway

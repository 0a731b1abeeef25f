#include "gateway/admission.h"

#include <gtest/gtest.h>

#include "net/sha256.h"

namespace hp::gateway {
namespace {
using namespace std::chrono_literals;

class AdmissionTest : public testing::Test {
 protected:
  void configure(const std::string& toml) {
    const auto tenants = parse_tenants(toml, "test");
    ASSERT_TRUE(tenants) << tenants.error().message;
    admission_.configure(*tenants);
  }
  ManualClock clock_;
  MetricsRegistry metrics_;
  Admission admission_{clock_, metrics_};
};

TEST_F(AdmissionTest, WithoutTenantsEveryoneMaySend) {
  EXPECT_EQ(admission_.enter("", 1'000'000).status, 200);
  EXPECT_EQ(admission_.identify("Bearer x").tenant, "");
}

TEST_F(AdmissionTest, KeysAreKnownByTheirHashOnly) {
  configure("[[tenant]]\nname='a'\nkeys=['secret-a']\n[[tenant]]\nname='b'\nkey_sha256=['" +
            net::sha256_hex("secret-b") + "']\n");
  EXPECT_EQ(admission_.enter("Bearer secret-a", 1).tenant, "a");
  EXPECT_EQ(admission_.enter("Bearer secret-b", 1).tenant, "b");
  for (const char* wrong : {"", "secret-a", "Bearer ", "Bearer secret", "Bearer secret-aa", "Basic secret-a"}) {
    const auto verdict = admission_.enter(wrong, 1);
    EXPECT_EQ(verdict.status, 401) << wrong;
    EXPECT_EQ(verdict.message.find("secret"), std::string::npos) << "a key in a message";
  }
  admission_.configure({tenant_of_keys("k1\n# no key\n\nk2\r\n")});
  EXPECT_EQ(admission_.enter("Bearer k2", 1).tenant, "default");
  EXPECT_EQ(admission_.enter("Bearer # no key", 1).status, 401);
}

TEST_F(AdmissionTest, RequestsPerMinuteWithAComputedRetryAfter) {
  configure("[[tenant]]\nname='a'\nkeys=['k']\nrequests_per_minute=6\n");
  for (int i = 0; i < 6; ++i) EXPECT_EQ(admission_.enter("Bearer k", 1).status, 200) << i;
  const auto verdict = admission_.enter("Bearer k", 1);
  EXPECT_EQ(verdict.status, 429);
  EXPECT_EQ(verdict.retry_after_s, 10);
  clock_.advance(9s);
  EXPECT_EQ(admission_.enter("Bearer k", 1).status, 429);
  clock_.advance(1s);
  EXPECT_EQ(admission_.enter("Bearer k", 1).status, 200);
}

TEST_F(AdmissionTest, TokensAreReckonedAtEntryAndSettledAtTheEnd) {
  configure("[[tenant]]\nname='a'\nkeys=['k']\ntokens_per_minute=600\n");
  EXPECT_EQ(admission_.enter("Bearer k", 500).status, 200);
  const auto verdict = admission_.enter("Bearer k", 300);
  EXPECT_EQ(verdict.status, 429);
  EXPECT_EQ(verdict.retry_after_s, 20);
  admission_.leave("a", 500, 100);
  EXPECT_EQ(admission_.enter("Bearer k", 300).status, 200);
  admission_.leave("a", 300, 1200);  // 700 too many: below zero
  EXPECT_EQ(admission_.enter("Bearer k", 1).status, 429);
  clock_.advance(3min);
  EXPECT_EQ(admission_.enter("Bearer k", 10'000).status, 200) << "a full bucket lets a large request through";
}

TEST_F(AdmissionTest, RequestsAtOnceAndReconfiguration) {
  configure("[[tenant]]\nname='a'\nkeys=['k']\nconcurrent=2\n");
  EXPECT_EQ(admission_.enter("Bearer k", 1).status, 200);
  EXPECT_EQ(admission_.enter("Bearer k", 1).status, 200);
  EXPECT_EQ(admission_.enter("Bearer k", 1).status, 429);
  configure("[[tenant]]\nname='a'\nkeys=['new']\nconcurrent=3\n");
  EXPECT_EQ(admission_.enter("Bearer k", 1).status, 401);
  EXPECT_EQ(admission_.enter("Bearer new", 1).status, 200);
  EXPECT_EQ(admission_.enter("Bearer new", 1).status, 429) << "the two open ones still count";
  admission_.leave("a", 1, 1);
  EXPECT_EQ(admission_.enter("Bearer new", 1).status, 200);
}

TEST_F(AdmissionTest, BrokenFilesAreRefusedWithTheReason) {
  for (const char* wrong :
       {"", "x=1", "[[tenant]]\nname='a'\n", "[[tenant]]\nkeys=['k']\n", "[[tenant]]\nname='a'\nkeys=['k']\nrpm=3\n",
        "[[tenant]]\nname='a'\nkey_sha256=['zz']\n", "[[tenant]]\nname='a'\nkeys=['k']\nconcurrent=-1\n",
        "[[tenant]]\nname='a'\nkeys=['k']\n[[tenant]]\nname='a'\nkeys=['l']\n"})
    EXPECT_FALSE(parse_tenants(wrong, "test")) << wrong;
}

}  // namespace
}  // namespace hp::gateway

#include "ops/bundle/bundle.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <random>

#include "base/black_box.h"
#include "net/http_server.h"
#include "ops/bundle/redact.h"
#include "ops/bundle/stacks.h"

namespace hp::ops {
namespace {

TEST(Redact, ValuesOfNamesThatHoldSecrets) {
  const auto gone = [](std::string_view text) { return redacted(text, {}); };
  EXPECT_EQ(gone("api_key = \"abc\" x"), "api_key = \"[removed]\" x");
  EXPECT_EQ(gone(R"({"password":"p\"q","user":"ada"})"), R"({"password":"[removed]","user":"ada"})");
  EXPECT_EQ(gone("Authorization: Bearer abc.def\r\nHost: x"), "Authorization: Bearer [removed]\r\nHost: x");
  EXPECT_EQ(gone("took bearer 0123456789abcdef from x"), "took bearer [removed] from x");
  EXPECT_EQ(gone("a=10.0.0.1:8000;priority=1;key=sekret;capacity=2"),
            "a=10.0.0.1:8000;priority=1;key=[removed];capacity=2");
  EXPECT_EQ(gone("https://oapi.dingtalk.com/robot/send?access_token=abc&sign=xyz&timestamp=1"),
            "https://oapi.dingtalk.com/robot/send?access_token=[removed]&sign=[removed]&timestamp=1");
  EXPECT_EQ(gone("redis://user:pa@ss@host:6379/0"), "redis://[removed]@host:6379/0");
  EXPECT_EQ(gone("used sk-abcdefghijk here"), "used [removed] here");
  EXPECT_EQ(gone("Cookie: homeport_console=ada.admin.1.2.3"), "Cookie: [removed]");
}

TEST(Redact, OrdinaryTextStays) {
  for (const std::string_view text :
       {"tokens=120 resumes=0", "max_step_tokens = 512", "the monkey ate", "homeport_step_tokens_total 12\n",
        "vllm:request_success_total{model_name=\"m\"} 3", "http://10.0.0.1:8000/v1/models", "key", "prefix_cache=true",
        "time_to_first_token_seconds_bucket{le=\"0.5\"} 7"})
    EXPECT_EQ(redacted(text, {}), text);
}

TEST(Redact, KnownSecretsWhereverTheyStand) {
  const std::vector<std::string> secrets{"hunter2-hunter2", "abc"};
  EXPECT_EQ(redacted("xhunter2-hunter2y abc", secrets), "x[removed]y abc") << "too short a word is left";
}

TEST(Redact, TheConfigurationInForce) {
  const std::string keys = (std::filesystem::temp_directory_path() / fmt::format("hp-keys-{}", ::getpid())).string();
  std::ofstream(keys) << "first-key-of-ours\n";
  Config config;
  ASSERT_TRUE(config.set_flag("api-keys-file", keys));
  ASSERT_TRUE(config.set_flag("node", "a=10.0.0.1:8000;key=node-secret-1,b=10.0.0.2:8000"));
  const std::string text = redacted_config(config);
  EXPECT_EQ(text.find("node-secret-1"), std::string::npos);
  EXPECT_NE(text.find(keys), std::string::npos) << "a path is no secret";
  EXPECT_NE(text.find("10.0.0.2:8000"), std::string::npos);
  EXPECT_EQ(redacted("log: first-key-of-ours and node-secret-1", secrets_of(config)), "log: [removed] and [removed]");
  std::filesystem::remove(keys);
}

TEST(Redact, WhatTheFilesOfTheConfigurationHold) {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("hp-secrets-{}", ::getpid());
  std::filesystem::create_directories(folder / "ops");
  const auto file = [&](const char* name, std::string_view text) {
    std::ofstream(folder / name) << text;
    return (folder / name).string();
  };
  ASSERT_EQ(::setenv("HP_TEST_DING", "https://oapi.dingtalk.com/robot/send?access_token=ding-token-0123456789", 1), 0);
  const std::string notices =
      "[[channel]]\nname=\"ding\"\nkind=\"dingtalk\"\nurl=\"env:HP_TEST_DING\"\nsecret=\"file:" +
      file("ding", "ding-signing-secret\n") +
      "\"\n[[channel]]\nkind=\"slack\"\nurl=\"https://hooks.slack.com/services/T01/B02/slack-part-abcdefgh\"\n"
      "[[channel]]\nkind=\"mail\"\nurl=\"smtp://"
      "mail:587\"\nfrom=\"a@b\"\nto=[\"c@d\"]\nuser=\"u\"\npassword=\"mail-pass-word\"\n";
  Config config;
  ASSERT_TRUE(config.set_flag("ops-notices", file("notices.toml", notices)));
  ASSERT_TRUE(config.set_flag("redis-password-file", file("redis", "redis-pass-word\n")));
  ASSERT_TRUE(config.set_flag("console-keys-file", file("keys", "# people\nada admin console-key-of-ada\n")));
  ASSERT_TRUE(config.set_flag("ops-folder", (folder / "ops").string()));
  file("ops/console.key", "made-console-key");
  file("ops/console.secret", "made-console-secret");
  const auto secrets = secrets_of(config);
  for (const std::string_view secret :
       {"ding-token-0123456789", "ding-signing-secret", "slack-part-abcdefgh", "mail-pass-word", "redis-pass-word",
        "console-key-of-ada", "made-console-key", "made-console-secret"}) {
    const std::string text = redacted(fmt::format("a log line says '{}' here", secret), secrets);
    EXPECT_EQ(text.find(secret), std::string::npos) << secret;
    EXPECT_EQ(redacted_config(config).find(secret), std::string::npos) << secret;
  }
  EXPECT_EQ(redacted("dingtalk, slack and webhook channels", secrets), "dingtalk, slack and webhook channels");
  file("notices.toml", "[[channel]]\nkind=\"slak\"\nsecret=\"torn-file-secret\"\n");
  EXPECT_EQ(redacted("torn-file-secret", secrets_of(config)), "[removed]")
      << "one that does not parse holds secrets too";
  std::filesystem::remove_all(folder);
}

class BundleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / fmt::format("hp-bundle-{}", ::getpid());
    std::filesystem::create_directories(folder_);
    ASSERT_TRUE(black_box::open());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Unpacked by the tools that a person would use.
  std::filesystem::path unpack(const std::filesystem::path& file) const {
    const auto out = folder_ / "out";
    std::filesystem::remove_all(out);
    std::filesystem::create_directories(out);
    EXPECT_EQ(std::system(fmt::format("tar --zstd -xf '{}' -C '{}'", file.string(), out.string()).c_str()), 0);
    return out;
  }
  static std::string text(const std::filesystem::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::filesystem::path folder_;
};

TEST_F(BundleTest, HoldsEverythingAndNoSecret) {
  MetricsRegistry metrics;
  std::vector<std::shared_ptr<net::ResponseWriter>> kept;
  const auto server = net::HttpServer::start(
      {.port = 0},
      [&kept](net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) {
        if (request.path == "/silent") return kept.push_back(std::move(writer));  // never answers
        writer->send({.headers = {}, .body = "up 1\npassword: swordfish-1\n", .content_type = "text/plain"});
      },
      metrics);
  ASSERT_TRUE(server);
  const auto page = [&](std::string name, std::string target) {
    return BundlePage{std::move(name), {.port = (*server)->port(), .target = std::move(target)}};
  };
  black_box::append("a line with top-secret-value in it");
  const auto report =
      write_bundle({.file = folder_ / "b.tar.zst",
                    .processes = {::getpid(), 1'999'999},
                    .texts = {{"config.txt", [] { return std::string("api_key = top-secret-value\n"); }},
                              {"history/cpu.json", [] { return std::string("[1,2,3]"); }}},
                    .pages = {page("nodes/a/metrics.txt", "/metrics"), page("nodes/b/metrics.txt", "/silent")},
                    .secrets = {"top-secret-value"},
                    .patience = std::chrono::milliseconds(3000)});
  ASSERT_TRUE(report) << report.error().message;
  struct stat info {};
  ASSERT_EQ(::stat(report->file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600);
  EXPECT_EQ(static_cast<std::size_t>(info.st_size), report->bytes);
  const auto out = unpack(report->file);
  EXPECT_EQ(text(out / "history/cpu.json"), "[1,2,3]");
  EXPECT_EQ(text(out / "nodes/a/metrics.txt"), "up 1\npassword: [removed]\n");
  EXPECT_FALSE(std::filesystem::exists(out / "nodes/b/metrics.txt"));
  EXPECT_NE(text(out / "contents.txt").find("Left out:\nprocesses/1999999/log.txt"), std::string::npos);
  EXPECT_NE(text(out / "contents.txt").find("nodes/b/metrics.txt: "), std::string::npos);
  const std::string mine = fmt::format("processes/{}/", ::getpid());
  EXPECT_NE(text(out / (mine + "stacks.txt")).find("thread "), std::string::npos);
  EXPECT_NE(text(out / (mine + "log.txt")).find("a line with [removed] in it"), std::string::npos);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(out))
    if (entry.is_regular_file()) {
      EXPECT_EQ(text(entry.path()).find("top-secret-value"), std::string::npos) << entry.path();
      EXPECT_EQ(text(entry.path()).find("swordfish"), std::string::npos) << entry.path();
    }
}

TEST_F(BundleTest, NeverGrowsBeyondItsLimit) {
  std::mt19937_64 random(7);
  std::string noise(3 << 20, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  BundleInput input{.file = folder_ / "big.tar.zst", .max_bytes = 8 << 20};
  for (int i = 0; i < 6; ++i) input.texts.emplace_back(fmt::format("noise{}", i), [&] { return noise; });
  input.texts.emplace_back("small", [] { return std::string("fits"); });
  const auto report = write_bundle(input);
  ASSERT_TRUE(report);
  EXPECT_LE(std::filesystem::file_size(report->file), 8U << 20);
  EXPECT_EQ(report->left_out.size(), 4U);
  EXPECT_EQ(text(unpack(report->file) / "small"), "fits");
}

TEST_F(BundleTest, AStoppedProcessIsReadFromOutside) {
  const pid_t child = ::fork();
  if (child == 0)
    for (;;) ::pause();
  ::kill(child, SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  const std::string stacks = process_stacks(child, std::chrono::seconds(20));
  EXPECT_NE(stacks.find("no account of its own"), std::string::npos);
  EXPECT_NE(stacks.find("T (stopped)"), std::string::npos) << stacks;
  EXPECT_TRUE(!std::filesystem::exists("/usr/bin/gdb") || stacks.find("#0") != std::string::npos) << stacks;
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
}

TEST_F(BundleTest, OldOnesGo) {
  for (int i = 0; i < 5; ++i) {
    const auto path = folder_ / fmt::format("{}.tar.zst", i);
    std::ofstream(path) << "x";
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - std::chrono::hours(i));
  }
  trim_bundles(folder_, 2);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "0.tar.zst") && std::filesystem::exists(folder_ / "1.tar.zst"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "2.tar.zst"));
  EXPECT_FALSE(write_bundle({.file = folder_ / "no" / "such" / "folder.tar.zst"}));
}

}  // namespace
}  // namespace hp::ops

// Names, addresses, choices and half-done files of the hub room. Transfers over a real server:
// tests/conformance/test_pull.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "hub/catalog.h"
#include "hub/limits.h"
#include "hub/part_file.h"
#include "hub/pull.h"
#include "hub/url.h"
#include "net/sha256.h"

namespace hp::hub {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Url, ReadsAddresses) {
  const auto plain = Url::parse("https://huggingface.co/a/b?x=1#part");
  ASSERT_TRUE(plain.has_value());
  EXPECT_EQ(plain->host, "huggingface.co");
  EXPECT_EQ(plain->port, 443);
  EXPECT_EQ(plain->target, "/a/b?x=1");
  EXPECT_EQ(Url::parse("http://[::1]:8080")->host, "::1");
  EXPECT_EQ(Url::parse("http://[::1]:8080")->text(), "http://[::1]:8080/");
  EXPECT_EQ(plain->resolve("/c?d")->text(), "https://huggingface.co/c?d");
  EXPECT_EQ(plain->resolve("http://cdn:81/x")->text(), "http://cdn:81/x");
  EXPECT_TRUE(plain->same_server(*Url::parse("https://huggingface.co/other")));
  EXPECT_FALSE(plain->same_server(*Url::parse("http://huggingface.co/other")));
  for (const char* bad : {"", "huggingface.co", "ftp://x", "https://", "https://user@host/", "http://x:0", "http://x:y",
                          "http://x:70000", "http://a b/"})
    EXPECT_FALSE(Url::parse(bad).has_value()) << bad;
  EXPECT_EQ(encode_path("a b/ü%.gguf"), "a%20b/%C3%BC%25.gguf");
}

TEST(Catalog, NamesAndPatterns) {
  const auto r1 = parse_model_name("deepseek-r1:1.5b");
  ASSERT_TRUE(r1.has_value());
  EXPECT_EQ(r1->repository, "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B");
  const auto own = parse_model_name("org/Model-1.0:Q8_0");
  ASSERT_TRUE(own.has_value());
  EXPECT_EQ(own->repository, "org/Model-1.0");
  EXPECT_EQ(own->pattern, "Q8_0");
  EXPECT_THAT(parse_model_name("deepseek-r1:9b").error().message, HasSubstr("deepseek-r1:8b"));
  for (const char* bad : {"a/../b", "../x", "a/b/c", "a/", "/b", "a/b c", "a/.hidden"})
    EXPECT_FALSE(parse_model_name(bad).has_value()) << bad;
  for (const CatalogEntry& e : catalog()) EXPECT_TRUE(parse_model_name(e.repository).has_value()) << e.name;
  EXPECT_TRUE(matches("*.gguf", "sub/m.gguf"));
  EXPECT_TRUE(matches("q4_k_m", "DeepSeek-Q4_K_M-00001-of-00002.gguf"));
  EXPECT_TRUE(matches("a*b?d", "aXXbcd"));
  EXPECT_FALSE(matches("a*b?d", "aXXbd"));
  EXPECT_FALSE(matches("Q4_K_M", "Q4_K_M.txt"));
}

std::vector<std::string> chosen(const std::vector<HubFile>& all, const std::string& pattern) {
  const auto files = choose_files(all, {"org/m", pattern});
  if (!files) return {files.error().message};
  std::vector<std::string> paths;
  for (const HubFile& f : *files) paths.push_back(f.path);
  return paths;
}

TEST(Pull, ChoosesWhatServingNeeds) {
  const std::vector<HubFile> folder = {{"config.json", 1},       {"model.safetensors", 9},
                                       {"tokenizer.json", 2},    {"onnx/model.safetensors", 9},
                                       {"pytorch_model.bin", 9}, {"figure.png", 3}};
  EXPECT_THAT(chosen(folder, ""), ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
  const std::vector<HubFile> ggufs = {
      {"m-Q4_K_M-00001-of-00002.gguf", 5}, {"m-Q4_K_M-00002-of-00002.gguf", 5}, {"m-Q8_0.gguf", 9}, {"config.json", 1}};
  EXPECT_THAT(chosen(ggufs, ""), ElementsAre("m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"));
  EXPECT_THAT(chosen(ggufs, "q8_0"), ElementsAre("m-Q8_0.gguf"));
  EXPECT_THAT(chosen(ggufs, "Q2_K")[0], HasSubstr("m-Q8_0.gguf"));
  EXPECT_THAT(chosen({{"README.md", 1}}, "")[0], HasSubstr("neither"));
}

TEST(Digest, KnownValues) {
  net::Digest sha(net::Digest::Kind::sha256);
  sha.update(std::as_bytes(std::span("abc", 3)));
  EXPECT_EQ(sha.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

class HalfDone : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "homeport_hub_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
  // "hello\n" as git and SHA-256 know it.
  const HubFile by_git_{.path = "f", .size = 6, .git_sha = "ce013625030ba8dba906f756967f9e9ca394464a"};
  const HubFile by_sha_{
      .path = "f", .size = 6, .sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"};
};

TEST_F(HalfDone, GoesOnWhereItEndedAndChecksTheHash) {
  for (const HubFile& file : {by_git_, by_sha_}) {
    std::filesystem::remove(folder_ / "f");
    {
      auto part = PartFile::open(folder_ / "f", file);
      ASSERT_TRUE(part.has_value()) << part.error().message;
      ASSERT_TRUE((*part)->append(0, "hel").has_value());
      ASSERT_TRUE((*part)->save().has_value());
    }
    auto part = PartFile::open(folder_ / "f", file);
    ASSERT_TRUE(part.has_value());
    EXPECT_EQ((*part)->arrived(), 3U);
    EXPECT_FALSE(is_complete(folder_ / "f", file));
    EXPECT_FALSE((*part)->append(0, "lo\nmore").has_value()) << "more bytes than the file has";
    ASSERT_TRUE((*part)->append(0, "lo\n").has_value());
    const Status done = (*part)->complete();
    ASSERT_TRUE(done.has_value()) << done.error().message;
    EXPECT_TRUE(is_complete(folder_ / "f", file));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "f.part.state"));
  }
}

TEST_F(HalfDone, AWrongHashIsNamedAndRemoved) {
  auto part = PartFile::open(folder_ / "f", by_sha_);
  ASSERT_TRUE(part.has_value());
  ASSERT_TRUE((*part)->append(0, "jello\n").has_value());
  const Status done = (*part)->complete();
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().message, HasSubstr("expected the hash 5891b5b5"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "f"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "f.part"));
}

TEST_F(HalfDone, AnotherFilesStateIsThrownAway) {
  {
    auto part = PartFile::open(folder_ / "f", by_sha_);
    ASSERT_TRUE(part && (*part)->append(0, "hel") && (*part)->save());
  }
  EXPECT_EQ((*PartFile::open(folder_ / "f", by_git_))->arrived(), 0U);
  std::ofstream(folder_ / "f.part.state") << R"({"size":6,"hash":"x","arrived":[99]})";
  EXPECT_EQ((*PartFile::open(folder_ / "f", by_git_))->arrived(), 0U);
  std::ofstream(folder_ / "f.part.state") << "no JSON";
  EXPECT_EQ((*PartFile::open(folder_ / "f", by_git_))->arrived(), 0U);
}

TEST(Hub, ReadsTheEnvironment) {
  const auto hub = Hub::from_environment(Hub::Kind::hugging_face, [](const char* name) -> const char* {
    if (std::string_view(name) == "HF_ENDPOINT") return "https://hf-mirror.example/base";
    return std::string_view(name) == "HF_TOKEN" ? "secret\n" : nullptr;
  });
  ASSERT_TRUE(hub.has_value());
  EXPECT_EQ(hub->token, "secret");
  EXPECT_EQ(hub->file_url("o/m", "a b.json").text(), "https://hf-mirror.example/base/o/m/resolve/main/a%20b.json");
  EXPECT_FALSE(Hub::from_environment(Hub::Kind::hugging_face, [](const char* name) -> const char* {
                 return std::string_view(name) == "HF_ENDPOINT" ? "mirror" : nullptr;
               }).has_value());
}

}  // namespace
}  // namespace hp::hub

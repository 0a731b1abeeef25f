#include "model/gguf_file.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "model/test_gguf_writer.h"

namespace hp {
namespace {

std::span<const std::byte> as_bytes(const std::string& s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

TestGgufWriter honest() {
  TestGgufWriter w;
  w.add_string("general.architecture", "llama");
  w.add_u32("llama.block_count", 2);
  w.add_f32("llama.eps", 0.5F);
  w.add_strings("tokenizer.ggml.tokens", {"a", "b", ""});
  const std::vector<float> data = {1, 2, 3, 4, 5, 6};
  w.add_f32_tensor("t", {3, 2}, data);
  w.add_tensor("q", {32, 2}, 3, std::string(40, '\x11'));
  return w;
}

TEST(GgufFile, ReadsMetadataAndTensors) {
  const std::string bytes = honest().bytes();
  const auto file = GgufFile::parse(as_bytes(bytes), "test.gguf");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(*file->get_string("general.architecture"), "llama");
  EXPECT_EQ(file->get_int("llama.block_count"), 2);
  EXPECT_EQ(file->get_double("llama.eps"), 0.5);
  EXPECT_EQ(file->get_double("llama.block_count"), 2.0);
  EXPECT_EQ(file->get_int("llama.eps"), std::nullopt);
  EXPECT_EQ(file->get_strings("tokenizer.ggml.tokens")->size(), 3U);
  const GgufTensor* t = file->find("t");
  ASSERT_NE(t, nullptr);
  EXPECT_EQ(t->view.shape, Shape({2, 3}));
  EXPECT_EQ(reinterpret_cast<const float*>(t->view.data)[5], 6.0F);
  EXPECT_EQ(file->find("q")->view.dtype, DType::q4_1);
  EXPECT_EQ(file->find("nothing"), nullptr);
}

TEST(GgufFile, EveryTruncationIsAnError) {
  const std::string bytes = honest().bytes();
  const std::size_t padding = 24;  // the last tensor's bytes end before the file's padding does
  for (std::size_t length = 0; length + padding < bytes.size(); ++length) {
    const std::string cut = bytes.substr(0, length);
    const auto file = GgufFile::parse(as_bytes(cut), "cut.gguf");
    ASSERT_FALSE(file.has_value()) << length;
    ASSERT_NE(file.error().message.find("cut.gguf"), std::string::npos);
  }
}

TEST(GgufFile, EverySingleByteChangeIsSafe) {
  const std::string bytes = honest().bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const char flip : {'\x01', '\x80', '\xFF'}) {
      std::string lie = bytes;
      lie[i] = static_cast<char>(lie[i] ^ flip);
      const auto file = GgufFile::parse(as_bytes(lie), "lie.gguf");
      if (!file) continue;
      for (const GgufTensor& t : file->tensors()) {
        ASSERT_GE(t.view.data, as_bytes(lie).data());
        ASSERT_LE(t.view.data + t.view.bytes(), as_bytes(lie).data() + lie.size());
      }
    }
  }
}

TEST(GgufFile, LiesAreNamed) {
  struct Case {
    std::vector<std::uint64_t> dims;
    std::uint32_t type;
    std::uint64_t offset_error;
    const char* expected;
  };
  const Case cases[] = {
      {{4}, 0, 1 << 20, "data section"},
      {{4}, 0, 4, "data section"},
      {{1ULL << 40, 1ULL << 40}, 0, 0, "impossible dimension"},
      {{0}, 0, 0, "impossible dimension"},
      {{4}, 99, 0, "ggml type 99"},
      {{33}, 8, 0, "no multiple of 32"},
      {{1, 1, 1, 1, 1}, 0, 0, "5 dimensions"},
      {{1000}, 0, 0, "takes 4000 bytes"},
  };
  for (const Case& c : cases) {
    TestGgufWriter w;
    w.add_tensor("bad", c.dims, c.type, std::string(16, '\0'), c.offset_error);
    const std::string bytes = w.bytes();
    const auto file = GgufFile::parse(as_bytes(bytes), "lie.gguf");
    ASSERT_FALSE(file.has_value()) << c.expected;
    EXPECT_NE(file.error().message.find(c.expected), std::string::npos) << file.error().message;
  }
  TestGgufWriter old;
  old.version = 1;
  EXPECT_NE(GgufFile::parse(as_bytes(old.bytes()), "v1.gguf").error().message.find("version 1"), std::string::npos);
  EXPECT_NE(GgufFile::parse(as_bytes("hello world"), "x").error().message.find("not a GGUF"), std::string::npos);
}

TEST(GgufFile, RepeatedNamesAreRefused) {
  TestGgufWriter keys, tensors;
  keys.add_u32("k", 1);
  keys.add_u32("k", 2);
  EXPECT_FALSE(GgufFile::parse(as_bytes(keys.bytes()), "k").has_value());
  tensors.add_tensor("t", {4}, 0, std::string(16, '\0'));
  tensors.add_tensor("t", {4}, 0, std::string(16, '\0'));
  EXPECT_FALSE(GgufFile::parse(as_bytes(tensors.bytes()), "t").has_value());
}

}  // namespace
}  // namespace hp

#include "model/safetensors_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

namespace hp {
namespace {

using ::testing::HasSubstr;

std::span<const std::byte> as_bytes(const std::string& s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

/// Header padded to a multiple of eight, as writers do.
std::string file_of(std::string header, const std::string& data) {
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + data;
}

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::string honest() {
  return file_of(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]},)"
                 R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})",
                 floats({1, 2, 3, 4, 5, 6}) + std::string(4, '\x3f'));
}

std::string error_of(const std::string& header, std::size_t data_bytes) {
  const std::string bytes = file_of(header, std::string(data_bytes, '\0'));
  const auto file = SafetensorsFile::parse(as_bytes(bytes), "lie.safetensors");
  return file ? "accepted" : file.error().message;
}

TEST(SafetensorsFile, ReadsTensors) {
  const std::string bytes = honest();
  const auto file = SafetensorsFile::parse(as_bytes(bytes), "test");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 2U);
  const SafetensorsTensor* a = file->find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->view.shape, Shape({2, 3}));
  float last = 0;
  std::memcpy(&last, a->view.data + 20, sizeof(last));
  EXPECT_EQ(last, 6.0F);
  EXPECT_EQ(file->find("b")->view.dtype, DType::bf16);
  EXPECT_EQ(file->find("__metadata__"), nullptr);
}

TEST(SafetensorsFile, EveryTruncationIsAnError) {
  const std::string bytes = honest();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const std::string cut = bytes.substr(0, length);
    const auto file = SafetensorsFile::parse(as_bytes(cut), "cut");
    ASSERT_FALSE(file.has_value()) << length;
    ASSERT_THAT(file.error().message, HasSubstr("cut"));
  }
}

TEST(SafetensorsFile, EverySingleByteChangeIsSafe) {
  const std::string bytes = honest();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const char flip : {'\x01', '\x80', '\xFF'}) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      const auto file = SafetensorsFile::parse(as_bytes(changed), "changed");
      if (!file) continue;
      for (const SafetensorsTensor& t : file->tensors())
        ASSERT_LE(t.view.data + t.view.bytes(), as_bytes(changed).data() + changed.size());
    }
  }
}

TEST(SafetensorsFile, LiesAreRefused) {
  EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,12]}})", 12), HasSubstr("takes 8 bytes"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4), HasSubstr("4 bytes of data"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), HasSubstr("data_offsets"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12), HasSubstr("hole"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 8), HasSubstr("tensors take 4"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), HasSubstr("dimension -1"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4),
              HasSubstr("impossible dimension"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,4]}})", 4), HasSubstr("'Q9'"));
  EXPECT_THAT(error_of(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4), HasSubstr("dtype"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]}})", 4), HasSubstr("at most 4"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
                       5),
              HasSubstr("no multiple"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                       R"("a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                       4),
              HasSubstr("stands twice"));
  EXPECT_THAT(error_of(R"([1])", 0), HasSubstr("no object"));
  const std::string huge(8, '\xFF');
  EXPECT_FALSE(SafetensorsFile::parse(as_bytes(huge), "huge").has_value());
}

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "homeport_st_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
  }
  void write_shards() const {
    write("1.safetensors", file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", floats({1})));
    write("2.safetensors", file_of(R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", floats({2})));
  }
  [[nodiscard]] std::string index_error(const std::string& weights) const {
    write("model.safetensors.index.json", R"({"weight_map":)" + weights + "}");
    const auto files = open_safetensors_folder(path_);
    return files ? "accepted" : files.error().message;
  }
  std::filesystem::path path_;
};

TEST_F(Folder, OneFile) {
  EXPECT_FALSE(open_safetensors_folder(path_).has_value());
  write("model.safetensors", honest());
  const auto files = open_safetensors_folder(path_);
  ASSERT_TRUE(files.has_value()) << files.error().message;
  EXPECT_NE(files->at(0).find("a"), nullptr);
}

TEST_F(Folder, IndexAndShardsMustAgree) {
  write_shards();
  EXPECT_EQ(index_error(R"({"a":"1.safetensors","b":"2.safetensors"})"), "accepted");
  EXPECT_EQ(open_safetensors_folder(path_)->size(), 2U);
  EXPECT_THAT(index_error(R"({"a":"2.safetensors","b":"2.safetensors"})"), HasSubstr("'a'"));
  EXPECT_THAT(index_error(R"({"a":"1.safetensors","c":"1.safetensors"})"), HasSubstr("'c' is not in"));
  EXPECT_THAT(index_error(R"({"b":"1.safetensors"})"), HasSubstr("the index says 'nothing'"));
  EXPECT_THAT(index_error(R"({"a":"../1.safetensors"})"), HasSubstr("plain file name"));
  EXPECT_THAT(index_error(R"({"a":"missing.safetensors"})"), HasSubstr("missing.safetensors"));
  EXPECT_THAT(index_error("[]"), HasSubstr("weight_map"));
}

}  // namespace
}  // namespace hp

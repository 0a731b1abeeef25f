#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <utility>
#include <vector>

#include "model/checkpoint.h"

namespace hp {
namespace {

using ::testing::HasSubstr;

/// A folder of two shards with one llama layer of hidden size 8; its members may break it first.
class CheckpointFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "homeport_hf_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(path_); }

  void write(const std::string& config_more = "") {
    std::ofstream(path_ / "config.json")
        << R"({"architectures":["LlamaForCausalLM"],"num_hidden_layers":1,"hidden_size":8,"intermediate_size":16,)"
        << R"("vocab_size":10,"max_position_embeddings":64,"num_attention_heads":2,"tie_word_embeddings":true)"
        << config_more << "}";
    std::string map;
    for (std::size_t shard = 0; shard < 2; ++shard) map += write_shard(shard);
    map.pop_back();
    std::ofstream(path_ / "model.safetensors.index.json") << R"({"weight_map":{)" << map << "}}";
  }

  /// Every second tensor; returns its lines of the index.
  std::string write_shard(std::size_t shard) const {
    const std::string name = fmt::format("model-{}.safetensors", shard);
    std::string header, map, data;
    for (std::size_t i = shard; i < tensors_.size(); i += 2) {
      const auto& [tensor, dims] = tensors_[i];
      const std::size_t begin = data.size();
      data.resize(begin + 4 * static_cast<std::size_t>(dims[0] * (dims.size() > 1 ? dims[1] : 1)));
      header += fmt::format(R"({}"{}":{{"dtype":"F32","shape":[{}],"data_offsets":[{},{}]}})",
                            header.empty() ? "" : ",", tensor, fmt::join(dims, ","), begin, data.size());
      map += fmt::format(R"("{}":"{}",)", tensor, name);
    }
    header = "{" + header + "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const std::uint64_t length = header.size();
    std::ofstream out(path_ / name, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), sizeof(length));
    out << header << data;
    return map;
  }

  [[nodiscard]] std::string error() const {
    const auto checkpoint = Checkpoint::open(path_);
    return checkpoint ? "accepted" : checkpoint.error().message;
  }

  std::filesystem::path path_;
  std::vector<std::pair<std::string, std::vector<int>>> tensors_ = {
      {"model.embed_tokens.weight", {10, 8}},
      {"model.norm.weight", {8}},
      {"model.layers.0.input_layernorm.weight", {8}},
      {"model.layers.0.post_attention_layernorm.weight", {8}},
      {"model.layers.0.self_attn.q_proj.weight", {8, 8}},
      {"model.layers.0.self_attn.k_proj.weight", {8, 8}},
      {"model.layers.0.self_attn.v_proj.weight", {8, 8}},
      {"model.layers.0.self_attn.o_proj.weight", {8, 8}},
      {"model.layers.0.self_attn.rotary_emb.inv_freq", {2}},
      {"model.layers.0.mlp.gate_proj.weight", {16, 8}},
      {"model.layers.0.mlp.up_proj.weight", {16, 8}},
      {"model.layers.0.mlp.down_proj.weight", {8, 16}}};
};

TEST_F(CheckpointFolder, OpensShards) {
  write();
  const auto checkpoint = Checkpoint::open(path_);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  EXPECT_TRUE(checkpoint->config().tied_embeddings);
  EXPECT_EQ(checkpoint->config().rope.layout, RopeLayout::halves);
  EXPECT_EQ(checkpoint->tensors().size(), 11U);
  EXPECT_EQ(checkpoint->folder(), path_);
  EXPECT_EQ(checkpoint->gguf(), nullptr);
  const NamedTensor* down = checkpoint->find("blk.0.ffn_down.weight");
  ASSERT_NE(down, nullptr);
  EXPECT_EQ(down->view.shape, Shape({8, 16}));
  checkpoint->release(*down);
  EXPECT_EQ(static_cast<int>(down->view.data[0]), 0);  // released pages come back from the file
}

TEST_F(CheckpointFolder, FingerprintFollowsConfiguration) {
  write();
  const auto plain = Checkpoint::open(path_);
  const auto again = Checkpoint::open(path_);
  write(R"(,"rope_theta":500000.0)");
  const auto other = Checkpoint::open(path_);
  ASSERT_TRUE(plain && again && other);
  EXPECT_EQ(plain->fingerprint(), again->fingerprint());
  EXPECT_NE(plain->fingerprint(), other->fingerprint());
}

TEST_F(CheckpointFolder, ErrorsNameWhatIsWrong) {
  EXPECT_THAT(error(), HasSubstr("config.json"));
  write(R"(,"tie_word_embeddings":false)");
  EXPECT_THAT(error(), HasSubstr("no tensor 'output.weight', expected [10, 8]"));
  write(R"(,"intermediate_size":24)");
  EXPECT_THAT(error(), HasSubstr("tensor 'blk.0.ffn_gate.weight' is [16, 8], expected [24, 8]"));
  write();
  std::filesystem::remove(path_ / "model-1.safetensors");
  EXPECT_THAT(error(), HasSubstr("model-1.safetensors"));
}

}  // namespace
}  // namespace hp

#include "model/checkpoint.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "model/footprint.h"
#include "model/test_tiny_model.h"

namespace hp {
namespace {

TEST(Checkpoint, OpensEveryDenseArchitecture) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    TinyModel tiny{.architecture = architecture,
                   .bias = std::string(architecture) == "qwen2",
                   .qk_norm = std::string(architecture) == "qwen3",
                   .tied = std::string(architecture) == "qwen2"};
    const auto path = tiny.write("checkpoint");
    const auto checkpoint = Checkpoint::open(path);
    ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
    const ModelConfig& c = checkpoint->config();
    EXPECT_EQ(to_string(c.architecture), architecture);
    EXPECT_EQ(c.head_dim, 16);
    EXPECT_EQ(c.vocab, 128);
    EXPECT_EQ(c.qkv_bias, tiny.bias);
    EXPECT_EQ(c.qk_norm, tiny.qk_norm);
    EXPECT_EQ(c.tied_embeddings, tiny.tied);
    EXPECT_EQ(c.rope.layout, c.architecture == Architecture::llama ? RopeLayout::interleaved : RopeLayout::halves);
    ASSERT_NE(checkpoint->find("blk.1.attn_k.weight"), nullptr);
    EXPECT_EQ(checkpoint->find("blk.1.attn_k.weight")->view.shape, Shape({32, 64}));
    EXPECT_EQ(checkpoint->fingerprint().size(), 32U);
    std::filesystem::remove(path);
  }
}

TEST(Checkpoint, YarnAttentionFactorMultiplies) {
  // R1-0528-Qwen3-8B: the file's factor cancels YaRN's own 0.1 ln 4 + 1.
  const auto path = TinyModel{.yarn_factor = 4.0F, .yarn_attn_factor = 0.87824886F}.write("yarn");
  const auto checkpoint = Checkpoint::open(path);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  const RopeConfig& rope = checkpoint->config().rope;
  EXPECT_EQ(rope.scaling, RopeConfig::Scaling::yarn);
  EXPECT_EQ(rope.original_context, 2048);
  EXPECT_NEAR(rope.attention_factor.value_or(0.0F), 1.0F, 1e-6F);
  std::filesystem::remove(path);
}

TEST(Checkpoint, NamesTensorExpectedAndFound) {
  const auto missing = TinyModel{.skip_tensor = "blk.1.ffn_up.weight"}.write("missing");
  const auto shape = TinyModel{.misshape_tensor = "blk.0.attn_q.weight"}.write("shape");
  const auto key = TinyModel{.skip_key = "block_count"}.write("key");
  const auto message = [](const std::filesystem::path& p) { return Checkpoint::open(p).error().message; };
  EXPECT_NE(message(missing).find("no tensor 'blk.1.ffn_up.weight', expected [96, 64]"), std::string::npos)
      << message(missing);
  EXPECT_NE(message(shape).find("'blk.0.attn_q.weight' is [65, 64], expected [64, 64]"), std::string::npos)
      << message(shape);
  EXPECT_NE(message(key).find("llama.block_count"), std::string::npos) << message(key);
  for (const auto& p : {missing, shape, key}) std::filesystem::remove(p);
}

TEST(Checkpoint, RefusesConfigurationsThatLie) {
  const TinyModel lies[] = {{.layers = 3'000'000'000U}, {.heads = 0}, {.kv_heads = 3}, {.architecture = "mamba"}};
  for (const TinyModel& lie : lies) {
    TinyModel written = lie;
    if (written.heads == 0 || written.layers > 100) {
      // The tensors themselves stay small: only the metadata lies.
      written.heads = 4;
      written.layers = 2;
    }
    std::string bytes = written.bytes();
    const auto patch = [&bytes](const std::string& key, std::uint32_t value) {
      const auto at = bytes.find(key) + key.size() + 4;
      std::memcpy(bytes.data() + at, &value, 4);
    };
    if (lie.heads == 0) patch("attention.head_count", 0);
    if (lie.layers > 100) patch("block_count", lie.layers);
    const auto path = std::filesystem::temp_directory_path() / "homeport_lie.gguf";
    std::ofstream(path, std::ios::binary) << bytes;
    const auto checkpoint = Checkpoint::open(path);
    ASSERT_FALSE(checkpoint.has_value());
    EXPECT_NE(checkpoint.error().message.find("homeport_lie.gguf"), std::string::npos) << checkpoint.error().message;
    std::filesystem::remove(path);
  }
}

TEST(Checkpoint, OpensTheDefaultModel) {
  const char* home = std::getenv("HOME");
  const auto path =
      std::filesystem::path(home != nullptr ? home : "") / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const auto checkpoint = Checkpoint::open(path);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  const ModelConfig& c = checkpoint->config();
  EXPECT_EQ(c.layers, 30);
  EXPECT_EQ(c.hidden, 576);
  EXPECT_EQ(c.heads, 9);
  EXPECT_EQ(c.kv_heads, 3);
  EXPECT_EQ(c.ffn, 1536);
  EXPECT_EQ(c.vocab, 49152);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ(kv_bytes_per_token(c, DType::f16), 30U * 3 * 128 * 2);
}

TEST(Footprint, KvBytesPerTokenOfThePublishedModels) {
  // DeepSeek-V2-Lite 31,104 and V3 70,272 bytes in bf16; LLM 67B 389,120 (configuration arithmetic).
  ModelConfig lite{.layers = 27}, v3{.layers = 61},
      dense{.layers = 95, .kv_heads = 8, .head_dim = 128, .v_head_dim = 128};
  lite.mla = v3.mla = MlaConfig{.kv_lora_rank = 512, .qk_nope_dim = 128, .qk_rope_dim = 64, .v_dim = 128};
  EXPECT_EQ(kv_bytes_per_token(lite, DType::bf16), 31'104U);
  EXPECT_EQ(kv_bytes_per_token(v3, DType::bf16), 70'272U);
  EXPECT_EQ(kv_bytes_per_token(dense, DType::bf16), 389'120U);
  EXPECT_EQ(kv_bytes_per_token(lite, DType::i8), 27U * (576 + 2 * 9));  // a scale for each 64 of 576
  EXPECT_EQ(kv_bytes_per_token(dense, DType::i8), 95U * 8 * (256 + 2 * 4));
  EXPECT_EQ(kv_bytes_per_token(lite, DType::f8_e4m3), 27U * (512 + 2 * 64));  // rotary keys in bf16
  EXPECT_EQ(kv_bytes_per_token(dense, DType::f8_e4m3), 95U * 8 * 256);
  EXPECT_EQ(kv_bytes_per_block(lite, {.dtype = DType::bf16, .block_tokens = 16}), 31'104U * 16);
}

}  // namespace
}  // namespace hp

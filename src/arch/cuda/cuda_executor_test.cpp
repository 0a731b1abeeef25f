// The product's side of the GPU, against a plug-in made of plain functions: what is loaded, how steps are passed, what
// is refused. The kernels themselves are tested on a GPU by cuda/gpu_test.cu.
#include "arch/cuda/cuda_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "arch/cuda/plugin.h"
#include "model/test_tiny_model.h"

namespace hp {
namespace {

using cuda::DeviceInfo;
using cuda::ModelOptions;
using cuda::ModelShape;
using cuda::PluginApi;
using cuda::PluginSequence;
using cuda::WeightRole;
using cuda::WeightRows;

/// What the functions below saw; one model at a time.
struct Seen {
  ModelShape shape;
  ModelOptions options;
  std::map<std::pair<WeightRole, int>, int> rows;  ///< rows given per role and layer
  std::vector<std::uint16_t> embedding;
  std::vector<PluginSequence> batch;
  std::vector<float> logits;
  std::vector<std::int32_t> best;
  bool finished = false, destroyed = false;
  std::int32_t answer = 7;  ///< the token of every row
  int fetched = 0;          ///< calls for logits after a step
  std::string refuse;       ///< what step() answers
};
Seen* seen = nullptr;

void* create(int, const ModelShape* shape, const ModelOptions* options, const float*, const float*, char*,
             std::size_t) {
  seen->shape = *shape;
  seen->options = *options;
  return seen;
}
int load(void*, const WeightRows* rows) {
  seen->rows[{rows->role, rows->layer}] += rows->rows;
  if (rows->role == WeightRole::embedding) {
    const auto* data = static_cast<const std::uint16_t*>(rows->data);
    seen->embedding.insert(seen->embedding.end(), data, data + rows->rows * rows->columns);
  }
  return 0;
}
int finish(void*) {
  seen->finished = true;
  return 0;
}
void info(void*, DeviceInfo* out) {
  std::strcpy(out->name, "test GPU");
  out->blocks = 10, out->block_tokens = 16, out->block_bytes = 1024;
}
int step(void*, const PluginSequence* batch, int sequences, const float** logits, const std::int32_t** drawn) {
  if (!seen->refuse.empty()) return 1;
  seen->batch.assign(batch, batch + sequences);
  seen->best.assign(static_cast<std::size_t>(sequences), seen->answer);
  int rows = 0;
  for (const PluginSequence& s : seen->batch) rows += s.logit_rows;
  seen->logits.assign(static_cast<std::size_t>(rows * seen->shape.vocab), 0.5F);
  if (logits != nullptr) *logits = seen->logits.data();
  if (drawn != nullptr) *drawn = seen->best.data();
  return 0;
}
const char* error(void*) {
  return seen->refuse.c_str();
}
void destroy(void*) {
  seen->destroyed = true;
}

int last_logits(void*, const float** logits) {
  ++seen->fetched;
  *logits = seen->logits.data();
  return 0;
}

const PluginApi kApi = {cuda::kPluginVersion, nullptr, create, load, nullptr, finish, info, step,
                        last_logits,          error,   destroy};

class CudaExecutorTest : public testing::Test {
 protected:
  CudaExecutorTest() { seen = &seen_; }
  Checkpoint open(const TinyModel& tiny) {
    path_ = std::filesystem::path(testing::TempDir()) / "cuda_executor.gguf";
    std::ofstream(path_, std::ios::binary) << tiny.bytes();
    auto checkpoint = Checkpoint::open(path_);
    EXPECT_TRUE(checkpoint) << checkpoint.error().message;
    return *std::move(checkpoint);
  }
  Seen seen_;
  std::filesystem::path path_;
};

TEST_F(CudaExecutorTest, EveryWeightIsGivenWholeInBf16) {
  const TinyModel tiny;
  const Checkpoint checkpoint = open(tiny);
  {
    const auto executor = make_cuda_executor(checkpoint, {}, kApi);
    ASSERT_TRUE(executor) << executor.error().message;
    EXPECT_TRUE(seen_.finished);
    const int head = 16, d = 64, kv = 32;
    EXPECT_EQ(seen_.shape.head_dim, head);
    EXPECT_TRUE(seen_.shape.rope_interleaved);  // GGUF's llama layout
    for (int layer = 0; layer < 2; ++layer) {
      EXPECT_EQ((seen_.rows[{WeightRole::q, layer}]), d);
      EXPECT_EQ((seen_.rows[{WeightRole::k, layer}]), kv);
      EXPECT_EQ((seen_.rows[{WeightRole::v, layer}]), kv);
      EXPECT_EQ((seen_.rows[{WeightRole::gate, layer}]), 96);
      EXPECT_EQ((seen_.rows[{WeightRole::down, layer}]), d);
      EXPECT_EQ((seen_.rows[{WeightRole::ffn_norm, layer}]), d);
    }
    EXPECT_EQ((seen_.rows[{WeightRole::head, 0}]), 128);
    const auto* source = reinterpret_cast<const float*>(checkpoint.find("token_embd.weight")->view.data);
    ASSERT_EQ(seen_.embedding.size(), 128U * 64U);
    for (std::size_t i = 0; i < seen_.embedding.size(); ++i) {
      float value = 0;
      const std::uint32_t bits = std::uint32_t{seen_.embedding[i]} << 16;
      std::memcpy(&value, &bits, 4);
      ASSERT_LE(std::abs(value - source[i]), std::abs(source[i]) / 256.0F) << i;
    }
  }
  EXPECT_TRUE(seen_.destroyed);
}

/// A stream begun with one form of the weights goes on with that form only.
TEST_F(CudaExecutorTest, TheFormOfTheWeightsIsPartOfTheirIdentity) {
  const Checkpoint checkpoint = open({});
  std::set<std::string> identities;
  for (const char* name : {"bf16", "fp8", "int8", "int4"}) {
    const auto weights = gpu_weights_from(name);
    ASSERT_TRUE(weights) << name;
    EXPECT_EQ(to_string(*weights), name);
    const auto executor = make_cuda_executor(checkpoint, {.weights = *weights}, kApi);
    ASSERT_TRUE(executor) << executor.error().message;
    EXPECT_THAT((*executor)->info().device, testing::HasSubstr(name));
    identities.insert((*executor)->info().weights);
  }
  EXPECT_EQ(identities.size(), 4U);
  EXPECT_FALSE(gpu_weights_from("int2"));
}

TEST_F(CudaExecutorTest, TheKvTypeIsPartOfTheIdentity) {
  const Checkpoint checkpoint = open({});
  const auto plain = make_cuda_executor(checkpoint, {}, kApi);
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_EQ(seen_.options.kv, cuda::KvType::bf16);
  const std::string identity = (*plain)->info().weights;
  const auto narrow = make_cuda_executor(checkpoint, {.kv = cuda::KvType::fp8}, kApi);
  ASSERT_TRUE(narrow) << narrow.error().message;
  EXPECT_EQ(seen_.options.kv, cuda::KvType::fp8);
  EXPECT_NE((*narrow)->info().weights, identity);
}

TEST_F(CudaExecutorTest, WithoutBatchInvarianceItsWeightsAreOthers) {
  const Checkpoint checkpoint = open({});
  const auto strict = make_cuda_executor(checkpoint, {}, kApi);
  ASSERT_TRUE(strict) << strict.error().message;
  EXPECT_TRUE(seen_.options.invariant);
  const auto free = make_cuda_executor(checkpoint, {.batch_invariant = false}, kApi);
  ASSERT_TRUE(free) << free.error().message;
  EXPECT_FALSE(seen_.options.invariant);
  EXPECT_EQ((*free)->info().weights, (*strict)->info().weights + "-free");
  EXPECT_THAT((*free)->info().device, testing::HasSubstr("not batch-invariant"));
}

TEST_F(CudaExecutorTest, StepsPassThroughAndErrorsKeepTheirSentence) {
  const Checkpoint checkpoint = open({});
  const auto executor = make_cuda_executor(checkpoint, {}, kApi);
  ASSERT_TRUE(executor) << executor.error().message;
  EXPECT_EQ((*executor)->info().blocks, 10);
  const std::vector<TokenId> tokens{1, 2, 3};
  const std::vector<BlockId> blocks{BlockId{4}};
  const SequenceStep sequence{.tokens = tokens, .position = 5, .blocks = blocks, .logit_rows = 2};
  const auto logits = (*executor)->step({&sequence, 1});
  ASSERT_TRUE(logits);
  EXPECT_EQ(logits->rows, 2);
  EXPECT_EQ(logits->values.size(), 2U * 128U);
  ASSERT_EQ(seen_.batch.size(), 1U);
  EXPECT_EQ(seen_.batch[0].count, 3);
  EXPECT_EQ(seen_.batch[0].position, 5);
  EXPECT_EQ(seen_.batch[0].blocks[0], 4);
  // Only the best is wanted: the logits stay on the GPU.
  SequenceStep greedy = sequence;
  greedy.best_suffices = true;
  greedy.logit_rows = 1;
  const auto best = (*executor)->step({&greedy, 1});
  ASSERT_TRUE(best);
  EXPECT_TRUE(best->values.empty());
  EXPECT_THAT(best->best, testing::ElementsAre(7));
  seen_.refuse = "GPU 0: a step failed: the launch timed out";
  const auto lost = (*executor)->step({&sequence, 1});
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code, ErrorCode::unavailable);
  EXPECT_THAT(lost.error().message, testing::HasSubstr("the launch timed out"));
}

TEST_F(CudaExecutorTest, DrawsAreMadeOnTheDeviceAndWhatItLeavesComesWithLogits) {
  const Checkpoint checkpoint = open({});
  const auto executor = make_cuda_executor(checkpoint, {}, kApi);
  ASSERT_TRUE(executor) << executor.error().message;
  const std::vector<TokenId> tokens{1};
  const std::vector<BlockId> blocks{BlockId{4}};
  const SequenceStep sequence{
      .tokens = tokens,
      .position = 5,
      .blocks = blocks,
      .logit_rows = 1,
      .draw = TokenDraw{.temperature = 0.5F, .top_p = 0.9F, .min_p = 0.1F, .choice = 2, .seed = 77, .position = 6}};
  const auto drawn = (*executor)->step({&sequence, 1});
  ASSERT_TRUE(drawn);
  EXPECT_THAT(drawn->best, testing::ElementsAre(7));
  EXPECT_TRUE(drawn->values.empty());
  EXPECT_EQ(seen_.fetched, 0);
  const cuda::PluginDraw& draw = seen_.batch[0].draw;
  EXPECT_EQ(draw.temperature, 0.5F);
  EXPECT_EQ(draw.top_p, 0.9F);
  EXPECT_EQ(draw.min_p, 0.1F);
  EXPECT_EQ(draw.choice, 2U);
  EXPECT_EQ(draw.seed, 77U);
  EXPECT_EQ(draw.position, 6U);
  seen_.answer = kUndecided;
  const auto left = (*executor)->step({&sequence, 1});
  ASSERT_TRUE(left);
  EXPECT_THAT(left->best, testing::ElementsAre(kUndecided));
  EXPECT_EQ(left->values.size(), 128U);
  EXPECT_EQ(seen_.fetched, 1);
}

TEST(CudaSupports, WhatTheGpuCannotDoIsRefusedWithAReason) {
  ModelConfig config;
  config.name = "v3";
  config.rope.layout = RopeLayout::interleaved;
  config.mla = MlaConfig{.q_lora_rank = 0, .kv_lora_rank = 512, .qk_nope_dim = 128, .qk_rope_dim = 64, .v_dim = 128};
  EXPECT_TRUE(cuda_supports(config));
  config.mla->q_lora_rank = 1536;
  EXPECT_TRUE(cuda_supports(config));
  config.mla->q_lora_rank = 1500;
  const Status status = cuda_supports(config);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, testing::HasSubstr("v3"));
  EXPECT_THAT(status.error().message, testing::HasSubstr("1500"));
  config.mla->q_lora_rank = 0;
  config.mla->kv_lora_rank = 256;
  EXPECT_FALSE(cuda_supports(config));
}

TEST(CudaPlugin, AMissingFileIsNamed) {
  const auto api = cuda::load_plugin("/nonexistent/libhomeport_cuda.so");
  ASSERT_FALSE(api);
  EXPECT_THAT(api.error().message, testing::HasSubstr("/nonexistent/libhomeport_cuda.so"));
}

}  // namespace
}  // namespace hp

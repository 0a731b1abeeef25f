// What a GPU is handed of a checkpoint, byte for byte: every stored form as bf16, as e4m3 or as whole numbers with
// their scales, against what the file means as floats.
#include "arch/cuda/weight_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "arch/cuda/cuda_executor.h"
#include "model/test_folder.h"
#include "model/test_tiny_model.h"

namespace hp {
namespace {

using cuda::WeightRole;
using cuda::WeightRows;
using cuda::WeightType;
using Kind = FolderForm::Kind;

/// A matrix as the device would hold it.
struct Held {
  int rows = 0, columns = 0;
  std::vector<std::uint16_t> bf16;
  std::vector<std::uint8_t> fp8, codes;
  std::vector<float> scales, floats;
};

cuda::ModelOptions asked;                          ///< of the model
std::map<std::tuple<WeightRole, int>, Held> held;  ///< by role and expert: one layer, one model at a time

int take(void*, const WeightRows* w) {
  Held& h = held[{w->role, w->expert}];
  const auto count = static_cast<std::size_t>(w->rows) * static_cast<std::size_t>(w->columns);
  const int last_edge = h.rows % 128;
  h.columns = w->columns;
  if (w->columns == 0) {
    const auto* in = static_cast<const float*>(w->data);
    h.floats.assign(in, in + w->rows);
  } else if (w->scales != nullptr && asked.weights != WeightType::fp8) {
    const auto* in = static_cast<const std::uint8_t*>(w->data);
    h.codes.insert(h.codes.end(), in, in + count * (asked.weights == WeightType::int4 ? 4 : 8) / 8);
    h.scales.insert(h.scales.end(), w->scales, w->scales + w->rows * ((w->columns + asked.group - 1) / asked.group));
  } else if (w->scales != nullptr) {
    const auto* in = static_cast<const std::uint8_t*>(w->data);
    h.fp8.insert(h.fp8.end(), in, in + count);
    const int blocks = (w->rows + 127) / 128 * ((w->columns + 127) / 128);
    h.scales.insert(h.scales.end(), w->scales, w->scales + blocks);
  } else {
    const auto* in = static_cast<const std::uint16_t*>(w->data);
    h.bf16.insert(h.bf16.end(), in, in + count);
  }
  EXPECT_EQ(w->first, w->columns == 0 ? 0 : h.rows) << "pieces follow each other";
  const bool by_head = w->role == WeightRole::k_b || w->role == WeightRole::v_b;
  EXPECT_TRUE(by_head || last_edge == 0) << "a piece begins inside a block";
  h.rows += w->rows;
  return 0;
}

const cuda::PluginApi kDevice = {
    cuda::kPluginVersion,
    nullptr,
    [](int, const cuda::ModelShape*, const cuda::ModelOptions* options, const float*, const float*, char*,
       std::size_t) -> void* {
      held.clear();
      asked = *options;
      return &held;
    },
    take,
    nullptr,
    [](void*) { return 0; },
    [](void*, cuda::DeviceInfo* out) { out->blocks = 1, out->block_tokens = 16; },
    nullptr,
    nullptr,
    [](void*) { return ""; },
    [](void*) {},
};

void load(const Checkpoint& checkpoint, WeightType weights) {
  const auto executor = make_cuda_executor(checkpoint, {.weights = weights}, kDevice);
  ASSERT_TRUE(executor) << executor.error().message;
}

/// Every element is the nearest bf16 of what the file means; ties to even.
void expect_bf16(const Held& h, const std::vector<float>& meaning, const std::string& name) {
  ASSERT_EQ(h.bf16.size(), meaning.size()) << name;
  for (std::size_t i = 0; i < meaning.size(); ++i) ASSERT_EQ(h.bf16[i], f32_to_bf16(meaning[i])) << name << " " << i;
}

struct Role {
  WeightRole role;
  const char* name;
};
constexpr Role kMatrices[] = {{WeightRole::q, "self_attn.q_proj"}, {WeightRole::k, "self_attn.k_proj"},
                              {WeightRole::v, "self_attn.v_proj"}, {WeightRole::o, "self_attn.o_proj"},
                              {WeightRole::gate, "mlp.gate_proj"}, {WeightRole::up, "mlp.up_proj"},
                              {WeightRole::down, "mlp.down_proj"}};

struct Case {
  const char* name;
  FolderForm form;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class HandedOver : public testing::TestWithParam<Case> {};

TEST_P(HandedOver, AsBf16) {
  TestFolder folder;
  const bool blocks = GetParam().form.kind == Kind::fp8;
  const auto checkpoint = folder.open_llama(GetParam().form, blocks ? 200 : 384);  // 200: a last block of 72
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  load(*checkpoint, WeightType::bf16);
  for (const Role& r : kMatrices)
    expect_bf16(held.at({r.role, 0}), folder.meaning(std::string("model.layers.0.") + r.name), r.name);
  expect_bf16(held.at({WeightRole::embedding, 0}), folder.meaning("model.embed_tokens"), "embedding");
  expect_bf16(held.at({WeightRole::head, 0}), folder.meaning("lm_head"), "head");
  EXPECT_EQ(held.at({WeightRole::ffn_norm, 0}).floats.size(), 256U);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, HandedOver,
    testing::Values(Case{"bf16", {}}, Case{"fp8 scales f32", {.kind = Kind::fp8}},
                    Case{"fp8 scales bf16", {.kind = Kind::fp8, .scales = DType::bf16}},
                    Case{"fp8 scales e8m0", {.kind = Kind::fp8, .scales = DType::f8_e8m0}},
                    Case{"int4 groups of 32", {.kind = Kind::int4, .scales = DType::bf16, .group = 32}},
                    Case{"int4 groups of 64", {.kind = Kind::int4, .group = 64, .zero_points = true}},
                    Case{"int4 groups of 128", {.kind = Kind::int4, .scales = DType::bf16, .zero_points = true}},
                    Case{"int8 groups of 128", {.kind = Kind::int8, .scales = DType::bf16}},
                    Case{"int8 groups of 32", {.kind = Kind::int8, .group = 32}}));

class Fp8AsItIs : public testing::TestWithParam<DType> {};

TEST_P(Fp8AsItIs, CodesAndScalesMeanWhatTheFileMeans) {
  TestFolder folder;
  const auto checkpoint = folder.open_llama({.kind = Kind::fp8, .scales = GetParam()}, 200);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  load(*checkpoint, WeightType::fp8);
  for (const Role& r : kMatrices) {
    const Held& h = held.at({r.role, 0});
    const std::vector<float>& meaning = folder.meaning(std::string("model.layers.0.") + r.name);
    ASSERT_EQ(h.fp8.size(), meaning.size()) << r.name;
    EXPECT_TRUE(h.bf16.empty()) << r.name;
    const auto columns = static_cast<std::size_t>(h.columns), across = (columns + 127) / 128;
    for (std::size_t i = 0; i < meaning.size(); ++i) {
      const float scale = h.scales[i / columns / 128 * across + i % columns / 128];
      ASSERT_EQ(f8_e4m3_to_f32(h.fp8[i]) * scale, meaning[i]) << r.name << " " << i;
    }
  }
  // The tables stay bf16.
  expect_bf16(held.at({WeightRole::head, 0}), folder.meaning("lm_head"), "head");
}

INSTANTIATE_TEST_SUITE_P(Scales, Fp8AsItIs, testing::Values(DType::f32, DType::bf16, DType::f8_e8m0));

/// What a held code means.
float int_value(const Held& h, std::size_t i) {
  const auto columns = static_cast<std::size_t>(h.columns), group = static_cast<std::size_t>(asked.group);
  const float scale = h.scales[i / columns * ((columns + group - 1) / group) + i % columns / group];
  const int code = asked.weights == WeightType::int8 ? static_cast<std::int8_t>(h.codes[i])
                                                     : (h.codes[i / 2] >> (i % 2 * 4) & 15) - 8;
  return scale * static_cast<float>(code);
}

struct IntCase {
  const char* name;
  FolderForm form;
  WeightType weights;
  int group;  ///< that the model is asked to have
};
void PrintTo(const IntCase& c, std::ostream* out) {
  *out << c.name;
}

class IntsAsTheyAre : public testing::TestWithParam<IntCase> {};

TEST_P(IntsAsTheyAre, CodesAndScalesMeanWhatTheFileMeans) {
  TestFolder folder;
  const auto checkpoint = folder.open_llama(GetParam().form, 384);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  load(*checkpoint, GetParam().weights);
  EXPECT_EQ(asked.group, GetParam().group);
  for (const Role& r : kMatrices) {
    const Held& h = held.at({r.role, 0});
    const std::vector<float>& meaning = folder.meaning(std::string("model.layers.0.") + r.name);
    EXPECT_TRUE(h.bf16.empty()) << r.name;
    ASSERT_EQ(h.codes.size(), meaning.size() / (GetParam().weights == WeightType::int4 ? 2 : 1)) << r.name;
    for (std::size_t i = 0; i < meaning.size(); ++i) ASSERT_EQ(int_value(h, i), meaning[i]) << r.name << " " << i;
  }
  expect_bf16(held.at({WeightRole::head, 0}), folder.meaning("lm_head"), "head");
}

INSTANTIATE_TEST_SUITE_P(
    Forms, IntsAsTheyAre,
    testing::Values(
        IntCase{"int4 by 32", {.kind = Kind::int4, .scales = DType::bf16, .group = 32}, WeightType::int4, 32},
        IntCase{"int4 by 64", {.kind = Kind::int4, .group = 64}, WeightType::int4, 64},
        IntCase{"int4 by 128", {.kind = Kind::int4, .scales = DType::bf16}, WeightType::int4, 128},
        IntCase{"int8 by 32", {.kind = Kind::int8, .group = 32}, WeightType::int8, 32},
        IntCase{"int8 by 128", {.kind = Kind::int8, .scales = DType::bf16}, WeightType::int8, 128},
        IntCase{"int4 as int8", {.kind = Kind::int4, .group = 64}, WeightType::int8, 64},
        IntCase{"int4 with zero points as int8", {.kind = Kind::int4, .zero_points = true}, WeightType::int8, 128}));

/// Numbers of more bits, or with zero points, are rounded on the device.
TEST(HandOver, WhatIsNotWholeNumbersOfSoManyBitsComesAsBf16) {
  for (const FolderForm& form : {FolderForm{.kind = Kind::int8, .group = 32},
                                 FolderForm{.kind = Kind::int4, .group = 32, .zero_points = true}, FolderForm{}}) {
    TestFolder folder;
    const auto checkpoint = folder.open_llama(form, 384);
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    load(*checkpoint, WeightType::int4);
    EXPECT_EQ(asked.group, 128);
    for (const Role& r : kMatrices)
      expect_bf16(held.at({r.role, 0}), folder.meaning(std::string("model.layers.0.") + r.name), r.name);
  }
}

/// GGUF's Q4_0 keeps the second half of a block in the upper nibbles; both types have a half-precision scale.
TEST(IntRows, OfGgufBlocks) {
  for (const DType dtype : {DType::q4_0, DType::q8_0}) {
    constexpr std::int32_t kRows = 3, kColumns = 96;
    const std::size_t bytes = storage_bytes(dtype, kRows * kColumns), block = traits(dtype).block_bytes;
    std::vector<std::byte> data(bytes);
    std::mt19937 random(7);
    for (std::byte& b : data) b = static_cast<std::byte>(random() % 256);
    for (std::size_t at = 0; at < bytes; at += block) {
      const std::uint16_t scale = f32_to_f16(0.001F * static_cast<float>(1 + random() % 100));
      std::memcpy(data.data() + at, &scale, sizeof scale);
    }
    const NamedTensor tensor{.name = "blk.0.attn_q.weight",
                             .view = {.dtype = dtype, .shape = {kRows, kColumns}, .data = data.data()}};
    TestFolder folder;
    const auto any = folder.open_llama({}, 256);
    ASSERT_TRUE(any) << any.error().message;
    WeightRowReader reader(*any);
    const int bits = dtype == DType::q4_0 ? 4 : 8;
    EXPECT_EQ(reader.int_group(tensor, bits), 32);
    EXPECT_EQ(reader.int_group(tensor, 4), dtype == DType::q4_0 ? 32 : 0);
    const std::span<const float> meaning = reader.floats(tensor, 1, 2, kColumns);
    const std::vector<float> wanted(meaning.begin(), meaning.end());
    const IntRows rows = reader.int_rows(tensor, 1, 2, bits, 32);
    Held h{.rows = 2, .columns = kColumns};
    h.codes.assign(rows.codes.begin(), rows.codes.end()), h.scales.assign(rows.scales.begin(), rows.scales.end());
    asked.group = 32, asked.weights = bits == 4 ? WeightType::int4 : WeightType::int8;
    ASSERT_EQ(h.codes.size(), wanted.size() * static_cast<std::size_t>(bits) / 8);
    for (std::size_t i = 0; i < wanted.size(); ++i) ASSERT_EQ(int_value(h, i), wanted[i]) << i;
  }
}

/// Groups of four bits on a model of fp8 weights come as bf16: the device quantizes them.
TEST(HandOver, GroupsComeAsBf16ToAModelOfFp8Weights) {
  TestFolder folder;
  const auto checkpoint = folder.open_llama({.kind = Kind::int4, .group = 64}, 384);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  load(*checkpoint, WeightType::fp8);
  for (const Role& r : kMatrices)
    expect_bf16(held.at({r.role, 0}), folder.meaning(std::string("model.layers.0.") + r.name), r.name);
}

/// DeepSeek's kv_b is handed over in two halves, keys transposed, and its experts one by one.
TEST(HandOver, LatentAttentionsHalvesAndExpertsOfAnFp8Checkpoint) {
  constexpr int kHidden = 128, kHeads = 2, kNope = 64, kV = 64, kRank = 512, kExperts = 3, kFfn = 128;
  const FolderForm fp8{.kind = Kind::fp8};
  TestFolder folder;
  folder.matrix("model.embed_tokens", 96, kHidden, {});
  folder.matrix("lm_head", 96, kHidden, {});
  const std::string p = "model.layers.0.";
  for (const std::string& norm : {std::string("model.norm"), p + "input_layernorm", p + "post_attention_layernorm"})
    folder.floats(norm + ".weight", kHidden, 1.0F, 0.1F);
  folder.floats(p + "self_attn.kv_a_layernorm.weight", kRank, 1.0F, 0.1F);
  folder.matrix(p + "self_attn.q_proj", kHeads * (kNope + 64), kHidden, fp8);
  folder.matrix(p + "self_attn.kv_a_proj_with_mqa", kRank + 64, kHidden, fp8);
  folder.matrix(p + "self_attn.kv_b_proj", kHeads * (kNope + kV), kRank, fp8);
  folder.matrix(p + "self_attn.o_proj", kHidden, kHeads * kV, fp8);
  folder.matrix(p + "mlp.gate", kExperts, kHidden, {});
  for (int e = 0; e < kExperts; ++e) {
    const std::string expert = p + "mlp.experts." + std::to_string(e) + ".";
    folder.matrix(expert + "gate_proj", kFfn, kHidden, fp8);
    folder.matrix(expert + "up_proj", kFfn, kHidden, fp8);
    folder.matrix(expert + "down_proj", kHidden, kFfn, fp8);
  }
  const auto checkpoint = folder.open(
      R"({"architectures":["DeepseekV2ForCausalLM"],"model_type":"deepseek_v2","num_hidden_layers":1,)"
      R"("hidden_size":128,"intermediate_size":256,"vocab_size":96,"max_position_embeddings":64,)"
      R"("num_attention_heads":2,"num_key_value_heads":2,"q_lora_rank":null,"kv_lora_rank":512,)"
      R"("qk_nope_head_dim":64,"qk_rope_head_dim":64,"v_head_dim":64,"n_routed_experts":3,"n_shared_experts":null,)"
      R"("num_experts_per_tok":2,"moe_intermediate_size":128,"first_k_dense_replace":0,"moe_layer_freq":1,)"
      R"("topk_method":"greedy","n_group":1,"topk_group":1,"scoring_func":"softmax","norm_topk_prob":false,)"
      R"("routed_scaling_factor":1.0,"rope_theta":10000)" +
      TestFolder::quantization(fp8) + "}");
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  load(*checkpoint, WeightType::fp8);
  const std::vector<float>& kv_b = folder.meaning(p + "self_attn.kv_b_proj");
  const Held &keys = held.at({WeightRole::k_b, 0}), &values = held.at({WeightRole::v_b, 0});
  ASSERT_EQ(keys.bf16.size(), std::size_t{kHeads * kRank * kNope});
  ASSERT_EQ(values.bf16.size(), std::size_t{kHeads * kV * kRank});
  for (int h = 0; h < kHeads; ++h)
    for (int d = 0; d < kRank; ++d) {
      for (int n = 0; n < kNope; ++n)
        ASSERT_EQ(keys.bf16[static_cast<std::size_t>((h * kRank + d) * kNope + n)],
                  f32_to_bf16(kv_b[static_cast<std::size_t>((h * (kNope + kV) + n) * kRank + d)]));
      for (int v = 0; v < kV; ++v)
        ASSERT_EQ(values.bf16[static_cast<std::size_t>((h * kV + v) * kRank + d)],
                  f32_to_bf16(kv_b[static_cast<std::size_t>((h * (kNope + kV) + kNope + v) * kRank + d)]));
    }
  for (int e = 0; e < kExperts; ++e) {
    const Held& down = held.at({WeightRole::expert_down, e});
    const std::vector<float>& meaning = folder.meaning(p + "mlp.experts." + std::to_string(e) + ".down_proj");
    ASSERT_EQ(down.fp8.size(), meaning.size());
    for (std::size_t i = 0; i < meaning.size(); ++i)
      ASSERT_EQ(f8_e4m3_to_f32(down.fp8[i]) * down.scales[0], meaning[i]) << e << " " << i;
  }
  expect_bf16(held.at({WeightRole::router, 0}), folder.meaning(p + "mlp.gate"), "router");
}

/// A piece holds whole blocks of rows and about 32 MiB; a matrix of very wide rows still goes 128 rows at a time.
TEST(HandOver, PiecesAreWholeBlocksOfRows) {
  EXPECT_EQ(piece_rows(std::size_t{8192} * 2), 2048);
  EXPECT_EQ(piece_rows(std::size_t{22016}), 1408);  // 1,524 rows fit
  EXPECT_EQ(piece_rows(std::size_t{1} << 20), 128);
  EXPECT_EQ(piece_rows(2), (1 << 24));
}

}  // namespace
}  // namespace hp

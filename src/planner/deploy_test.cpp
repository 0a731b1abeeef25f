#include "planner/deploy.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace hp::planner {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

/// A fixed sizing, so that goldens change with templates only, not with prices or calibrations.
std::pair<SizeRequest, Configuration> fixed(bool gpu) {
  SizeRequest request{.model_name = "deepseek-r1-distill-qwen-32b",
                      .model = *catalog_model("deepseek-r1-distill-qwen-32b")};
  request.inputs.requests_per_second = 4;
  Configuration c{.format = gpu ? "bf16" : "q8_0",
                  .tensor_parallel = 1,
                  .replicas = 2,
                  .servers = gpu ? 1.0 : 3.0,
                  .devices = 3,
                  .chunk_tokens = 1024,
                  .own_nodes = true};
  c.device.name = gpu ? "NVIDIA H200 SXM 141 GB" : "2x AMD EPYC 9654";
  c.device.kind = gpu ? Accelerator::Kind::gpu : Accelerator::Kind::cpu;
  c.memory = {.available = 1.3e11,
              .weights = 6.55e10,
              .step = 1e8,
              .runtime = 1.5e9,
              .kv_per_token = 262144,
              .kv_tokens = 200000};
  c.latency.sequences_p99 = 30;
  c.capacity_rps = 5;
  return {request, c};
}

class Deploy : public ::testing::TestWithParam<std::pair<const char*, bool>> {};

// HP_UPDATE_GOLDEN=1 writes the files anew; tests/deploy checks them against the schemas.
TEST_P(Deploy, FilesAreTheGoldenOnes) {
  const auto [target, gpu] = GetParam();
  const auto [request, configuration] = fixed(gpu);
  const auto files = deploy_files(*deploy_target_from(target), request, configuration, {});
  ASSERT_TRUE(files.has_value()) << files.error().message;
  const fs::path folder =
      fs::path(HP_SOURCE_DIR) / "tests/deploy/golden" / (std::string(target) + (gpu ? "-gpu" : "-cpu"));
  const bool update = std::getenv("HP_UPDATE_GOLDEN") != nullptr;
  if (update) fs::create_directories(folder);
  for (const DeployFile& file : *files) {
    EXPECT_EQ(file.content.find("{{"), std::string::npos) << file.path;
    if (update) std::ofstream(folder / file.path, std::ios::binary) << file.content;
    EXPECT_EQ(file.content, read(folder / file.path))
        << file.path << ": HP_UPDATE_GOLDEN=1 planner_test writes the goldens";
  }
  std::size_t golden = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++golden;
  EXPECT_EQ(golden, files->size());
}

INSTANTIATE_TEST_SUITE_P(Targets, Deploy,
                         ::testing::Values(std::pair{"kubernetes", true}, std::pair{"kubernetes", false},
                                           std::pair{"systemd", true}, std::pair{"systemd", false},
                                           std::pair{"compose", true}, std::pair{"compose", false}));

TEST(DeployInput, NothingBreaksOutOfAFile) {
  const auto [request, configuration] = fixed(true);
  const auto error = [&, &r = request, &c = configuration](DeployOptions o) {
    const auto files = deploy_files(DeployTarget::kubernetes, r, c, o);
    return files ? std::string("accepted") : files.error().message;
  };
  EXPECT_EQ(error({.name = "Home Port"}), "name: expected letters, digits and '-', found 'Home Port'");
  EXPECT_NE(error({.name = "HOME"}).find("lower-case"), std::string::npos);
  EXPECT_NE(error({.image = "x\nprivileged: true"}).find("image: expected"), std::string::npos);
  EXPECT_NE(error({.model_path = "/m; rm -rf"}).find("model_path: expected"), std::string::npos);
  EXPECT_NE(error({.model_name = "a\"b"}).find("model_name: expected"), std::string::npos);
  EXPECT_EQ(error({.name = "a", .image = "registry.example/homeport:1.0"}), "accepted");
}

TEST(DeployInput, WhatNodesCannotRunIsRefusedWithTheNearest) {
  auto [request, configuration] = fixed(true);
  configuration.own_nodes = false;
  configuration.tensor_parallel = 4;
  const auto files = deploy_files(DeployTarget::systemd, request, configuration, {});
  ASSERT_FALSE(files.has_value());
  EXPECT_NE(files.error().message.find("4 x NVIDIA H200"), std::string::npos);
  EXPECT_NE(files.error().message.find("kind=openai"), std::string::npos);
}

TEST(DeployTemplate, SectionsAndValues) {
  EXPECT_EQ(fill_template("a{{x}}\n{{#y}}\nyes\n{{/y}}\n{{^y}}\nno\n{{/y}}\nend", {{"x", "1"}, {"y", ""}}),
            "a1\nno\nend");
  EXPECT_EQ(fill_template("{{#y}}\n{{y}}{{^y}}never{{/y}}\n{{/y}}\n", {{"y", "z"}}), "z");
}

}  // namespace
}  // namespace hp::planner

// The frame: exit codes, suggestions, help of every command, sources of configuration.
#include "cli/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "cli/node_flags.h"

namespace hp::cli {
namespace {

using testing::HasSubstr;

struct Outcome {
  int code = 0;
  std::string out, err;
};

Outcome run(const std::vector<std::string>& arguments, std::vector<const char*> environment = {}) {
  environment.push_back(nullptr);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int code = run_program(arguments, environment.data());
  return {code, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

TEST(Program, SaysItsVersionAndHelp) {
  EXPECT_THAT(run({"--version"}).out, HasSubstr("homeport " + std::string(kVersion)));
  const Outcome help = run({"--help"});
  EXPECT_EQ(help.code, kExitOk);
  for (const Command& command : all_commands()) EXPECT_THAT(help.out, HasSubstr(std::string(command.name)));
  const Outcome nothing = run({});
  EXPECT_EQ(nothing.code, kExitUsage);
  EXPECT_THAT(nothing.err, HasSubstr("Usage: homeport COMMAND"));
}

TEST(Program, EveryCommandHasHelpWithExamples) {
  for (const Command& command : all_commands()) {
    for (const Outcome& help : {run({std::string(command.name), "--help"}), run({"help", std::string(command.name)})}) {
      EXPECT_EQ(help.code, kExitOk) << command.name;
      EXPECT_THAT(help.out, testing::ContainsRegex("Examples:\n.*homeport ")) << command.name;
      EXPECT_THAT(help.out, HasSubstr(std::string(command.summary)));
      EXPECT_EQ(help.err, "");
    }
  }
}

TEST(Program, EverySubcommandHasHelpWithExamples) {
  for (const Command& command : all_commands()) {
    for (const Command& sub : command.subcommands) {
      ASSERT_TRUE(sub.name.starts_with(command.name)) << sub.name;
      const Outcome help =
          run({std::string(command.name), std::string(sub.name.substr(command.name.size() + 1)), "--help"});
      EXPECT_EQ(help.code, kExitOk) << sub.name;
      EXPECT_THAT(help.out, testing::ContainsRegex("Examples:\n.*homeport ")) << sub.name;
    }
  }
}

TEST(Program, WrongFirstWordsGetASuggestion) {
  struct Case {
    std::vector<std::string> line;
    std::string said;
  };
  const Case cases[] = {
      {{"serv"}, "no command 'serv'; did you mean 'serve'?"},
      {{"xyzzy"}, "no command 'xyzzy'\n"},
      {{"--model", "x"}, "expected a command before '--model'"},
      {{"serve", "--prot", "1"}, "unknown flag '--prot'; did you mean '--port'?"},
      {{"serve", "--modl=x"}, "unknown flag '--modl'; did you mean '--model'?"},
      {{"serve", "model.gguf", "more"}, "unexpected argument 'more'"},
      {{"serve", "--port", "70000"}, "--port: expected an integer from 0 to 65535, found '70000'"},
      {{"serve", "--port"}, "--port"},
      {{"inspect"}, "model is required"},
      {{"completion", "csh"}, "expected bash, zsh or fish"},
  };
  for (const Case& c : cases) {
    const Outcome outcome = run(c.line);
    EXPECT_EQ(outcome.code, kExitUsage) << c.said;
    EXPECT_THAT(outcome.err, HasSubstr(c.said));
    EXPECT_THAT(outcome.err, HasSubstr("--help'"));
    EXPECT_EQ(outcome.out, "");
  }
}

TEST(Program, FailuresEndWithOne) {
  const Outcome outcome = run({"inspect", "/nowhere/model.gguf"});
  EXPECT_EQ(outcome.code, kExitFailure);
  EXPECT_THAT(outcome.err, HasSubstr("/nowhere/model.gguf"));
}

TEST(Program, FileAndEnvironmentAreCheckedBeforeAnythingStarts) {
  const auto path = std::filesystem::temp_directory_path() / "homeport_program_test.toml";
  std::ofstream(path) << "[server]\nprot = 9\n";
  const Outcome file = run({"serve", "--config", path.string()});
  EXPECT_EQ(file.code, kExitUsage);
  EXPECT_THAT(file.err, HasSubstr("unknown key 'server.prot'; did you mean 'server.port'?"));
  const std::string variable = "HOMEPORT_CONFIG=" + path.string();
  EXPECT_THAT(run({"serve"}, {variable.c_str()}).err, HasSubstr("server.prot"));
  std::filesystem::remove(path);
  EXPECT_THAT(run({"serve"}, {"HOMEPORT_SERVER_PORT=x"}).err, HasSubstr("HOMEPORT_SERVER_PORT"));
  EXPECT_THAT(run({"serve", "--log-level", "loud"}).err, HasSubstr("found 'loud'"));
  const Outcome stranger = run({"serve", "--model", "/nowhere"}, {"HOMEPORT_SERVER_PROT=1"});
  EXPECT_EQ(stranger.code, kExitFailure);
  EXPECT_THAT(stranger.err, HasSubstr("did you mean HOMEPORT_SERVER_PORT?"));
  EXPECT_THAT(stranger.err, HasSubstr("there is no model at /nowhere"));
}

TEST(Program, CompletionKnowsEveryCommandAndFlag) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Outcome outcome = run({"completion", shell});
    EXPECT_EQ(outcome.code, kExitOk);
    for (const Command& command : all_commands()) EXPECT_THAT(outcome.out, HasSubstr(std::string(command.name)));
    EXPECT_THAT(outcome.out, HasSubstr("max-body-bytes"));
  }
}

TEST(Program, DoctorDescribesThisMachine) {
  const Outcome text = run({"doctor"});
  EXPECT_THAT(text.out, HasSubstr("kernels: ref"));
  const auto json = JsonValue::parse(run({"doctor", "--json"}).out);
  ASSERT_TRUE(json.has_value());
  EXPECT_GT(json->find("memory_bytes")->as_int().value_or(0), 0);
  EXPECT_EQ(json->find("isas")->as_array()->front().as_string()->compare("ref"), 0);
}

TEST(NodeFlags, CarryEveryKey) {
  const auto model = std::filesystem::temp_directory_path() / "flags-test.Q4.gguf";
  const auto keys = std::filesystem::temp_directory_path() / "flags-test.keys";
  std::ofstream(model) << "x";
  std::ofstream(keys) << "# ours\n sk-one \n\nsk-two\n";
  Config config;
  for (const auto& [flag, value] : std::vector<std::pair<std::string, std::string>>{{"model", model.string()},
                                                                                    {"port", "9"},
                                                                                    {"kv-mib", "3"},
                                                                                    {"drain-ms", "5"},
                                                                                    {"journal", "true"},
                                                                                    {"api-keys-file", keys.string()},
                                                                                    {"context", "77"},
                                                                                    {"max-waiting", "2"}})
    ASSERT_TRUE(config.set_flag(flag, value).has_value()) << flag;
  const auto options = node_options(config);
  ASSERT_TRUE(options.has_value()) << options.error().message;
  EXPECT_EQ(options->port, 9);
  EXPECT_EQ(options->model.kv_bytes, std::size_t{3} << 20);
  EXPECT_EQ(options->model.context, 77);
  EXPECT_EQ(options->drain_time.count(), 5);
  EXPECT_TRUE(options->journal);
  EXPECT_EQ(options->max_waiting, 2);
  EXPECT_EQ(options->api_keys, (std::vector<std::string>{"sk-one", "sk-two"}));
  EXPECT_EQ(options->served_names, (std::vector<std::string>{"flags-test.Q4", "default"}));
  std::ofstream(keys) << "# none\n";
  EXPECT_FALSE(node_options(config).has_value()) << "an empty file must not open the server";
  std::filesystem::remove(model);
  std::filesystem::remove(keys);
}

}  // namespace
}  // namespace hp::cli

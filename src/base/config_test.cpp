#include "base/config.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

namespace hp {
namespace {

constexpr std::array kTestKeys{
    ConfigKey{"server.port", "port", ConfigType::integer, "8000", "", "Port.", 0, 65535},
    ConfigKey{"server.host", "host", ConfigType::text, "127.0.0.1", "", "Address."},
    ConfigKey{"engine.share", "share", ConfigType::number, "0.5", "", "Share.", 0, 1},
    ConfigKey{"engine.prefix_cache", "prefix-cache", ConfigType::boolean, "true", "", "Cache."},
};

TEST(Config, DefaultsAreTheTables) {
  const Config config(kTestKeys);
  EXPECT_EQ(config.integer("server.port"), 8000);
  EXPECT_EQ(config.text("server.host"), "127.0.0.1");
  EXPECT_EQ(config.number("engine.share"), 0.5);
  EXPECT_TRUE(config.boolean("engine.prefix_cache"));
  EXPECT_EQ(config.source("server.port"), ConfigSource::default_value);
}

TEST(Config, FlagsBeatEnvironmentBeatsFileInAnyOrder) {
  const char* environment[] = {"PATH=/bin", "HOMEPORT_SERVER_PORT=2", "HOMEPORT_SERVER_HOST=env", nullptr};
  constexpr std::string_view kFile = "[server]\nport = 1\nhost = 'file'\n[engine]\nshare = 1\nprefix_cache = false\n";
  for (const bool file_first : {true, false}) {
    Config config(kTestKeys);
    if (file_first) {
      ASSERT_TRUE(config.read_toml(kFile, "f").has_value());
    }
    ASSERT_TRUE(config.set_flag("port", "3").has_value());
    ASSERT_TRUE(config.read_environment(environment).has_value());
    if (!file_first) {
      ASSERT_TRUE(config.read_toml(kFile, "f").has_value());
    }
    EXPECT_EQ(config.integer("server.port"), 3);
    EXPECT_EQ(config.text("server.host"), "env");
    EXPECT_EQ(config.number("engine.share"), 1.0);
    EXPECT_FALSE(config.boolean("engine.prefix_cache"));
    EXPECT_EQ(config.source("server.port"), ConfigSource::flag);
    EXPECT_EQ(config.source("server.host"), ConfigSource::environment);
    EXPECT_EQ(config.source("engine.share"), ConfigSource::file);
  }
}

TEST(Config, ErrorsNameThePlaceAndSuggest) {
  const auto message = [](std::string_view toml) {
    const Status status = Config(kTestKeys).read_toml(toml, "home.toml");
    return status.has_value() ? std::string("accepted") : status.error().message;
  };
  EXPECT_EQ(message("[server]\nprot = 1"), "home.toml:2: unknown key 'server.prot'; did you mean 'server.port'?");
  EXPECT_EQ(message("[server]\n\nport = 70000"),
            "home.toml:3: server.port: expected an integer from 0 to 65535, found 70000");
  EXPECT_EQ(message("[server]\nport = '1'"),
            "home.toml:2: server.port: expected an integer from 0 to 65535, found a value of type string");
  EXPECT_NE(message("zebra_crossing_everything = 1").find("unknown key"), std::string::npos);
  EXPECT_EQ(message("zebra_crossing_everything = 1").find("did you mean"), std::string::npos);
  EXPECT_NE(message("[server\n").find("home.toml:1: not valid TOML"), std::string::npos);
  EXPECT_NE(message("server = 1").find("unknown key"), std::string::npos);
  EXPECT_NE(message("[server.port]\nx = 1").find("expected an integer"), std::string::npos);
  EXPECT_NE(message("[engine]\nshare = nan").find("expected a number"), std::string::npos);
}

TEST(Config, RefusesBadFlagsAndVariables) {
  Config config(kTestKeys);
  for (const char* text : {"", "x", "1x", " 1", "-1", "65536", "1.5", "99999999999999999999"})
    EXPECT_FALSE(config.set_flag("port", text).has_value()) << text;
  EXPECT_FALSE(config.set_flag("share", "nan").has_value());
  EXPECT_FALSE(config.set_flag("prefix-cache", "maybe").has_value());
  const Status unknown = config.set_flag("prot", "1");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().message.find("did you mean 'port'?"), std::string::npos);
  const char* broken[] = {"HOMEPORT_SERVER_HOST=kept?", "HOMEPORT_SERVER_PORT=x", nullptr};
  const auto refused = config.read_environment(broken);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "HOMEPORT_SERVER_PORT: expected an integer from 0 to 65535, found 'x'");
  EXPECT_EQ(config.text("server.host"), "127.0.0.1");  // nothing of a bad source is kept
  const char* stranger[] = {"HOMEPORT_SERVER_PROT=1", "HOMEPORT_", nullptr};
  const auto named = config.read_environment(stranger);
  ASSERT_TRUE(named.has_value());
  EXPECT_EQ(*named, (std::vector<std::string>{"HOMEPORT_SERVER_PROT", "HOMEPORT_"}));
}

TEST(Config, FilesAreReadAndBounded) {
  const auto path = std::filesystem::temp_directory_path() / "homeport_config_test.toml";
  Config config(kTestKeys);
  std::ofstream(path) << "[server]\nport = 9\n";
  ASSERT_TRUE(config.read_file(path).has_value());
  EXPECT_EQ(config.integer("server.port"), 9);
  std::ofstream(path) << std::string(Config::kMaxFileBytes + 1, '\n');
  EXPECT_FALSE(config.read_file(path).has_value());
  std::filesystem::remove(path);
  const Status missing = config.read_file(path);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
}

// The annotated file with its comment marks taken from the "key = value" lines must give back every default.
TEST(Config, AnnotatedFileHoldsEveryDefault) {
  std::string uncommented;
  std::istringstream lines(annotated_config());
  std::size_t assignments = 0;
  for (std::string line; std::getline(lines, line);) {
    const bool assignment = line.starts_with("# ") && line.find(" = ") != std::string::npos;
    assignments += assignment ? 1U : 0U;
    uncommented += (assignment ? line.substr(2) : line) + "\n";
  }
  EXPECT_EQ(assignments, config_keys().size());
  Config config;
  const Status status = config.read_toml(uncommented, "annotated");
  ASSERT_TRUE(status.has_value()) << status.error().message;
  for (const ConfigKey& key : config_keys()) EXPECT_EQ(config.source(key.name), ConfigSource::file) << key.name;
  EXPECT_TRUE(Config().read_toml(annotated_config(), "annotated").has_value());
}

TEST(Config, TableIsConsistent) {
  std::set<std::string> names, flags, variables;
  const std::string table = config_markdown();
  for (const ConfigKey& key : config_keys()) {
    EXPECT_TRUE(names.emplace(key.name).second) << key.name;
    EXPECT_TRUE(flags.emplace(key.flag).second) << key.flag;
    EXPECT_TRUE(variables.insert(key.environment_name()).second) << key.name;
    EXPECT_NE(key.name.find('.'), std::string_view::npos) << key.name;
    EXPECT_FALSE(key.help.empty()) << key.name;
    EXPECT_NE(table.find(fmt::format("| `{}` | `--{}` |", key.name, key.flag)), std::string::npos) << key.name;
  }
}

// With HOMEPORT_UPDATE_DOCS set, writes the files instead of comparing them.
TEST(Config, ManualAndExampleFileAreUpToDate) {
  const std::filesystem::path docs = std::filesystem::path(HP_SOURCE_DIR) / "docs";
  const std::string manual =
      "# Configuration\n\nGenerated from `src/base/config_keys.cpp`. Flags beat the environment, the environment beats "
      "the TOML file (`--config FILE`, `HOMEPORT_CONFIG`, or `~/.homeport/homeport.toml`).\n\n" +
      config_markdown();
  const std::pair<const char*, std::string> files[] = {{"configuration.md", manual},
                                                       {"homeport.example.toml", annotated_config()}};
  for (const auto& [name, text] : files) {
    if (std::getenv("HOMEPORT_UPDATE_DOCS") != nullptr) std::ofstream(docs / name) << text;
    std::ostringstream found;
    found << std::ifstream(docs / name).rdbuf();
    EXPECT_EQ(found.str(), text)
        << "docs/" << name << " is stale: HOMEPORT_UPDATE_DOCS=1 build/dev/base_test --gtest_filter='Config.Manual*'";
  }
}

TEST(Config, NearestName) {
  constexpr std::array<std::string_view, 3> kNames{"port", "host", "threads"};
  EXPECT_EQ(nearest_name("thread", kNames), "threads");
  EXPECT_EQ(nearest_name("prot", kNames), "port");
  EXPECT_EQ(nearest_name("completely-else", kNames), "");
}

}  // namespace
}  // namespace hp

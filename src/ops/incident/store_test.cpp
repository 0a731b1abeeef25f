#include "ops/incident/store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace hp::ops {
namespace {

struct Folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("hp-store-" + std::to_string(::getpid()));
  Folder() { std::filesystem::create_directories(path); }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string file() const { return (path / "incidents.db").string(); }
};

IncidentView incident(std::int64_t id, IncidentState state = IncidentState::open) {
  IncidentView v;
  v.id = id;
  v.started_ms = id;
  v.state = state;
  v.rule = "node_down";
  v.instance = "node'1\"; DROP TABLE incident; --";
  v.zh = "节点无响应";
  return v;
}

TimelineEntry entry(const std::string& text) {
  TimelineEntry e;
  e.at_ms = 5;
  e.kind = "action";
  e.text = text;
  return e;
}

TEST(IncidentStore, WhatWasWrittenIsThereInTheNextProcess) {
  const Folder folder;
  {
    IncidentStore store(folder.file());
    store.save(incident(1000));
    store.append(1000, entry("one"));
    store.append(1000, entry("two"));
    store.save(incident(1000, IncidentState::closed));
    store.save(incident(2000));
    store.set_undo(2000, {{.incident_id = 2000, .action = "return_traffic", .target = "node1", .argument = ""}});
    store.audit({.at_ms = 7,
                 .who = "ann",
                 .action = "restart_node",
                 .target = "node1",
                 .argument = {},
                 .text = "ok",
                 .ok = true});
    store.flush();
  }
  IncidentStore store(folder.file());
  const auto left = store.left_behind();
  EXPECT_EQ(left.open_incidents, (std::vector<std::int64_t>{2000}));
  ASSERT_EQ(left.undo.size(), 1u);
  EXPECT_EQ(left.undo[0].action, "return_traffic");
  const auto all = store.incidents({});
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].id, 2000) << "newest first";
  EXPECT_EQ(all[1].state, IncidentState::closed);
  ASSERT_EQ(all[1].timeline.size(), 2u);
  EXPECT_EQ(all[1].timeline[1].text, "two");
  EXPECT_EQ(all[1].instance, incident(1).instance) << "a name is never a command";
  EXPECT_EQ(store.audits(0, 10).at(0).who, "ann");
}

TEST(IncidentStore, AFullDiskLosesNothing) {
  const Folder folder;
  IncidentStore store(folder.file());
  store.save(incident(1000));
  store.flush();
  ASSERT_TRUE(store.ok());
  store.limit_bytes(4096);  // SQLite allows no page more than there are: SQLITE_FULL, as on a full disk
  for (int i = 0; i < 200; ++i) store.append(1000, entry(std::string(2'000, 'x') + std::to_string(i)));
  store.flush();
  EXPECT_FALSE(store.ok());
  EXPECT_NE(store.error().find("full"), std::string::npos) << store.error();
  const auto seen = store.incidents({});
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].timeline.size(), 200u) << "memory answers";
  EXPECT_GT(store.waiting(), 0u);
  store.limit_bytes(1 << 30);
  for (int i = 0; i < 1'200 && !store.ok(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  store.flush();
  EXPECT_TRUE(store.ok()) << store.error();
  EXPECT_EQ(store.dropped(), 0u);
}

TEST(IncidentStore, AFileThatIsNoDatabaseIsMovedAside) {
  const Folder folder;
  std::ofstream(folder.file()) << std::string(8192, 'z');
  IncidentStore store(folder.file());
  store.save(incident(1));
  store.flush();
  EXPECT_TRUE(store.ok()) << store.error();
  EXPECT_TRUE(std::filesystem::exists(folder.file() + ".broken"));
}

TEST(IncidentStore, WithoutAFileMemoryIsAll) {
  IncidentStore store("");
  store.save(incident(1));
  store.append(1, entry("x"));
  EXPECT_EQ(store.incidents({}).at(0).timeline.size(), 1u);
  EXPECT_TRUE(store.ok());
}

}  // namespace
}  // namespace hp::ops

#include "base/cpu_count.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <thread>

namespace hp {
namespace {

class CpuCount : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(root_ / "cpu"); }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const char* file, const char* text) const { std::ofstream(root_ / file) << text; }
  const std::filesystem::path root_ =
      std::filesystem::path(testing::TempDir()) / ("hp_cgroup_" + std::to_string(::getpid()));
  const int here_ = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
};

TEST_F(CpuCount, IsTheContainersShareRoundedUp) {
  EXPECT_EQ(usable_cpus(root_), here_) << "no files";
  write("cpu.max", "150000 100000\n");
  EXPECT_EQ(container_cpus(root_), 1.5);
  EXPECT_EQ(usable_cpus(root_), std::min(2, here_));
  write("cpu.max", "1000 100000\n");
  EXPECT_EQ(usable_cpus(root_), 1);
  write("cpu.max", "100000000 100000\n");
  EXPECT_EQ(usable_cpus(root_), here_) << "more than there are";
  write("cpu.max", "max 100000\n");
  EXPECT_EQ(container_cpus(root_), 0);
  EXPECT_EQ(usable_cpus(root_), here_);
}

TEST_F(CpuCount, ReadsTheFirstVersionsFilesToo) {
  write("cpu/cpu.cfs_period_us", "100000\n");
  write("cpu/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(container_cpus(root_), 0);
  write("cpu/cpu.cfs_quota_us", "100000\n");
  EXPECT_EQ(usable_cpus(root_), 1);
}

}  // namespace
}  // namespace hp

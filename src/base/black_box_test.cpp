#include "base/black_box.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

namespace hp {
namespace {

TEST(BlackBox, TheLastLinesOfThisProcessInOrder) {
  ASSERT_TRUE(black_box::open());
  for (int i = 0; i < 20'000; ++i) black_box::append(fmt::format("line {} of many", i));
  const auto log = black_box::read_log(::getpid());
  ASSERT_TRUE(log) << log.error().message;
  EXPECT_TRUE(log->ends_with("line 19998 of many\nline 19999 of many\n"));
  EXPECT_TRUE(log->starts_with("line ")) << log->substr(0, 30);
  EXPECT_GT(log->size(), 200'000U);
  EXPECT_LE(log->size(), 256U << 10);
}

[[gnu::noinline]] void a_function_to_be_found(std::atomic<bool>& stop) {
  while (!stop) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(BlackBox, EveryThreadTellsWhereItIs) {
  ASSERT_TRUE(black_box::open());
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&] { a_function_to_be_found(stop); });
  for (int round = 0; round < 3; ++round) {
    const auto stacks = black_box::ask_stacks(::getpid(), std::chrono::seconds(20));
    ASSERT_TRUE(stacks) << stacks.error().message;
    std::size_t found = 0;
    for (std::size_t at = stacks->find("\nthread "); at != std::string::npos; at = stacks->find("\nthread ", at + 1))
      ++found;
    EXPECT_EQ(found, 4U) << *stacks;
    EXPECT_EQ(stacks->find("did not answer"), std::string::npos) << *stacks;
    EXPECT_NE(stacks->find("nanosleep"), std::string::npos) << *stacks;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

TEST(BlackBox, AStoppedProcessKeepsItsLogReadableAndIsNotWaitedForLong) {
  ASSERT_TRUE(black_box::open());
  const pid_t self = ::getpid(), child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  black_box::append("before the stop");
  ::kill(child, SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  const auto log = black_box::read_log(child);
  EXPECT_TRUE(log && log->ends_with("before the stop\n")) << "a fork shares the box of its parent " << self;
  const auto stacks = black_box::ask_stacks(child, std::chrono::milliseconds(50));
  ASSERT_FALSE(stacks);
  EXPECT_EQ(stacks.error().code, ErrorCode::deadline_exceeded);
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  EXPECT_FALSE(black_box::read_log(child));
  EXPECT_FALSE(black_box::ask_stacks(1'999'999, std::chrono::milliseconds(1)));
}

}  // namespace
}  // namespace hp

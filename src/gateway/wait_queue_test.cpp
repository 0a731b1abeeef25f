#include "gateway/wait_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace hp::gateway {
namespace {
using namespace std::chrono_literals;

WaitEntry entry(std::string tenant, Priority priority = Priority::normal, std::int64_t cost = 100,
                std::string model = "m") {
  return {.model = std::move(model), .tenant = std::move(tenant), .priority = priority, .cost_tokens = cost};
}

// Serves until nobody waits; who got a turn, in order.
std::string drain(WaitQueue& queue, std::map<WaitQueue::Ticket, char>& names) {
  std::string order;
  TimePoint now{};
  while (!names.empty()) {
    const auto next = std::ranges::find_if(names, [&](const auto& n) { return queue.is_next(n.first); });
    EXPECT_NE(next, names.end()) << "somebody is always next";
    if (next == names.end()) break;
    order += next->second;
    queue.served(next->first, now += 1s);
    names.erase(next);
  }
  EXPECT_EQ(queue.size(), 0u);
  return order;
}

TEST(WaitQueue, OneTenantIsServedInOrder) {
  WaitQueue queue;
  std::map<WaitQueue::Ticket, char> names;
  for (const char name : std::string("abcd")) names[queue.join(entry("t"))] = name;
  EXPECT_EQ(drain(queue, names), "abcd");
  EXPECT_TRUE(queue.empty("m"));
}

TEST(WaitQueue, ATenantWithManyRequestsDoesNotKeepAnotherWaiting) {
  WaitQueue queue;
  std::map<WaitQueue::Ticket, char> names;
  for (int i = 0; i < 6; ++i) names[queue.join(entry("many"))] = 'm';
  names[queue.join(entry("few"))] = 'f';
  names[queue.join(entry("few"))] = 'f';
  EXPECT_EQ(drain(queue, names), "mfmfmmmm");
}

TEST(WaitQueue, FairnessIsByTokensNotByRequests) {
  WaitQueue queue;
  std::map<WaitQueue::Ticket, char> names;
  for (int i = 0; i < 3; ++i) names[queue.join(entry("large", Priority::normal, 1000))] = 'L';
  for (int i = 0; i < 8; ++i) names[queue.join(entry("small", Priority::normal, 250))] = 's';
  EXPECT_EQ(drain(queue, names), "LssssLssssL");
}

TEST(WaitQueue, IdleTimeEarnsNothing) {
  WaitQueue queue;
  std::map<WaitQueue::Ticket, char> names;
  for (int i = 0; i < 4; ++i) names[queue.join(entry("a"))] = 'a';
  TimePoint now{};
  for (int i = 0; i < 3; ++i) {
    queue.served(names.begin()->first, now += 1s);
    names.erase(names.begin());
  }
  for (int i = 0; i < 3; ++i) names[queue.join(entry("late"))] = 'l';
  names[queue.join(entry("a"))] = 'a';
  EXPECT_EQ(drain(queue, names), "lalla") << "in turns, and not all of the late one's first";
}

TEST(WaitQueue, HigherClassesFirstAndLowerOnesDoNotStarve) {
  WaitQueue queue;
  std::map<WaitQueue::Ticket, char> names;
  names[queue.join(entry("t", Priority::low))] = 'l';
  names[queue.join(entry("t", Priority::normal))] = 'n';
  for (int i = 0; i < 20; ++i) names[queue.join(entry("u", Priority::high))] = 'h';
  EXPECT_EQ(drain(queue, names), "hhhhhhhhnhhhhhhhhlhhhh");
}

TEST(WaitQueue, ModelsDoNotWaitForEachOther) {
  WaitQueue queue;
  const auto a = queue.join(entry("t", Priority::normal, 1, "a")), b = queue.join(entry("t", Priority::normal, 1, "b"));
  EXPECT_TRUE(queue.is_next(a) && queue.is_next(b));
  queue.leave(a);
  queue.leave(a);
  EXPECT_TRUE(queue.empty("a"));
  EXPECT_FALSE(queue.is_next(a));
}

TEST(WaitQueue, TheWaitIsReckonedFromThePace) {
  WaitQueue queue;
  std::vector<WaitQueue::Ticket> tickets;
  for (int i = 0; i < 10; ++i) tickets.push_back(queue.join(entry("t")));
  EXPECT_FALSE(queue.estimate(entry("t"))) << "no pace yet";
  TimePoint now{};
  for (int i = 0; i < 4; ++i) queue.served(tickets[static_cast<std::size_t>(i)], now += 2s);
  EXPECT_EQ(queue.estimate(entry("t")), Duration(14s)) << "six before it, two seconds each";
  EXPECT_EQ(queue.estimate(entry("t", Priority::high)), Duration(2s));
  EXPECT_EQ(queue.estimate(entry("other")), Duration(4s)) << "its fair turn comes after one of t's";
  EXPECT_EQ(queue.estimate(entry("t", Priority::low)), Duration(14s));
}

TEST(WaitQueue, TheNextOfEveryModelIsWoken) {
  WaitQueue queue;
  std::string woken;
  const auto join = [&](const char* name, const char* model) {
    auto e = entry("t", Priority::normal, 1, model);
    e.wake = [&woken, name] { woken += name; };
    return queue.join(std::move(e));
  };
  const auto first = join("1", "a");
  join("2", "a");
  join("3", "b");
  queue.wake_next();
  EXPECT_EQ(woken, "13");
  queue.leave(first);
  queue.wake_next();
  EXPECT_EQ(woken, "1323");
}

}  // namespace
}  // namespace hp::gateway

// Random operations on the pool and the prefix cache against a naive model: no block is shared by sequences with
// different contents, references add up, and nothing leaks.
#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace hp {
namespace {

constexpr std::int32_t kBlock = 2;

struct Held {
  std::vector<TokenId> tokens;
  std::vector<BlockId> blocks;
};

TEST(PrefixCache, RandomOperationsAgreeWithANaiveModel) {
  KvPool pool(24);
  PrefixCache cache(pool, kBlock, true);
  std::mt19937 random(7);  // NOLINT: the same operations every time
  std::vector<Held> live;
  std::map<std::int32_t, std::vector<TokenId>> contents;  // block -> all tokens up to its end, as its writer had them
  std::int64_t hits = 0, full = 0;
  for (int op = 0; op < 100000; ++op) {
    if (random() % 2 == 0 && live.size() < 8) {
      Held h;
      const auto n = 1 + random() % 6;
      for (std::size_t i = 0; i < n * kBlock; ++i) h.tokens.push_back(static_cast<TokenId>(random() % 2));
      h.blocks = cache.match(h.tokens, static_cast<std::int32_t>(n));
      for (std::size_t i = 0; i < h.blocks.size(); ++i) {
        const std::vector<TokenId> want(h.tokens.begin(), h.tokens.begin() + static_cast<int>(i + 1) * kBlock);
        ASSERT_EQ(contents[h.blocks[i].value], want);
        ++hits;
      }
      bool indexable = true;
      while (h.blocks.size() < n) {
        const auto b = cache.allocate();
        if (!b) {
          ++full;
          break;
        }
        ASSERT_EQ(pool.references(*b), 1);
        const auto i = h.blocks.size();
        h.blocks.push_back(*b);
        contents[b->value] = {h.tokens.begin(), h.tokens.begin() + static_cast<int>(i + 1) * kBlock};
        if (random() % 8 == 0) indexable = false;
        if (indexable) {
          ASSERT_TRUE(cache.insert(h.tokens, h.blocks, static_cast<std::int32_t>(i)));
        }
      }
      live.push_back(std::move(h));
    } else if (!live.empty()) {
      const auto i = random() % live.size();
      cache.release(live[i].blocks);
      live.erase(live.begin() + static_cast<int>(i));
    }
    std::map<std::int32_t, int> references;
    for (const Held& h : live)
      for (std::size_t i = 0; i < h.blocks.size(); ++i) {
        ++references[h.blocks[i].value];
        const std::vector<TokenId> want(h.tokens.begin(), h.tokens.begin() + static_cast<int>(i + 1) * kBlock);
        ASSERT_EQ(contents[h.blocks[i].value], want);
      }
    ASSERT_EQ(pool.used(), static_cast<std::int32_t>(references.size()));
    for (const auto& [b, n] : references) ASSERT_EQ(pool.references(BlockId{b}), n);
    if (op % 64 == 0) cache.check_integrity();
  }
  EXPECT_GT(hits, 1000);
  EXPECT_GT(full, 0);
  for (Held& h : live) cache.release(h.blocks);
  EXPECT_EQ(pool.used(), 0);
  cache.check_integrity();
}

TEST(PrefixCache, EqualContentsAreSwappedForTheIndexedBlock) {
  KvPool pool(4);
  PrefixCache cache(pool, kBlock, true);
  const std::vector<TokenId> tokens{5, 6};
  std::vector<BlockId> a{*cache.allocate()}, b{*cache.allocate()};
  ASSERT_TRUE(cache.insert(tokens, a, 0));
  ASSERT_TRUE(cache.insert(tokens, b, 0));
  EXPECT_EQ(a, b);
  EXPECT_EQ(pool.used(), 1);
}

}  // namespace
}  // namespace hp

#include "engine/speculation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/limits.h"

namespace hp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<TokenId> propose(std::vector<TokenId> tokens, std::int32_t most) {
  return propose_from_past(tokens, most);
}

TEST(PromptLookup, FindsWhatFollowed) {
  EXPECT_THAT(propose({1, 2, 3, 4, 5, 9, 1, 2, 3}, 2), ElementsAre(4, 5));
  EXPECT_THAT(propose({1, 2, 3, 4, 5, 9, 1, 2, 3}, 100), ElementsAre(4, 5, 9, 1, 2, 3));
  EXPECT_THAT(propose({7, 7, 7, 7}, 3), ElementsAre(7)) << "a run continues";
}

TEST(PromptLookup, LatestAndLongestWin) {
  EXPECT_THAT(propose({1, 2, 5, 1, 2, 6, 1, 2}, 1), ElementsAre(6));
  EXPECT_THAT(propose({9, 1, 2, 5, 8, 1, 2, 6, 9, 1, 2}, 1), ElementsAre(5)) << "three tokens match there";
}

TEST(PromptLookup, NothingToFind) {
  EXPECT_THAT(propose({}, 4), IsEmpty());
  EXPECT_THAT(propose({1}, 4), IsEmpty());
  EXPECT_THAT(propose({1, 2, 3, 4}, 4), IsEmpty());
  EXPECT_THAT(propose({1, 2, 1, 2}, 0), IsEmpty());
}

TEST(DraftSources, BelievesWhoHasBeenRight) {
  DraftSources sources;
  EXPECT_TRUE(sources.choose_predicted(5, 6));
  for (int i = 0; i < 30; ++i) {
    sources.choose_predicted(5, 6);
    sources.came(5);
  }
  EXPECT_FALSE(sources.choose_predicted(5, 6));
  EXPECT_FALSE(sources.choose_predicted(std::nullopt, 6))
      << "a source that is hardly ever right costs more than it gives";
  for (int i = 0; i < 30; ++i) {
    sources.choose_predicted(std::nullopt, 6);
    sources.came(6);
    sources.choose_predicted(5, std::nullopt);
    sources.came(6);
  }
  EXPECT_TRUE(sources.choose_predicted(5, 6));
  EXPECT_FALSE(sources.choose_predicted(6, 6)) << "prompt lookup knows more tokens";
  EXPECT_FALSE(sources.choose_predicted(5, std::nullopt));
}

TEST(DraftPace, GrowsShrinksAndRests) {
  DraftPace pace;
  const std::int32_t first = pace.next(100);
  pace.seen(first, first);
  EXPECT_EQ(pace.next(100), 2 * first);
  EXPECT_EQ(pace.next(3), 3);
  pace.seen(2 * first, 1);
  EXPECT_EQ(pace.next(100), 2 * first) << "a guess that held in part changes nothing";
  for (int i = 0; i < kDraftFailures; ++i) pace.seen(4, 0);
  for (int i = 0; i < kDraftRest; ++i) EXPECT_EQ(pace.next(100), 0);
  EXPECT_GT(pace.next(100), 0);
}

}  // namespace
}  // namespace hp

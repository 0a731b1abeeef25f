// The shared journal against a real redis-server, and the record's lines.
#include "gateway/shared_journal.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "base/counter_rng.h"
#include "base/log.h"
#include "store/test_redis.h"

namespace hp::gateway {
namespace {
using namespace std::chrono_literals;

constexpr std::string_view kId = "6543210089abcdef0123456789abcdef";
const std::string kBody = R"({"model":"m","messages":[],"stream":true})";

CutChunk chunk(std::uint32_t choice, std::uint64_t index, std::vector<TokenId> tokens, bool empty = false,
               std::string_view finish = {}) {
  CutChunk out{.body = "{",
               .entry = JournalEntry{.choice = choice, .index = index, .tokens = std::move(tokens)},
               .finish_reason = finish};
  out.entry->prompt_tokens = 12;
  out.empty = empty;
  return out;
}

TEST(RecordJournal, LinesGiveTheSameRecordAgain) {
  StreamRecord record(std::string(kId), 2), copy(std::string(kId), 2);
  StreamRecord::JournalMark mark;
  std::string lines;
  std::array<std::uint64_t, 2> at{};
  for (std::uint64_t i = 0; i < 200; ++i) {
    const auto c = static_cast<std::uint32_t>(uniform_at(5, i, 0) * 2);
    record.take(chunk(c, at[c], {static_cast<TokenId>(i), static_cast<TokenId>(i + 1)}, uniform_at(5, i, 1) < 0.3));
    at[c] += 2;
    if (uniform_at(5, i, 2) < 0.2) lines += record.journal_since(mark);
  }
  for (std::uint32_t c = 0; c < 2; ++c) record.take(chunk(c, at[c], {}, false, "stop"));
  lines += record.journal_since(mark);
  EXPECT_EQ(record.journal_since(mark), "") << "nothing is new";
  copy.replay_journal(lines);
  EXPECT_EQ(copy.resume_tail(false), record.resume_tail(false));
  EXPECT_EQ(copy.prompt_tokens(), 12U);
  EXPECT_TRUE(copy.complete(false));
  for (std::size_t c = 0; c < 2; ++c) EXPECT_EQ(copy.choices()[c].marks, record.choices()[c].marks);
}

TEST(RecordJournal, WhatDoesNotJoinUpIsLeftOut) {
  StreamRecord record(std::string(kId), 1);
  StreamRecord::JournalMark mark;
  record.take(chunk(0, 0, {1, 2}));
  const std::string first = record.journal_since(mark);
  record.take(chunk(0, 2, {3}));
  const std::string second = record.journal_since(mark);
  record.take(chunk(0, 3, {4}));
  const std::string third = record.journal_since(mark);
  const auto tokens = [](const std::string& lines) {
    StreamRecord copy(std::string(kId), 1);
    copy.replay_journal(lines);
    return copy.tokens();
  };
  EXPECT_EQ(tokens(first + second + third), 4U);
  EXPECT_EQ(tokens(first + third), 2U) << "a hole";
  EXPECT_EQ(tokens(first + second.substr(0, second.size() / 2)), 2U) << "cut off";
  for (const char* bad :
       {"{}\n", "[]\n", "x\n", "{\"c\":[[0,0,[1],0,[9],\"\"]]}\n", "{\"c\":[[5,0,[1],0,[1],\"\"]]}\n",
        "{\"c\":[[0,0,[-1],0,[1],\"\"]]}\n", "{\"c\":[[0,0,[1],0,[1]]]}\n", "{\"c\":[[0,0,[1.5],0,[1],\"\"]]}\n",
        "{\"c\":[[0,0,[99999999999],0,[1],\"\"]]}\n", "\n", "\n\n"}) {
    const std::string line = bad;
    EXPECT_EQ(tokens(line), 0U) << line;
    EXPECT_EQ(tokens("{\"v\":2," + line.substr(1)), 0U) << line;
  }
}

TEST(RecordJournal, KnowsWhoseTheTokensAreAndReadsNoOtherVersion) {
  StreamRecord record(std::string(kId), 1);
  StreamRecord::JournalMark mark;
  record.take(chunk(0, 0, {}));
  std::string lines = record.journal_since(mark);
  record.take(chunk(0, 0, {1, 2}));
  record.made_by("0a1b2c3d");
  lines += record.journal_since(mark);
  record.take(chunk(0, 2, {3}));
  lines += record.journal_since(mark);
  const auto read = [](const std::string& text) {
    StreamRecord copy(std::string(kId), 1);
    copy.replay_journal(text);
    return std::pair(copy.tokens(), std::string(copy.bound_to()));
  };
  EXPECT_EQ(read(lines), std::pair(std::uint64_t{3}, std::string("0a1b2c3d")));
  std::string old = lines;
  for (auto at = old.find("\"v\":2,"); at != std::string::npos; at = old.find("\"v\":2,")) old.erase(at, 6);
  EXPECT_EQ(read(old).first, 0U) << "whose they are is not known";
  std::string next = lines;
  next.replace(next.find("\"v\":2"), 5, "\"v\":3");
  EXPECT_EQ(read(next).first, 0U);
}

TEST(RecordJournal, TheClientMayBeBehindOrAhead) {
  StreamRecord record(std::string(kId), 1);
  StreamRecord::JournalMark mark;
  for (std::uint64_t i = 0; i < 5; ++i) record.take(chunk(0, i, {static_cast<TokenId>(i)}));
  const std::string lines = record.journal_since(mark);
  const auto at = [&](std::uint64_t seq) {
    StreamRecord copy(std::string(kId), 1);
    copy.replay_journal(lines);
    EXPECT_TRUE(copy.catch_up({.stream = std::string(kId), .seq = seq, .per_choice = {}}));
    return copy;
  };
  EXPECT_EQ(at(1).tokens(), 2U);
  StreamRecord ahead = at(6);  // two events that the journal has not
  EXPECT_EQ(ahead.tokens(), 5U);
  EXPECT_EQ(ahead.take(chunk(0, 5, {5})), StreamRecord::Verdict::drop);
  EXPECT_EQ(ahead.take(chunk(0, 6, {6})), StreamRecord::Verdict::drop);
  EXPECT_EQ(ahead.take(chunk(0, 7, {7})), StreamRecord::Verdict::forward);
  std::string id;
  ahead.append_event_id(id);
  EXPECT_EQ(id, fmt::format("id: {}:7\n", kId));
}

class SharedJournalTest : public testing::Test {
 protected:
  struct Side {
    explicit Side(const std::string& address, std::string name, const Clock& clock, milliseconds timeout = 2000ms) {
      redis = *store::Redis::create({.address = address, .timeout = timeout}, metrics);
      journal = std::make_unique<SharedJournal>(*redis, streams, clock, std::move(name), 300s, metrics);
    }
    ~Side() { redis->stop(); }
    Side(const Side&) = delete;
    Side& operator=(const Side&) = delete;
    void beat() {
      std::promise<void> done;
      journal->confirm([&] { done.set_value(); });
      done.get_future().get();
    }
    std::optional<TakenStream> take(std::string_view tenant, std::string_view id = kId) {
      auto done = std::make_shared<std::promise<std::optional<TakenStream>>>();
      journal->take(tenant, id, [done](std::optional<TakenStream> taken) { done->set_value(std::move(taken)); });
      return done->get_future().get();
    }
    Usage settle(const std::shared_ptr<StoredStream>& stream, Usage total) {
      std::promise<Usage> done;
      journal->settle(stream, total, total, [&](Usage usage) { done.set_value(usage); });
      return done.get_future().get();
    }
    MetricsRegistry metrics;
    StreamStore streams{300s, 1 << 20};
    std::unique_ptr<store::Redis> redis;
    std::unique_ptr<SharedJournal> journal;
  };

  void SetUp() override {
    log::configure({.level = log::Level::off});
    if (!store::TestRedis::installed()) GTEST_SKIP() << "redis-server is not installed";
    server_ = std::make_unique<store::TestRedis>();
    a_ = std::make_unique<Side>(server_->address(), "a", clock_);
    b_ = std::make_unique<Side>(server_->address(), "b", clock_);
    for (auto* side : {a_.get(), b_.get()}) {
      for (int i = 0; i < 12'000 && !side->journal->available(); ++i) std::this_thread::sleep_for(10ms);
      ASSERT_TRUE(side->journal->available());
      side->beat();
    }
  }
  std::shared_ptr<StoredStream> stream() {
    std::string body = kBody;
    auto made = std::make_shared<StoredStream>(std::string(kId), *peek_request(body));
    made->tenant = "acme";
    made->target = "/v1/chat/completions";
    made->body = std::make_shared<const std::string>(kBody);
    return made;
  }

  SteadyClock clock_;
  std::unique_ptr<store::TestRedis> server_;
  std::unique_ptr<Side> a_, b_;
};

TEST_F(SharedJournalTest, AnotherGatewayTakesAStreamAndTheFirstOneLearnsOfIt) {
  const auto ours = stream();
  ours->record.take(chunk(0, 0, {7, 8, 9}));
  const auto lease = ours->lease.load();
  a_->journal->note(ours, clock_.now(), true);
  a_->beat();
  ours->record.take(chunk(0, 3, {10}));
  a_->journal->note(ours, clock_.now(), true);
  a_->beat();  // replies come in order: the notes are in
  const TimePoint spoke = clock_.now();
  EXPECT_FALSE(b_->take("evil")) << "another tenant's stream is no stream";
  EXPECT_FALSE(b_->take("acme", "00000000000000000000000000000000"));
  const auto taken = b_->take("acme");
  ASSERT_TRUE(taken);
  EXPECT_TRUE(taken->wait > 0ms || clock_.now() - spoke >= kLease) << "a lives: its word must run out first";
  const auto copy = restore_stream(*taken, "acme", kId, taken->body);
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->record.tokens(), 4U);
  EXPECT_EQ(ours->lease.load(), lease);
  a_->beat();
  EXPECT_GT(ours->lease.load(), lease) << "the old owner falls silent";
  // What it writes now is read by nobody.
  ours->record.take(chunk(0, 4, {11, 12}));
  a_->journal->note(ours, clock_.now(), true);
  a_->beat();
  const auto again = b_->take("acme");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->epoch, taken->epoch + 1);
  EXPECT_EQ(again->journal.find("11"), std::string::npos);
}

TEST_F(SharedJournalTest, AGatewayThatWasFrozenMustAskBeforeItEmits) {
  ManualClock hand;
  hand.advance(std::chrono::hours(1));
  Side side(server_->address(), "c", hand);
  for (int i = 0; i < 12'000 && !side.journal->available(); ++i) std::this_thread::sleep_for(10ms);
  EXPECT_FALSE(side.journal->may_emit(hand.now())) << "it never said that it lives";
  side.beat();
  EXPECT_TRUE(side.journal->may_emit(hand.now()));
  hand.advance(kLease + 1ms);
  EXPECT_FALSE(side.journal->may_emit(hand.now()));
  server_->kill();
  side.beat();  // fails
  for (int i = 0; i < 12'000 && side.journal->available(); ++i) std::this_thread::sleep_for(10ms);
  EXPECT_TRUE(side.journal->may_emit(hand.now())) << "without Redis there are no leases";
}

TEST_F(SharedJournalTest, UsageIsCountedOnceWhoeverCountsIt) {
  const auto ours = stream();
  ours->record.take(chunk(0, 0, {1, 2, 3}));
  a_->journal->note(ours, clock_.now(), true);
  a_->beat();
  const auto taken = b_->take("acme");
  ASSERT_TRUE(taken);
  const auto theirs = restore_stream(*taken, "acme", kId, taken->body);
  auto usage = a_->settle(ours, {.tokens = 3, .prompt_tokens = 12});
  EXPECT_EQ(usage.tokens, 3U);
  EXPECT_EQ(usage.prompt_tokens, 12U);
  usage = b_->settle(theirs, {.tokens = 10, .prompt_tokens = 12});
  EXPECT_EQ(usage.tokens, 7U);
  EXPECT_EQ(usage.prompt_tokens, 0U);
  usage = a_->settle(ours, {.tokens = 3, .prompt_tokens = 12});
  EXPECT_EQ(usage.tokens, 0U);
}

class UsageOutboxTest : public SharedJournalTest {
 protected:
  // What a gateway has counted of the stream.
  struct Counted {
    std::atomic<std::uint64_t> tokens{0}, prompt{0}, times{0};
  };
  static Settlement settlement(Counted& counted, std::uint64_t total, std::uint64_t fresh) {
    return {.stream = std::string(kId),
            .epoch = 1,
            .total = {.tokens = total, .prompt_tokens = 12},
            .fresh = {.tokens = fresh, .prompt_tokens = total == fresh ? 12U : 0U},
            .count = [&counted](Usage usage) {
              counted.tokens += usage.tokens;
              counted.prompt += usage.prompt_tokens;
              ++counted.times;
            }};
  }
  static bool soon(const std::function<bool()>& what) {
    for (int i = 0; i < 12'000 && !what(); ++i) std::this_thread::sleep_for(10ms);
    return what();
  }
};

TEST_F(UsageOutboxTest, WhatRedisCouldNotHearIsCountedOnceWhenItIsBack) {
  UsageOutbox a(*a_->redis, clock_, "a", 300, a_->metrics), b(*b_->redis, clock_, "b", 300, b_->metrics);
  Counted at_a, at_b;
  server_->kill();
  ASSERT_TRUE(soon([&] {
    a_->redis->send({"PING"});
    b_->redis->send({"PING"});
    return !a_->redis->available() && !b_->redis->available();
  }));
  a.add(settlement(at_a, 60, 60));    // the stream's first gateway,
  b.add(settlement(at_b, 100, 100));  // and one that never heard of it and generated it again
  a.flush(clock_.now());
  EXPECT_EQ(at_a.times + at_b.times, 0U);
  EXPECT_EQ(a_->metrics.gauge("homeport_gateway_usage_unsettled", "").value(), 1);
  server_->start();
  EXPECT_TRUE(soon([&] {
    a.flush(clock_.now());
    b.flush(clock_.now());
    return at_a.times + at_b.times == 2;
  }));
  EXPECT_EQ(at_a.tokens + at_b.tokens, 100U);
  EXPECT_EQ(at_a.prompt + at_b.prompt, 12U);
  b.add(settlement(at_b, 100, 0));  // closed once more
  EXPECT_TRUE(soon([&] { return at_b.times == 2; }));
  EXPECT_EQ(at_a.tokens + at_b.tokens, 100U);
}

TEST_F(UsageOutboxTest, ALostReplyIsAskedForAgainAndCountsOnce) {
  Side impatient(server_->address(), "c", clock_, 200ms);
  ASSERT_TRUE(soon([&] { return impatient.redis->available(); }));
  UsageOutbox outbox(*impatient.redis, clock_, "c", 300, impatient.metrics);
  Counted counted;
  server_->freeze();
  outbox.add(settlement(counted, 60, 60));  // Redis has it in its socket, and will do it
  EXPECT_TRUE(soon([&] { return !impatient.redis->available(); }));
  server_->thaw();
  EXPECT_TRUE(soon([&] { return impatient.redis->available(); }));
  outbox.flush(clock_.now());
  EXPECT_TRUE(soon([&] { return counted.times == 1; }));
  EXPECT_EQ(counted.tokens, 60U);
  EXPECT_EQ(counted.prompt, 12U);
}

TEST_F(UsageOutboxTest, WhatWaitsForTooLongIsCountedAndTheDifferenceIsTold) {
  ManualClock hand;
  UsageOutbox a(*a_->redis, hand, "a", 300, a_->metrics), b(*b_->redis, hand, "b", 300, b_->metrics);
  Counted at_a, at_b;
  b.add(settlement(at_b, 100, 100));
  EXPECT_TRUE(soon([&] { return at_b.times == 1; }));
  server_->freeze();
  ASSERT_TRUE(soon([&] {
    a_->redis->send({"PING"});
    return !a_->redis->available();
  }));
  a.add(settlement(at_a, 60, 60));
  hand.advance(kOutboxHold + 1ms);
  a.flush(hand.now());
  EXPECT_EQ(at_a.tokens, 60U) << "nobody waits for Redis for ever";
  server_->thaw();
  const Counter& doubled = a_->metrics.counter("homeport_gateway_usage_doubled_tokens_total", "");
  EXPECT_TRUE(soon([&] {
    a.flush(hand.now());
    return doubled.value() > 0;
  }));
  EXPECT_EQ(doubled.value(), 72) << "of 60 tokens and a prompt of 12";
  EXPECT_EQ(at_a.times, 1U);
}

TEST_F(SharedJournalTest, AnEmptiedServerIsWrittenAgain) {
  const auto ours = stream();
  ours->record.take(chunk(0, 0, {1, 2, 3}));
  a_->journal->note(ours, clock_.now(), true);
  a_->beat();
  a_->redis->send({"FLUSHALL"});
  a_->beat();
  a_->journal->note(ours, clock_.now(), true);
  a_->beat();
  const auto taken = b_->take("acme");
  ASSERT_TRUE(taken);
  EXPECT_EQ(restore_stream(*taken, "acme", kId, taken->body)->record.tokens(), 3U);
}

}  // namespace
}  // namespace hp::gateway

#include "gateway/stream_record.h"

#include <gtest/gtest.h>

#include "gateway/request_peek.h"

namespace hp::gateway {
namespace {

const std::string kId = make_stream_id(0x65000000, 0xabcdef0123, 42);

std::string chunk(std::uint32_t choice, std::uint64_t index, const std::string& tokens, const std::string& delta,
                  const std::string& finish = "null") {
  return fmt::format(
      R"({{"id":"x","choices":[{{"index":{0},"delta":{3},"logprobs":null,"finish_reason":{4}}}],"homeport":{{"choice":{0},"index":{1},"token_ids":[{2}]}}}})",
      choice, index, tokens, delta, finish);
}

StreamRecord::Verdict take(StreamRecord& record, const std::string& data) {
  const auto cut = cut_chunk(data);
  EXPECT_TRUE(cut) << data;
  return cut ? record.take(*cut) : StreamRecord::Verdict::broken;
}

TEST(EventCutter, EventsInAnyGrouping) {
  const std::string wire =
      ": progress 5\n\ndata: {\"a\":1}\n\nid: 7\r\ndata: two\r\ndata: lines\r\n\r\ndata: [DONE]\n\n";
  for (std::size_t step = 1; step <= wire.size(); ++step) {
    EventCutter cutter;
    std::string all;
    const EventCutter::Sink sink{.on_data =
                                     [&](std::string_view data) {
                                       all.append(data).append("|");
                                       return true;
                                     },
                                 .on_comment =
                                     [&](std::string_view comment) {
                                       all.append("#").append(comment).append("|");
                                       return true;
                                     }};
    for (std::size_t at = 0; at < wire.size(); at += step) ASSERT_TRUE(cutter.push(wire.substr(at, step), sink));
    EXPECT_EQ(all, "#progress 5|{\"a\":1}|two\nlines|[DONE]|") << step;
    EXPECT_TRUE(cutter.between_events());
  }
  EventCutter cutter;
  EXPECT_FALSE(cutter.push(std::string(kMaxEventBytes + 1, 'x'), {}));
}

TEST(EventCutter, CutsTheJournalOffAndNothingElse) {
  const auto plain = cut_chunk(R"({"choices":[{"delta":{"content":",\"homeport\":{\"choice\":0"}}]})");
  ASSERT_TRUE(plain);
  EXPECT_FALSE(plain->entry);
  EXPECT_FALSE(plain->empty);
  const auto cut = cut_chunk(
      R"({"choices":[{"index":1,"delta":{"content":"\"finish_reason\":\"no\""},"finish_reason":"stop"}],"homeport":{"choice":1,"index":17,"token_ids":[12,99],"seed":18446744073709551615,"prompt_tokens":3}})");
  ASSERT_TRUE(cut && cut->entry);
  EXPECT_EQ(cut->body,
            R"({"choices":[{"index":1,"delta":{"content":"\"finish_reason\":\"no\""},"finish_reason":"stop"}])");
  EXPECT_EQ(cut->entry->choice, 1u);
  EXPECT_EQ(cut->entry->index, 17u);
  EXPECT_EQ(cut->entry->tokens, (std::vector<TokenId>{12, 99}));
  EXPECT_EQ(cut->entry->seed, 18446744073709551615u);
  EXPECT_EQ(cut->entry->prompt_tokens, 3u);
  EXPECT_EQ(cut->finish_reason, "stop");
  for (const char* wrong : {"", "{", "x}", R"({"a":1,"homeport":{"choice":0}})",
                            R"({"a":1,"homeport":{"choice":0,"index":1,"token_ids":[1,]}})",
                            R"({"a":1,"homeport":{"choice":999,"index":1,"token_ids":[]}})",
                            R"({"a":1,"homeport":{"choice":0,"index":1,"token_ids":[1]},"b":2})"})
    EXPECT_FALSE(cut_chunk(wrong)) << wrong;
}

TEST(StreamRecord, ResumesWithEveryTokenOnceAndDropsWhatTheClientNeedNotSee) {
  StreamRecord record(kId, 1);
  EXPECT_EQ(record.resume_tail(false), "}");
  EXPECT_EQ(take(record, chunk(0, 0, "", R"({"role":"assistant","content":""})")), StreamRecord::Verdict::forward);
  std::string id;
  record.append_event_id(id);
  EXPECT_EQ(id, "id: " + kId + ":0\n");
  EXPECT_EQ(take(record, chunk(0, 0, "5", R"({"content":"a"})")), StreamRecord::Verdict::forward);
  EXPECT_EQ(take(record, chunk(0, 1, "6", "{}")), StreamRecord::Verdict::drop) << "half a character";
  EXPECT_EQ(take(record, chunk(0, 1, "6", R"({"content":"b"})")), StreamRecord::Verdict::drop) << "said twice";
  EXPECT_EQ(take(record, chunk(0, 1, "7", R"({"content":"b"})")), StreamRecord::Verdict::broken) << "another token";
  EXPECT_EQ(take(record, chunk(0, 4, "7", R"({"content":"b"})")), StreamRecord::Verdict::broken) << "a gap";
  EXPECT_EQ(take(record, chunk(0, 2, "7,8", R"({"content":"b"})")), StreamRecord::Verdict::forward);
  EXPECT_EQ(record.resume_tail(false),
            R"(,"homeport_resume":{"choices":[{"index":0,"token_ids":[5,6,7,8],"finish_reason":null}]}})");
  EXPECT_EQ(record.resume_tail(true).front(), '"');
  EXPECT_FALSE(record.complete(false));
  EXPECT_EQ(take(record, chunk(0, 4, "", "{}", "\"length\"")), StreamRecord::Verdict::forward);
  EXPECT_TRUE(record.complete(false));
  EXPECT_FALSE(record.complete(true));
  EXPECT_EQ(take(record, R"({"choices":[],"usage":{}})"), StreamRecord::Verdict::forward);
  EXPECT_EQ(take(record, R"({"choices":[],"usage":{}})"), StreamRecord::Verdict::drop);
  EXPECT_TRUE(record.complete(true));
  EXPECT_EQ(record.tokens(), 4u);
  EXPECT_NE(record.resume_tail(false).find("\"finish_reason\":\"length\""), std::string::npos);
}

TEST(StreamRecord, RewindsToAnyEventAndGoesOnFromThere) {
  for (std::uint64_t seq = 0; seq < 6; ++seq) {
    StreamRecord record(kId, 1);
    const std::string wire[] = {chunk(0, 0, "", R"({"role":"assistant","content":""})"),
                                chunk(0, 0, "1,2", R"({"content":"a"})"),
                                chunk(0, 2, "3", "{}"),
                                chunk(0, 3, "4", R"({"content":"b"})"),
                                chunk(0, 4, "5", R"({"content":"c"})"),
                                chunk(0, 5, "", "{}", "\"stop\""),
                                R"({"choices":[],"usage":{}})"};
    for (const auto& data : wire) take(record, data);
    const std::uint64_t tokens_at[] = {0, 2, 4, 5, 5, 5};
    ASSERT_TRUE(record.rewind({.stream = kId, .seq = seq, .per_choice = {}})) << seq;
    EXPECT_EQ(record.tokens(), tokens_at[seq]) << seq;
    EXPECT_EQ(record.next_seq(), seq + 1);
    EXPECT_EQ(record.complete(false), seq >= 4);
    EXPECT_EQ(record.complete(true), seq == 5);
    EXPECT_FALSE(record.rewind({.stream = kId, .seq = 6, .per_choice = {}})) << "beyond the end";
  }
}

TEST(StreamRecord, ManyChoicesKeepTheirOwnCount) {
  StreamRecord first(kId, 2), second(kId, 2);
  take(first, chunk(0, 0, "1", R"({"content":"a"})"));
  take(first, chunk(1, 0, "9", R"({"content":"x"})"));
  take(first, chunk(0, 1, "2", R"({"content":"b"})"));
  std::string id;
  first.append_event_id(id);
  EXPECT_EQ(id, "id: " + kId + ":2:2.1\n");
  const auto position = parse_event_id(id.substr(4, id.size() - 5));
  ASSERT_TRUE(position);
  // Another gateway, in another order: what the client has is dropped choice by choice.
  second.skip_to(*position);
  EXPECT_EQ(take(second, chunk(1, 0, "9", R"({"content":"x"})")), StreamRecord::Verdict::drop);
  EXPECT_EQ(take(second, chunk(1, 1, "8", R"({"content":"y"})")), StreamRecord::Verdict::forward);
  id.clear();
  second.append_event_id(id);
  EXPECT_EQ(id, "id: " + kId + ":3:2.2\n");
  EXPECT_EQ(take(second, chunk(0, 0, "1", R"({"content":"a"})")), StreamRecord::Verdict::drop);
  EXPECT_EQ(take(second, chunk(0, 1, "2", R"({"content":"b"})")), StreamRecord::Verdict::drop);
  EXPECT_EQ(take(second, chunk(0, 2, "3", R"({"content":"c"})")), StreamRecord::Verdict::forward);
  ASSERT_TRUE(second.rewind({.stream = kId, .seq = 2, .per_choice = {2, 1}}));
  EXPECT_EQ(second.tokens(), 3u);
}

TEST(StreamRecord, ItsWeightsStandInItsEventIdsAndBindWhoeverGoesOn) {
  const std::string tag = weights_tag("fp_one");
  EXPECT_EQ(tag.size(), 8u);
  EXPECT_NE(tag, weights_tag("fp_two"));
  EXPECT_EQ(weights_tag(""), "");
  StreamRecord record(kId, 1);
  take(record, chunk(0, 0, "1", R"({"content":"a"})"));
  EXPECT_EQ(record.bound_to(), "") << "nobody knows whose";
  record.made_by(tag);
  EXPECT_EQ(record.bound_to(), tag);
  std::string id;
  record.append_event_id(id);
  EXPECT_EQ(id, fmt::format("id: {}:0::{}\n", kId, tag));
  const auto position = parse_event_id(id.substr(4, id.size() - 5));
  ASSERT_TRUE(position);
  EXPECT_EQ(position->weights, tag);
  StreamRecord fresh(kId, 1);
  fresh.skip_to(*position);
  EXPECT_EQ(fresh.bound_to(), tag) << "without a token of it";
  StreamRecord other(kId, 1);
  take(other, chunk(0, 0, "1", R"({"content":"a"})"));
  other.made_by(weights_tag("fp_two"));
  EXPECT_FALSE(other.catch_up(*position)) << "another stream's journal";
  EXPECT_FALSE(other.rewind(*position));
  record.restart();
  EXPECT_EQ(record.bound_to(), "");
  for (const char* wrong : {":0::", ":0::1234567", ":0::1234567g", ":0:1.2:12345678:", ":0::12345678:"})
    EXPECT_FALSE(parse_event_id(kId + wrong)) << wrong;
}

TEST(StreamRecord, EventIdsAreCheckedAndCarryTheSeed) {
  EXPECT_TRUE(valid_stream_id(kId));
  EXPECT_EQ(stream_created(kId), 0x65000000);
  EXPECT_NE(stream_seed(kId), stream_seed(make_stream_id(0x65000000, 0xabcdef0123, 43)));
  EXPECT_TRUE(parse_event_id(kId + ":0"));
  for (const auto& wrong : {std::string(), kId, kId + ":", kId + ":x", kId + ":1:2.", std::string("zz:1"),
                            kId + ":1:2.x", kId + ":99999999999999999999999", std::string(32, 'A') + ":1"})
    EXPECT_EQ(parse_event_id(wrong).has_value(), wrong == kId + ":1:2.") << wrong;
}

TEST(RequestPeek, ReadsWhatRoutingNeeds) {
  std::string body =
      R"({"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"n":2,"max_tokens":10,"temperature":0.0,"user":"u"} )";
  const auto peek = peek_request(body);
  ASSERT_TRUE(peek);
  EXPECT_EQ(peek->model, "m");
  EXPECT_TRUE(peek->stream && peek->include_usage && peek->deterministic());
  EXPECT_EQ(peek->choices, 2);
  EXPECT_EQ(peek->user, "u");
  EXPECT_EQ(peek->cost_tokens(), 20 + 33 / 4);
  EXPECT_EQ(body.substr(peek->splice_at), "} ");
  EXPECT_FALSE(peek->has_resume);
  std::string empty = "{}", sampled = R"({"model":"m","temperature":0.7,"homeport_resume":{}})", broken = "{\"a\":";
  EXPECT_TRUE(peek_request(empty)->empty_object);
  EXPECT_FALSE(peek_request(sampled)->deterministic());
  EXPECT_TRUE(peek_request(sampled)->has_resume);
  EXPECT_FALSE(peek_request(broken));
}

TEST(RequestPeek, PrefixHashesAgreeExactlyAsFarAsTheTextsDo) {
  const std::string base(20'000, 'a');
  for (const std::size_t differs : {0u, 300u, 5'000u, 19'999u}) {
    std::string other = base;
    other[differs] = 'b';
    PrefixHashes a, b;
    a.add_text(base);
    b.add_text(other);
    ASSERT_EQ(a.count, b.count);
    for (std::size_t i = 0; i < a.count; ++i)
      EXPECT_EQ(a.hashes[i] == b.hashes[i], a.lengths[i] <= differs) << differs << " " << a.lengths[i];
  }
}

}  // namespace
}  // namespace hp::gateway

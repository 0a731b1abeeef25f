// Clients that lose their connection and come back with Last-Event-ID.
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "node/test_node.h"

namespace hp {
namespace {

using std::chrono::milliseconds;

struct Reader {
  Reader(const TestNode& node, std::string body, std::string last_event_id) {
    net::ClientRequest r = node.request("POST", "/v1/completions", std::move(body));
    if (!last_event_id.empty()) r.headers.emplace_back("Last-Event-ID", last_event_id);
    r.keep_alive = false;
    handle = node.client->start(std::move(r),
                                {.on_headers = [s = state](int status, const net::Headers&) { s->status = status; },
                                 .on_data =
                                     [s = state](std::string_view bytes) {
                                       const std::lock_guard lock(s->mutex);
                                       s->parser.push(bytes, [&](const net::SseEvent& e) { s->events.push_back(e); });
                                       s->wake.notify_all();
                                     },
                                 .on_done =
                                     [s = state](const Status&) {
                                       const std::lock_guard lock(s->mutex);
                                       s->done = true;
                                       s->wake.notify_all();
                                     }});
  }
  std::vector<net::SseEvent> wait(std::size_t events) const {
    std::unique_lock lock(state->mutex);
    EXPECT_TRUE(state->wake.wait_for(lock, std::chrono::seconds(120),
                                     [&] { return state->done || state->events.size() >= events; }));
    return state->events;
  }
  struct State {
    std::mutex mutex;
    std::condition_variable wake;
    net::SseParser parser;
    std::vector<net::SseEvent> events;
    bool done = false;
    std::atomic<int> status{0};
  };
  std::shared_ptr<State> state = std::make_shared<State>();
  net::HttpClient::Handle handle = 0;
};

constexpr std::size_t kAll = 100'000;
constexpr const char* kBody =
    R"({"model":"fake","prompt":"x","ignore_eos":true,"max_tokens":120,"seed":3,"logprobs":0,"stream":true})";

constexpr const char* kLongBody =  // so long that nobody is late for it
    R"({"model":"fake","prompt":"x","ignore_eos":true,"max_tokens":1500,"seed":3,"logprobs":0,"stream":true})";

FakeExecutorOptions device() {
  return {.latency = [](std::span<const SequenceStep>) -> Duration { return milliseconds(1); }};
}

std::vector<std::string> data_of(const std::vector<net::SseEvent>& events) {
  std::vector<std::string> out;
  for (const net::SseEvent& e : events) {
    const auto text = JsonValue::parse(e.data);
    out.push_back(text ? text_at(*text, "choices.0.text") + text_at(*text, "choices.0.finish_reason") : e.data);
  }
  return out;
}

TEST(Replay, AClientThatComesBackMissesNothing) {
  NodeOptions options = test_options();
  options.http_threads = 2;
  options.detach_grace = milliseconds(120'000);
  const TestNode node(options, device());
  const std::vector<std::string> whole = data_of(Reader(node, kBody, "").wait(kAll));
  ASSERT_EQ(whole.back(), "[DONE]");
  for (const std::size_t cut : {1UL, 7UL, 60UL, 110UL}) {
    const Reader first(node, kBody, "");
    std::vector<net::SseEvent> got = first.wait(cut);
    ASSERT_GE(got.size(), cut);
    got.resize(cut);
    node.client->cancel(first.handle);
    const Reader second(node, kBody, got.back().id);
    for (const net::SseEvent& e : second.wait(kAll)) got.push_back(e);
    EXPECT_EQ(second.state->status, 200);
    EXPECT_EQ(data_of(got), whole) << "cut after " << cut;
    // The end can be asked for again as well.
    EXPECT_EQ(Reader(node, kBody, got[got.size() - 2].id).wait(kAll).back().data, "[DONE]");
  }
}

TEST(Replay, TheNewConnectionTakesTheStreamFromTheOld) {
  NodeOptions options = test_options();
  options.detach_grace = milliseconds(120'000);
  const TestNode node(options, {.context = 4096, .blocks = 1024, .latency = device().latency});
  const Reader first(node, kLongBody, "");
  const auto got = first.wait(5);
  const Reader second(node, kLongBody, got[0].id);
  EXPECT_EQ(second.wait(kAll).back().data, "[DONE]");
  EXPECT_NE(first.wait(kAll).back().data, "[DONE]");
}

TEST(Replay, NobodyComesBackAndUnknownStreams) {
  NodeOptions options = test_options();
  options.detach_grace = milliseconds(30);
  const TestNode node(options, {.context = 4096, .blocks = 1024, .latency = device().latency});
  const Reader first(node, kLongBody, "");
  const auto got = first.wait(3);
  ASSERT_GE(got.size(), 3U);
  node.client->cancel(first.handle);
  for (int i = 0; i < 12'000 && at(node.ask("GET", "/health").json(), "running").as_int() != 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(at(node.ask("GET", "/health").json(), "running").as_int(), 0);
  for (const std::string& id : {got[2].id, std::string("nonsense"), std::string("nonsense:1"), got[2].id + "x"}) {
    const Reader late(node, kBody, id);
    late.wait(kAll);
    EXPECT_EQ(late.state->status, 404) << id;
  }
}

}  // namespace
}  // namespace hp

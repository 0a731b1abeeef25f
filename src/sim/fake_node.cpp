#include "sim/fake_node.h"

#include <algorithm>
#include <future>
#include <list>
#include <map>
#include <unordered_map>

#include "base/hash.h"
#include "base/json.h"
#include "net/event_loop.h"
#include "net/http_server.h"
#include "sim/fake_stream.h"

namespace hp {
namespace {
using net::HttpRequest;
using Writer = std::shared_ptr<net::ResponseWriter>;
using std::chrono::milliseconds;

constexpr milliseconds kTick{2};

// The stream to look at first is at the front of the heap.
constexpr auto kLater = [](const auto& a, const auto& b) { return a->look_at > b->look_at; };

class Node final : public FakeNode {
 public:
  explicit Node(FakeNodeOptions options) : options_(std::move(options)), loop_(net::EventLoop::create()) {}
  ~Node() override {
    server_.reset();
    loop_.reset();
  }
  Status listen(MetricsRegistry& metrics) {
    net::ServerOptions server{.address = options_.address, .port = options_.port, .loop = loop_.get()};
    server.max_connections = options_.max_streams + 1000;
    HP_TRY(server_,
           net::HttpServer::start(
               server, [this](HttpRequest request, Writer writer) { handle(std::move(request), writer); }, metrics));
    loop_->post([this] { tick(); });
    return {};
  }
  [[nodiscard]] std::uint16_t port() const override { return server_->port(); }

  FakeNodeStats stats() override {
    std::promise<FakeNodeStats> result;
    loop_->post([&] { result.set_value(stats_); });
    return result.get_future().get();
  }

  void fault(std::string_view kind, milliseconds duration, double factor) override {
    loop_->post([this, kind = std::string(kind), duration, factor] {
      if (kind == "none") {
        faults_.clear();
      } else if (kind == "cut") {
        for (auto& stream : streams_) stream->writer.reset();  // an unfinished stream can only be cut
        streams_.clear();
        stats_.open = 0;
      } else {
        faults_[kind] = clock_.now() + duration;
        factor_ = factor;
      }
    });
  }

 private:
  bool under(const std::string& kind) {
    const auto found = faults_.find(kind);
    return found != faults_.end() && clock_.now() < found->second;
  }

  static void send(const Writer& writer, int status, std::string body, net::Headers headers = {}) {
    writer->send({.status = status, .headers = std::move(headers), .body = std::move(body)});
  }

  void handle(HttpRequest request, const Writer& writer) {
    if (request.path == "/health") return send(writer, 200, "{}");
    if (request.path == "/ready")
      return under("drain") ? send(writer, 503, R"({"status":"draining"})")
                            : send(writer, 200, R"({"status":"ready"})");
    if (request.path == "/v1/models")
      return send(writer, 200, api::models_list(std::vector{options_.model}, 0),
                  {{"Homeport-Identity", options_.identity}});
    if (request.path == "/stats") return send(writer, 200, stats_json());
    if (request.path == "/v1/embeddings")  // answered at once: what a proxy in front of it costs shows
      return send(writer, 200, R"({"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}]})");
    if (request.path == "/fault") return on_fault_request(request, writer);
    if (request.path != "/v1/chat/completions" && request.path != "/v1/completions") return send(writer, 404, "{}");
    ++stats_.requests;
    const char* const message = R"({"error":{"message":"injected"}})";
    if (under("error")) return send(writer, 500, message);
    if (under("busy") || stats_.open >= options_.max_streams) return send(writer, 429, message, {{"Retry-After", "1"}});
    if (under("unavailable")) return send(writer, 503, message);
    if (under("bad")) return send(writer, 400, message);
    auto parsed = parse_fake_request(request, options_.model);
    if (!parsed) {
      ++stats_.refused;
      return send(writer, api::http_status(parsed.error().code), api::error_body(parsed.error()));
    }
    admit(*std::move(parsed), writer);
  }

  void on_fault_request(const HttpRequest& request, const Writer& writer) {
    const auto body = JsonValue::parse(request.body);
    const JsonValue* kind = body ? body->find("kind") : nullptr;
    if (kind == nullptr || kind->as_string() == nullptr) return send(writer, 400, "{}");
    const JsonValue* ms = body->find("ms");
    const JsonValue* factor = body->find("factor");
    fault(*kind->as_string(), milliseconds(ms != nullptr ? ms->as_int().value_or(0) : 0),
          factor != nullptr ? factor->as_double().value_or(10) : 10);
    send(writer, 200, "{}");
  }

  void admit(FakeStream stream, const Writer& writer) {
    stream.journal = stream.journal && options_.journal;
    stream.writer = writer;
    if (stream.resumed_tokens > 0) ++stats_.resumes;
    const std::int64_t blocks = count_cached(stream);
    const auto uncached = stream.prompt_tokens - blocks * static_cast<std::int64_t>(kFakeBlockBytes / 4);
    stream.due =
        clock_.now() + options_.prefill_per_token * std::max<std::int64_t>(0, uncached + stream.resumed_tokens);
    ++stats_.open;
    stats_.peak = std::max(stats_.peak, stats_.open);
    auto held = std::make_shared<FakeStream>(std::move(stream));
    writer->on_disconnect([this, weak = std::weak_ptr(held)] {
      const auto s = weak.lock();
      if (!s || std::exchange(s->gone, true)) return;
      ++stats_.cancelled;
      --stats_.open;
      s->writer.reset();
    });
    look_later(std::move(held));
  }

  void look_later(std::shared_ptr<FakeStream> stream) {
    stream->look_at = beats(*stream) ? std::min(stream->due, stream->heartbeat_due) : stream->due;
    streams_.push_back(std::move(stream));
    std::ranges::push_heap(streams_, kLater);
  }

  [[nodiscard]] bool beats(const FakeStream& stream) const {
    return options_.heartbeat.count() > 0 && stream.journal && stream.stream;
  }

  // Whole blocks of the prompt that were seen before, as a prefix tree would find them.
  std::int64_t count_cached(const FakeStream& stream) {
    std::int64_t cached = 0;
    bool chain = true;
    Hash128 hash;
    const auto bytes = std::as_bytes(std::span(stream.prompt.data(), stream.prompt.size()));
    for (std::size_t at = 0; at + kFakeBlockBytes <= bytes.size(); at += kFakeBlockBytes) {
      hash = hash128_chain(hash, bytes.subspan(at, kFakeBlockBytes));
      ++stats_.prompt_blocks;
      const auto found = blocks_.find(hash);
      if (found != blocks_.end()) {
        if (chain) ++cached;
        recent_.splice(recent_.begin(), recent_, found->second);
        continue;
      }
      chain = false;
      recent_.push_front(hash);
      blocks_[hash] = recent_.begin();
      if (blocks_.size() > options_.cached_blocks) {
        blocks_.erase(recent_.back());
        recent_.pop_back();
      }
    }
    stats_.cached_blocks += static_cast<std::uint64_t>(cached);
    return cached;
  }

  void tick() {
    const TimePoint now = clock_.now();
    const bool stalled = under("stall");
    if (!stalled && !streams_.empty()) ++progress_;
    const double slow = under("slow") ? factor_ : 1;
    std::vector<std::shared_ptr<FakeStream>> waiting;
    while (!streams_.empty() && streams_.front()->look_at <= now) {
      std::ranges::pop_heap(streams_, kLater);
      auto stream = std::move(streams_.back());
      streams_.pop_back();
      if (stream->gone) continue;
      if (serve(*stream, now, stalled, slow))
        --stats_.open;
      else
        waiting.push_back(std::move(stream));
    }
    for (auto& stream : waiting) look_later(std::move(stream));
    loop_->after(kTick, [this] { tick(); });
  }

  void begin(FakeStream& stream) {
    if (!stream.begun && stream.stream) stream.writer->begin_stream(200, {}, "text/event-stream");
    stream.begun = true;
  }

  // True when the answer is complete.
  bool serve(FakeStream& stream, TimePoint now, bool stalled, double slow) {
    if (stalled || now < stream.due) {
      if (beats(stream) && now >= stream.heartbeat_due) {
        begin(stream);
        stream.writer->write(fmt::format(": progress {}\n\n", progress_));
        stream.heartbeat_due = now + options_.heartbeat;
      }
      return false;
    }
    begin(stream);
    bool done = false;
    const std::string bytes = stream.step(done);
    ++stats_.tokens;
    stream.due = std::max(stream.due + std::chrono::duration_cast<Duration>(options_.token_pace * slow),
                          now - std::chrono::seconds(1));
    stream.heartbeat_due = now + options_.heartbeat;
    if (stream.stream) stream.writer->write(bytes);
    if (!done) return false;
    if (stream.stream) {
      stream.writer->end();
    } else {
      send(stream.writer, 200, stream.whole());
    }
    return true;
  }

  std::string stats_json() {
    return fmt::format(
        R"({{"requests":{},"resumes":{},"refused":{},"tokens":{},"open":{},"peak":{},"prompt_blocks":{},"cached_blocks":{}}})",
        stats_.requests, stats_.resumes, stats_.refused, stats_.tokens, stats_.open, stats_.peak, stats_.prompt_blocks,
        stats_.cached_blocks);
  }

  FakeNodeOptions options_;
  SteadyClock clock_;
  std::unique_ptr<net::EventLoop> loop_;
  std::unique_ptr<net::HttpServer> server_;
  // The rest belongs to the loop.
  std::vector<std::shared_ptr<FakeStream>> streams_;  // a heap by look_at; may hold some that are gone
  std::map<std::string, TimePoint> faults_;
  double factor_ = 10;
  std::uint64_t progress_ = 0;
  FakeNodeStats stats_;
  std::list<Hash128> recent_;
  std::unordered_map<Hash128, std::list<Hash128>::iterator> blocks_;
};

}  // namespace

Result<std::unique_ptr<FakeNode>> FakeNode::start(const FakeNodeOptions& options, MetricsRegistry& metrics) {
  auto node = std::make_unique<Node>(options);
  HP_TRY_VOID(node->listen(metrics));
  return std::unique_ptr<FakeNode>(std::move(node));
}

}  // namespace hp

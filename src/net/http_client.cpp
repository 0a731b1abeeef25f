// The client's loop, its exchanges and its kept connections. What happens in one exchange is client_exchange.cpp's.
// Does no redirects.
#include "net/http_client.h"

#include <boost/asio/post.hpp>
#include <future>
#include <unordered_map>

#include "net/client_exchange.h"
#include "net/limits.h"

namespace hp::net {
namespace {
namespace asio = boost::asio;

class LoopClient final : public HttpClient, public ExchangeHost {
 public:
  explicit LoopClient(std::unique_ptr<AsioLoop> own) : own_(std::move(own)), loop_(*own_) { start_sweeping(); }
  explicit LoopClient(AsioLoop& loop) : loop_(loop) { start_sweeping(); }
  ~LoopClient() override {
    loop_.run_and_wait([this] {
      stopping_ = true;
      loop_.cancel(sweeper_);
      const auto all = exchanges_;
      for (const auto& [handle, exchange] : all)
        exchange->finish(fail(ErrorCode::cancelled, "the HTTP client is shutting down"));
      for (auto& [peer, wires] : idle_)
        for (auto& wire : wires) close(*wire);
      idle_.clear();
    });
  }
  LoopClient(const LoopClient&) = delete;
  LoopClient& operator=(const LoopClient&) = delete;

  Handle start(ClientRequest request, ClientCallbacks callbacks) override {
    const Handle handle = next_++;
    auto exchange = std::make_shared<Exchange>(*this, handle, std::move(request), std::move(callbacks));
    auto begin = [this, handle, exchange = std::move(exchange)] {
      if (stopping_) return exchange->finish(fail(ErrorCode::cancelled, "the HTTP client is shutting down"));
      exchanges_.emplace(handle, exchange);
      exchange->begin();
    };
    if (loop_.inside()) {
      begin();
    } else {
      asio::post(loop_.io(), std::move(begin));
    }
    return handle;
  }

  void cancel(Handle handle) override {
    asio::post(loop_.io(), [this, handle] {
      const auto found = exchanges_.find(handle);
      if (found == exchanges_.end()) return;
      const auto exchange = found->second;
      exchange->finish(fail(ErrorCode::cancelled, "the request was cancelled"));
    });
  }

  [[nodiscard]] std::size_t connections() const override { return static_cast<std::size_t>(connections_.load()); }

 private:
  // Called by exchanges, on the loop.
  AsioLoop& loop() override { return loop_; }

  std::shared_ptr<Wire> take_idle(const std::string& peer) override {
    const auto found = idle_.find(peer);
    if (found == idle_.end()) return nullptr;
    auto& wires = found->second;
    while (!wires.empty()) {
      auto wire = std::move(wires.back());  // the one used last is the least likely to be closed
      wires.pop_back();
      if (!wire->dead) return wire;
      --connections_;
    }
    return nullptr;
  }

  void give_back(const std::string& peer, std::shared_ptr<Wire> wire) override {
    auto& wires = idle_[peer];
    if (stopping_ || wire->dead || wires.size() >= kMaxIdlePerPeer) return close(*wire);
    wire->idle_since = std::chrono::steady_clock::now();
    wire->wait();
    wires.push_back(std::move(wire));
  }

  void finished(Handle handle) override { exchanges_.erase(handle); }
  void count_connections(int change) override { connections_ += change; }

  void close(Wire& wire) {
    wire.dead = true;
    boost::system::error_code ignored;
    wire.socket.close(ignored);
    --connections_;
  }

  void start_sweeping() {
    sweeper_ = loop_.after(kIdleSweep, [this] {
      const auto oldest = std::chrono::steady_clock::now() - kMaxIdleAge;
      for (auto& [peer, wires] : idle_)
        std::erase_if(wires, [&](const std::shared_ptr<Wire>& wire) {
          const bool stale = wire->dead || wire->idle_since < oldest;
          if (stale) close(*wire);
          return stale;
        });
      std::erase_if(idle_, [](const auto& entry) { return entry.second.empty(); });
      if (!stopping_) start_sweeping();
    });
  }

  std::unique_ptr<AsioLoop> own_;  // first: destroyed last
  AsioLoop& loop_;
  std::unordered_map<Handle, std::shared_ptr<Exchange>> exchanges_;           // loop only
  std::unordered_map<std::string, std::vector<std::shared_ptr<Wire>>> idle_;  // loop only
  std::atomic<EventLoop::Timer> sweeper_{0};
  bool stopping_ = false;  // loop only
  std::atomic<Handle> next_{1};
  std::atomic<std::int64_t> connections_{0};
};

}  // namespace

std::unique_ptr<HttpClient> HttpClient::create() {
  return std::make_unique<LoopClient>(std::make_unique<AsioLoop>());
}

std::unique_ptr<HttpClient> HttpClient::create(EventLoop& loop) {
  return std::make_unique<LoopClient>(dynamic_cast<AsioLoop&>(loop));
}

Result<HttpResponse> HttpClient::fetch(ClientRequest request) {
  HttpResponse response;
  std::promise<Status> done;
  start(std::move(request), {.on_headers =
                                 [&](int status, const Headers& headers) {
                                   response.status = status;
                                   response.headers = headers;
                                   for (const auto& [name, value] : headers)
                                     if (name == "content-type") response.content_type = value;
                                 },
                             .on_data = [&](std::string_view bytes) { response.body += bytes; },
                             .on_done = [&](Status outcome) { done.set_value(std::move(outcome)); }});
  HP_TRY_VOID(done.get_future().get());
  return response;
}

}  // namespace hp::net

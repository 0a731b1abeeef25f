// The only file that sees hiredis. Its synchronous calls are not used: they have no limit over a whole exchange.
#include "store/redis.h"

#include <hiredis/hiredis.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/log.h"

namespace hp::store {
namespace {
using Clock = std::chrono::steady_clock;

constexpr std::array kSeconds{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1};

struct CloseContext {
  void operator()(redisContext* context) const { redisFree(context); }
};
struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Context = std::unique_ptr<redisContext, CloseContext>;

struct Command {
  std::vector<std::string> words;
  ReplyHandler on_reply;
  std::size_t bytes = 0;
};

struct Address {
  std::string host;  // or "unix:/path"
  int port = 0;
};

Result<Address> parse_address(const std::string& text) {
  if (text.starts_with("unix:/")) return Address{.host = text.substr(5)};
  const auto colon = text.rfind(':');
  Address address{.host = text.substr(0, colon)};
  const std::string_view port =
      colon == std::string::npos ? std::string_view() : std::string_view(text).substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc() || end != port.data() + port.size() || address.port < 1 || address.port > 65535 ||
      address.host.empty())
    return fail(ErrorCode::invalid_argument, "expected host:port or unix:/path as the address of Redis, found '{}'",
                text);
  return address;
}

Reply convert(const redisReply& from) {
  Reply reply;
  const auto text = [&] { return std::string(from.str, from.len); };
  switch (from.type) {
    case REDIS_REPLY_INTEGER:
      reply.kind = Reply::Kind::integer;
      reply.integer = from.integer;
      break;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
      reply.kind = Reply::Kind::text;
      reply.text = text();
      break;
    case REDIS_REPLY_ARRAY:
      reply.kind = Reply::Kind::list;
      for (std::size_t i = 0; i < from.elements; ++i) reply.list.push_back(convert(*from.element[i]));
      break;
    default:
      break;
  }
  return reply;
}

// True when the socket became usable. A thread that got no processor in time looks once more before it blames the peer.
bool wait_for(int fd, short events, Clock::time_point until) {
  pollfd watched{.fd = fd, .events = events, .revents = 0};
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now()).count();
    const int ready = ::poll(&watched, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready > 0) return true;
    if (ready == 0 && left <= 0) return false;
  }
}

class Connection {
 public:
  /// `answer_within`: a server that says hello later than a command may last would come and go for ever.
  Status open(const Address& address, const std::string& password, milliseconds connect_within,
              milliseconds answer_within) {
    const auto connected_by = Clock::now() + connect_within;
    context_.reset(address.port == 0 ? redisConnectUnixNonBlock(address.host.c_str())
                                     : redisConnectNonBlock(address.host.c_str(), address.port));
    if (!context_) return fail(ErrorCode::internal, "no memory for a connection");
    if (context_->err != 0) return broken();
    context_->reader->maxbuf = 64 << 10;
    if (!wait_for(context_->fd, POLLOUT, connected_by))
      return fail(ErrorCode::deadline_exceeded, "it takes no connection");
    const auto until = Clock::now() + answer_within;
    std::vector<std::vector<std::string>> hello;
    if (!password.empty()) hello.push_back({"AUTH", password});
    hello.push_back({"PING"});
    for (const auto& words : hello) HP_TRY_VOID(append(words));
    HP_TRY_VOID(flush(until));
    for (std::size_t i = 0; i < hello.size(); ++i) {
      HP_TRY(const auto reply, read(until));
      if (reply->type == REDIS_REPLY_ERROR) return fail(ErrorCode::unavailable, "it says '{}'", reply->str);
    }
    return {};
  }
  void close() { context_.reset(); }
  [[nodiscard]] bool is_open() const { return context_ != nullptr; }

  Status append(const std::vector<std::string>& words) {
    std::vector<const char*> text;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
      text.push_back(word.data());
      sizes.push_back(word.size());
    }
    if (redisAppendCommandArgv(context_.get(), static_cast<int>(words.size()), text.data(), sizes.data()) != REDIS_OK)
      return broken();
    return {};
  }
  Status flush(Clock::time_point until) {
    for (int done = 0; done == 0;) {
      if (redisBufferWrite(context_.get(), &done) != REDIS_OK) return broken();
      if (done == 0 && !wait_for(context_->fd, POLLOUT, until))
        return fail(ErrorCode::deadline_exceeded, "it takes no bytes in time");
    }
    return {};
  }
  Result<std::unique_ptr<redisReply, FreeReply>> read(Clock::time_point until) {
    for (;;) {
      void* reply = nullptr;
      if (redisGetReplyFromReader(context_.get(), &reply) != REDIS_OK) return broken();
      if (reply != nullptr) return std::unique_ptr<redisReply, FreeReply>(static_cast<redisReply*>(reply));
      if (!wait_for(context_->fd, POLLIN, until))
        return fail(ErrorCode::deadline_exceeded, "it does not answer in time");
      if (redisBufferRead(context_.get()) != REDIS_OK) return broken();
    }
  }

 private:
  [[nodiscard]] tl::unexpected<Error> broken() const {
    return fail(ErrorCode::unavailable, "{}", context_->errstr[0] != '\0' ? context_->errstr : "the connection broke");
  }
  Context context_;
};

class HiredisStore final : public Redis {
 public:
  HiredisStore(RedisOptions options, Address address, MetricsRegistry& r)
      : options_(std::move(options)),
        address_(std::move(address)),
        up_(r.gauge("homeport_redis_up", "1: Redis answers")),
        commands_(r.counter("homeport_redis_commands_total", "Commands that Redis answered")),
        failures_(r.counter("homeport_redis_failures_total", "Commands that failed: away, too late or queue full")),
        changes_(r.counter("homeport_redis_state_changes_total", "Times that Redis went away or came back")),
        seconds_(r.histogram("homeport_redis_exchange_seconds", "One pipelined exchange", kSeconds)),
        thread_([this] { run(); }) {}
  ~HiredisStore() override { HiredisStore::stop(); }
  HiredisStore(const HiredisStore&) = delete;
  HiredisStore& operator=(const HiredisStore&) = delete;

  [[nodiscard]] bool available() const override { return here_.load(std::memory_order_relaxed); }

  [[nodiscard]] bool late() const override { return late_exchanges_.load(std::memory_order_relaxed) >= kLateRun; }

  void send(std::vector<std::string> words, ReplyHandler on_reply) override {
    Command command{.words = std::move(words), .on_reply = std::move(on_reply)};
    for (const std::string& word : command.words) command.bytes += word.size() + 32;
    {
      const std::lock_guard lock(mutex_);
      if (here_ && !stopping_ && queue_.size() < kMaxQueuedCommands &&
          queued_bytes_ + command.bytes <= kMaxQueuedBytes) {
        queued_bytes_ += command.bytes;
        queue_.push_back(std::move(command));
        if (queue_.size() == 1) wake_.notify_one();
        return;
      }
    }
    refuse(command, "Redis is away or overloaded");
  }

  void stop() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    const std::lock_guard lock(join_mutex_);
    if (thread_.joinable()) thread_.join();
  }

 private:
  void refuse(const Command& command, std::string_view why) {
    failures_.add();
    if (command.on_reply) command.on_reply(fail(ErrorCode::unavailable, "{}", why));
  }

  void run() {
    while (connect_or_wait()) {
      std::vector<Command> batch;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) break;
        while (!queue_.empty() && batch.size() < kMaxPipelined) {
          queued_bytes_ -= queue_.front().bytes;
          batch.push_back(std::move(queue_.front()));
          queue_.pop_front();
        }
      }
      if (const Status status = exchange(batch); !status) lose(status.error().message);
    }
    lose({});
  }

  // Half of the limit: what was sent during one exchange has its turn in the next.
  [[nodiscard]] milliseconds exchange_time() const { return options_.timeout / 2; }

  Status exchange(std::vector<Command>& batch) {
    const auto begin = Clock::now();
    const auto until = begin + exchange_time();
    std::size_t answered = 0;
    const Status status = [&]() -> Status {
      for (const Command& command : batch) HP_TRY_VOID(connection_.append(command.words));
      HP_TRY_VOID(connection_.flush(until));
      for (; answered < batch.size(); ++answered) {
        HP_TRY(const auto reply, connection_.read(until));
        const Command& command = batch[answered];
        commands_.add();
        if (!command.on_reply) continue;
        if (reply->type == REDIS_REPLY_ERROR)
          command.on_reply(
              fail(ErrorCode::invalid_argument, "Redis says '{}'", std::string_view(reply->str, reply->len)));
        else
          command.on_reply(convert(*reply));
      }
      return {};
    }();
    const auto taken = Clock::now() - begin;
    seconds_.observe(std::chrono::duration<double>(taken).count());
    late_exchanges_ = taken > kLate ? std::min(kLateRun, late_exchanges_ + 1) : 0;
    if (!status)
      for (; answered < batch.size(); ++answered) refuse(batch[answered], status.error().message);
    return status;
  }

  // False when it is time to stop.
  bool connect_or_wait() {
    while (!connection_.is_open()) {
      const Status status = connection_.open(address_, options_.password, options_.timeout, exchange_time());
      if (status) {
        const std::lock_guard lock(mutex_);
        here_ = true;
        break;
      }
      connection_.close();
      say(false, status.error().message);
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, pause_, [&] { return stopping_; })) return false;
      pause_ = std::min(kRetryMax, pause_ * 2);
    }
    if (Clock::now() - lost_at_ > 4 * kRetryMax) pause_ = kRetryMin;
    say(true, {});
    return true;
  }

  // Everything that waits fails now. An empty reason: we are stopping.
  void lose(std::string_view why) {
    std::deque<Command> orphans;
    {
      const std::lock_guard lock(mutex_);
      here_ = false;
      orphans.swap(queue_);
      queued_bytes_ = 0;
    }
    connection_.close();
    lost_at_ = Clock::now();
    for (const Command& command : orphans) refuse(command, "Redis went away");
    if (!why.empty()) say(false, why);
  }

  void say(bool here, std::string_view why) {
    if (said_ == (here ? 1 : 0)) return;
    said_ = here ? 1 : 0;
    up_.set(said_);
    changes_.add();
    if (here)
      log::info("redis: {} is here", options_.address);
    else
      log::warn("redis: {} is away: {}; going on without it", options_.address, why);
  }

  const RedisOptions options_;
  const Address address_;
  Gauge& up_;
  Counter &commands_, &failures_, &changes_;
  Histogram& seconds_;
  mutable std::mutex mutex_;
  std::mutex join_mutex_;
  std::condition_variable wake_;
  std::deque<Command> queue_;
  std::size_t queued_bytes_ = 0;
  std::atomic<bool> here_{false};
  std::atomic<int> late_exchanges_{0};  // in a row
  bool stopping_ = false;
  // The rest is the thread's.
  Connection connection_;
  milliseconds pause_ = kRetryMin;
  Clock::time_point lost_at_{};
  int said_ = -1;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<Redis>> Redis::create(RedisOptions options, MetricsRegistry& metrics) {
  HP_TRY(auto address, parse_address(options.address));
  return std::unique_ptr<Redis>(std::make_unique<HiredisStore>(std::move(options), std::move(address), metrics));
}

}  // namespace hp::store

#include "comm/local_ranks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/thread_pool.h"

namespace hp {
namespace {

enum class Verb : std::uint8_t { sum, gather, broadcast, barrier };
constexpr std::string_view kVerbs[] = {"a sum", "a gathering", "a broadcast", "a barrier"};

/// What one rank asks for.
struct Call {
  Verb verb = Verb::barrier;
  WireType type = WireType::f32;
  int root = 0;
  std::size_t count = 0;  ///< elements of a sum, else bytes
  const void* in = nullptr;
  void* out = nullptr;

  [[nodiscard]] bool agrees(const Call& o) const {
    return verb == o.verb && count == o.count && type == o.type && root == o.root;
  }
  [[nodiscard]] std::string words() const {
    return fmt::format("{} of {} {}", kVerbs[static_cast<std::size_t>(verb)], count,
                       verb != Verb::sum       ? fmt::format("bytes from {}", root)
                       : type == WireType::f32 ? "f32"
                                               : "bf16");
  }
};

float value_at(const void* data, WireType type, std::size_t i) {
  if (type == WireType::f32) return static_cast<const float*>(data)[i];
  return std::bit_cast<float>(static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(data)[i]) << 16);
}

std::uint16_t nearest_bf16(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  if (v != v) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/// A call goes: everybody comes (or the group breaks), everybody does its share, everybody has done it. The last part
/// has no limit and no way out, because a share is plain copying in memory that the others must not free meanwhile.
class Group {
 public:
  Group(int world, std::chrono::milliseconds limit) : limit_(limit), calls_(z(world)), came_(z(world)) {}

  Status run(int rank, const Call& call) {
    HP_TRY_VOID(meet(rank, call));
    const Status agreed = agreement();
    if (agreed) do_share(rank);
    done();
    if (!agreed) abort(agreed.error().message);
    return agreed;
  }

  void abort(std::string_view why) {
    const std::lock_guard lock(mutex_);
    if (broken_.empty()) broken_ = why;
    wake_.notify_all();
  }

  [[nodiscard]] int world() const { return static_cast<int>(calls_.size()); }

 private:
  static std::size_t z(int v) { return static_cast<std::size_t>(v); }

  Status meet(int rank, const Call& call) {
    std::unique_lock lock(mutex_);
    if (!broken_.empty()) return fail(ErrorCode::unavailable, "{}", broken_);
    calls_[z(rank)] = call;
    came_[z(rank)] = true;
    const std::uint64_t turn = turn_;
    if (++arrived_ == world()) {
      arrived_ = 0, working_ = world(), ++turn_;
      came_.assign(came_.size(), false);
      wake_.notify_all();
      return {};
    }
    if (!wake_.wait_for(lock, limit_, [&] { return turn_ != turn || !broken_.empty(); })) {
      std::vector<int> absent;
      for (int r = 0; r < world(); ++r)
        if (!came_[z(r)]) absent.push_back(r);
      broken_ =
          fmt::format("rank {} did not come to {} within {} ms", fmt::join(absent, ", "), call.words(), limit_.count());
      wake_.notify_all();
    }
    if (turn_ != turn) return {};  // all had come before it broke
    return fail(ErrorCode::unavailable, "{}", broken_);
  }

  void done() {
    std::unique_lock lock(mutex_);
    const std::uint64_t turn = turn_;
    if (--working_ == 0) {
      wake_.notify_all();
      return;
    }
    wake_.wait(lock, [&] { return working_ == 0 || turn_ != turn; });
  }

  [[nodiscard]] Status agreement() const {
    for (std::size_t r = 1; r < calls_.size(); ++r)
      if (!calls_[r].agrees(calls_[0]))
        return fail(ErrorCode::internal, "rank {} calls {}, rank 0 calls {}", r, calls_[r].words(), calls_[0].words());
    return {};
  }

  void do_share(int rank) const {
    const Call& own = calls_[z(rank)];
    switch (own.verb) {
      case Verb::sum:
        return sum(rank);
      case Verb::gather:
        for (std::size_t r = 0; r < calls_.size(); ++r)
          std::memcpy(static_cast<std::byte*>(own.out) + r * own.count, calls_[r].in, own.count);
        return;
      case Verb::broadcast:
        if (rank != own.root) std::memcpy(own.out, calls_[z(own.root)].in, own.count);
        return;
      case Verb::barrier:
        return;
    }
  }

  /// A rank sums its share of the elements and writes it to everybody: nobody else reads or writes those.
  void sum(int rank) const {
    const Call& own = calls_[z(rank)];
    const Range share = split_range(own.count, rank, world(), 16);
    for (std::size_t i = share.begin; i < share.end; ++i) {
      float total = value_at(calls_[0].in, own.type, i);
      for (std::size_t r = 1; r < calls_.size(); ++r) total += value_at(calls_[r].in, own.type, i);
      for (const Call& c : calls_) {
        if (own.type == WireType::f32) {
          static_cast<float*>(c.out)[i] = total;
        } else {
          static_cast<std::uint16_t*>(c.out)[i] = nearest_bf16(total);
        }
      }
    }
  }

  const std::chrono::milliseconds limit_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::string broken_;       ///< why; empty while the group is whole
  std::uint64_t turn_ = 0;   ///< calls that all have come to
  int arrived_ = 0;          ///< at the call under way
  int working_ = 0;          ///< that have not done their share of the call under way
  std::vector<Call> calls_;  ///< written before the last comes, read until all are done
  std::vector<bool> came_;
};

class LocalRank final : public Communicator {
 public:
  LocalRank(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  ~LocalRank() override { group_->abort(fmt::format("rank {} has left", rank_)); }
  LocalRank(const LocalRank&) = delete;
  LocalRank& operator=(const LocalRank&) = delete;

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int world() const override { return group_->world(); }
  Status all_reduce_sum(void* data, std::size_t count, WireType type) override {
    return group_->run(rank_, {.verb = Verb::sum, .type = type, .count = count, .in = data, .out = data});
  }
  Status all_gather(const void* in, void* out, std::size_t bytes) override {
    return group_->run(rank_, {.verb = Verb::gather, .count = bytes, .in = in, .out = out});
  }
  Status broadcast(void* data, std::size_t bytes, int root) override {
    HP_CHECK(root >= 0 && root < world(), "root {} of {}", root, world());
    return group_->run(rank_, {.verb = Verb::broadcast, .root = root, .count = bytes, .in = data, .out = data});
  }
  Status barrier() override { return group_->run(rank_, {}); }
  void abort(std::string_view why) override { group_->abort(why); }

 private:
  std::shared_ptr<Group> group_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> local_ranks(int world, std::chrono::milliseconds limit) {
  HP_CHECK(world >= 1, "{} ranks", world);
  const auto group = std::make_shared<Group>(world, limit);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int r = 0; r < world; ++r) ranks.push_back(std::make_unique<LocalRank>(group, r));
  return ranks;
}

}  // namespace hp

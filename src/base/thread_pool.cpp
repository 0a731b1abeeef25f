#include "base/thread_pool.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"

namespace hp {
namespace {

constexpr auto kSpin = std::chrono::microseconds(50);  // longer than a wake-up costs, too short to burn a core
constexpr int kLooksPerClockRead = 16;

/// Lets the other hardware thread run; how long one takes differs tenfold between CPUs, so nobody counts them.
void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

using Clock = std::chrono::steady_clock;

thread_local Clock::duration spun{};  ///< what this thread has spent in looking at words

/// Waits until `word` differs from `old`; returns the new value.
std::uint32_t wait_change(const std::atomic<std::uint32_t>& word, std::uint32_t old) {
  const auto start = Clock::now();
  auto last = start;
  do {
    for (int i = 0; i < kLooksPerClockRead; ++i) {
      const std::uint32_t now = word.load(std::memory_order_acquire);
      if (now != old) {
        spun += last - start;
        return now;
      }
      pause_cpu();
    }
    last = Clock::now();
  } while (last - start < kSpin);
  spun += last - start;
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

/// Processor time of this thread.
std::chrono::nanoseconds processor_time() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

struct alignas(64) MemberState {
  std::atomic<std::uint32_t> epoch{0};  ///< a new value starts a run
  std::chrono::nanoseconds work{};      ///< in the last fitting run
};

}  // namespace

struct ParallelTeam::Shared {
  explicit Shared(int size) : members(static_cast<std::size_t>(size)) {}
  std::vector<MemberState> members;
  alignas(64) std::atomic<std::uint32_t> arrived{0};     // members at the barrier
  alignas(64) std::atomic<std::uint32_t> generation{0};  // a new value opens the barrier
  const std::function<void(int)>* body = nullptr;
  bool stopping = false;
};

ParallelTeam::ParallelTeam(int size)
    : size_(size), active_(size), fitting_(size), shared_(std::make_unique<Shared>(size)) {
  HP_CHECK(size >= 1, "a team of {}", size);
  for (int member = 1; member < size; ++member) {
    threads_.emplace_back([this, member] {
      std::uint32_t epoch = 0;
      for (;;) {
        epoch = wait_change(shared_->members[static_cast<std::size_t>(member)].epoch, epoch);
        if (shared_->stopping) return;
        (*shared_->body)(member);
        barrier();
      }
    });
  }
}

ParallelTeam::~ParallelTeam() {
  shared_->stopping = true;
  for (MemberState& m : shared_->members) {
    m.epoch.fetch_add(1, std::memory_order_release);
    m.epoch.notify_all();
  }
}

void ParallelTeam::run(int members, const std::function<void(int member)>& body) {
  active_ = members;
  shared_->body = &body;
  for (int member = 1; member < members; ++member) {
    std::atomic<std::uint32_t>& epoch = shared_->members[static_cast<std::size_t>(member)].epoch;
    epoch.fetch_add(1, std::memory_order_release);
    epoch.notify_all();
  }
  body(0);
  barrier();
}

void ParallelTeam::run_fitting(const std::function<void(int member)>& body) {
  const auto start = Clock::now();
  const int members = fitting_.members();
  run(members, [&](int member) {
    const auto before = processor_time();
    const auto spun_before = spun;
    body(member);
    shared_->members[static_cast<std::size_t>(member)].work = processor_time() - before - (spun - spun_before);
  });
  std::chrono::nanoseconds work{};
  for (int m = 0; m < members; ++m) work += shared_->members[static_cast<std::size_t>(m)].work;
  const auto end = Clock::now();
  fitting_.ran(end.time_since_epoch(), end - start, std::max(work, std::chrono::nanoseconds{}));
}

void ParallelTeam::barrier() {
  const auto members = static_cast<std::uint32_t>(active_);  // the next run may write it once the last has come
  if (members == 1) return;
  Shared& s = *shared_;
  const std::uint32_t generation = s.generation.load(std::memory_order_acquire);
  if (s.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
    s.arrived.store(0, std::memory_order_relaxed);
    s.generation.fetch_add(1, std::memory_order_release);
    s.generation.notify_all();
    return;
  }
  wait_change(s.generation, generation);
}

Range split_range(std::size_t count, int member, int members, std::size_t grain) {
  const std::size_t grains = (count + grain - 1) / grain;
  const auto m = static_cast<std::size_t>(member), n = static_cast<std::size_t>(members);
  return {std::min(count, grains * m / n * grain), std::min(count, grains * (m + 1) / n * grain)};
}

TaskQueue::TaskQueue(int threads, std::size_t max_queued) : max_queued_(max_queued) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
}

TaskQueue::~TaskQueue() {
  for (std::jthread& thread : threads_) thread.request_stop();
  threads_.clear();
}

bool TaskQueue::try_post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (tasks_.size() >= max_queued_) return false;
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
  return true;
}

std::size_t TaskQueue::queued() const {
  const std::lock_guard lock(mutex_);
  return tasks_.size();
}

void TaskQueue::work(const std::stop_token& stop) {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      if (!wake_.wait(lock, stop, [this] { return !tasks_.empty(); })) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace hp

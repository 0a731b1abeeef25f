#include "base/thread_pool.h"

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

/// Waits until `word` differs from `old`; returns the new value.
std::uint32_t wait_change(const std::atomic<std::uint32_t>& word, std::uint32_t old) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kLooksPerClockRead; ++i) {
      const std::uint32_t now = word.load(std::memory_order_acquire);
      if (now != old) return now;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

}  // namespace

struct ParallelTeam::Shared {
  alignas(64) std::atomic<std::uint32_t> epoch{0};       // a new value starts a run
  alignas(64) std::atomic<std::uint32_t> arrived{0};     // members at the barrier
  alignas(64) std::atomic<std::uint32_t> generation{0};  // a new value opens the barrier
  const std::function<void(int)>* body = nullptr;
  bool stopping = false;
};

ParallelTeam::ParallelTeam(int size) : size_(size), shared_(std::make_unique<Shared>()) {
  HP_CHECK(size >= 1, "a team of {}", size);
  for (int member = 1; member < size; ++member) {
    threads_.emplace_back([this, member] {
      std::uint32_t epoch = 0;
      for (;;) {
        epoch = wait_change(shared_->epoch, epoch);
        if (shared_->stopping) return;
        (*shared_->body)(member);
        barrier();
      }
    });
  }
}

ParallelTeam::~ParallelTeam() {
  shared_->stopping = true;
  shared_->epoch.fetch_add(1, std::memory_order_release);
  shared_->epoch.notify_all();
}

void ParallelTeam::run(const std::function<void(int member)>& body) {
  if (size_ > 1) {
    shared_->body = &body;
    shared_->epoch.fetch_add(1, std::memory_order_release);
    shared_->epoch.notify_all();
  }
  body(0);
  barrier();
}

void ParallelTeam::barrier() {
  if (size_ == 1) return;
  Shared& s = *shared_;
  const std::uint32_t generation = s.generation.load(std::memory_order_acquire);
  if (s.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(size_)) {
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

#include "gateway/wait_queue.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace hp::gateway {
namespace {
constexpr int kTurnsBeforeLower = 8;  // then a lower class gets one, so that nobody starves
constexpr double kSmoothing = 0.2;
}  // namespace

std::optional<Priority> parse_priority(std::string_view word) {
  if (word == "high") return Priority::high;
  if (word == "normal") return Priority::normal;
  if (word == "low") return Priority::low;
  return std::nullopt;
}

WaitQueue::Ticket WaitQueue::join(WaitEntry entry) {
  const std::lock_guard lock(mutex_);
  const Ticket ticket = ++last_ticket_;
  Lane& lane = lanes_[entry.model];
  const auto index = static_cast<std::size_t>(entry.priority);
  Tenant& tenant = lane.classes[index][entry.tenant];
  if (tenant.waiting.empty()) tenant.clock = std::max(tenant.clock, lane.clock);  // idle time earns nothing
  tenant.waiting.push_back(ticket);
  ++lane.waiting[index];
  entries_.emplace(ticket, std::move(entry));
  return ticket;
}

void WaitQueue::remove_locked(Ticket ticket) {
  const auto found = entries_.find(ticket);
  HP_CHECK(found != entries_.end(), "ticket {} is not in the queue", ticket);
  const WaitEntry& entry = found->second;
  const auto lane_at = lanes_.find(entry.model);
  Lane& lane = lane_at->second;
  const auto index = static_cast<std::size_t>(entry.priority);
  auto& tenants = lane.classes[index];
  const auto tenant = tenants.find(entry.tenant);
  std::erase(tenant->second.waiting, ticket);
  --lane.waiting[index];
  if (tenant->second.waiting.empty() && tenant->second.clock <= lane.clock) tenants.erase(tenant);
  if (lane.waiting == std::array<std::size_t, kPriorities>{}) lanes_.erase(lane_at);
  entries_.erase(found);
}

void WaitQueue::leave(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  if (entries_.contains(ticket)) remove_locked(ticket);
}

void WaitQueue::served(Ticket ticket, TimePoint now) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(ticket);
  HP_CHECK(found != entries_.end(), "ticket {} is not in the queue", ticket);
  const WaitEntry& entry = found->second;
  Lane& lane = lanes_.find(entry.model)->second;
  const auto index = static_cast<std::size_t>(entry.priority);
  Tenant& tenant = lane.classes[index].find(entry.tenant)->second;
  lane.clock = tenant.clock;
  tenant.clock += static_cast<double>(std::max<std::int64_t>(1, entry.cost_tokens));
  const auto some = [](std::size_t count) { return count > 0; };
  const auto at = lane.waiting.begin() + static_cast<std::ptrdiff_t>(index);
  const bool passed_over = std::any_of(lane.waiting.begin(), at, some);
  lane.turns = !passed_over && std::any_of(at + 1, lane.waiting.end(), some) ? lane.turns + 1 : 0;
  if (lane.last) {
    const double seconds = to_seconds(now - *lane.last);
    lane.interval = lane.interval ? *lane.interval + kSmoothing * (seconds - *lane.interval) : seconds;
  }
  lane.last = now;
  remove_locked(ticket);
}

std::optional<std::size_t> WaitQueue::next_class(const Lane& lane) {
  std::optional<std::size_t> highest;
  for (std::size_t i = 0; i < kPriorities; ++i) {
    if (lane.waiting[i] == 0) continue;
    if (highest && lane.turns >= kTurnsBeforeLower) return i;
    if (!highest) highest = i;
    if (lane.turns < kTurnsBeforeLower) break;
  }
  return highest;
}

std::optional<WaitQueue::Ticket> WaitQueue::next_of(const Lane& lane) {
  const auto index = next_class(lane);
  if (!index) return std::nullopt;
  const Tenant* best = nullptr;
  for (const auto& [name, tenant] : lane.classes[*index]) {
    if (tenant.waiting.empty()) continue;
    if (best == nullptr || tenant.clock < best->clock ||
        (tenant.clock == best->clock && tenant.waiting.front() < best->waiting.front()))
      best = &tenant;
  }
  return best->waiting.front();
}

bool WaitQueue::is_next(Ticket ticket) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(ticket);
  if (found == entries_.end()) return false;
  return next_of(lanes_.find(found->second.model)->second) == ticket;
}

bool WaitQueue::empty(std::string_view model) const {
  const std::lock_guard lock(mutex_);
  return !lanes_.contains(model);
}

std::size_t WaitQueue::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

// Before it come the higher classes, and of its own class no more than its tenant's fair share of turns.
std::optional<Duration> WaitQueue::estimate(const WaitEntry& entry) const {
  const std::lock_guard lock(mutex_);
  const auto found = lanes_.find(entry.model);
  if (found == lanes_.end() || !found->second.interval) return std::nullopt;
  const Lane& lane = found->second;
  const auto index = static_cast<std::size_t>(entry.priority);
  std::size_t ahead = 0, tenants = 1, own = 0;
  for (std::size_t i = 0; i < index; ++i) ahead += lane.waiting[i];
  for (const auto& [name, tenant] : lane.classes[index]) {
    if (name == entry.tenant)
      own = tenant.waiting.size();
    else if (!tenant.waiting.empty())
      ++tenants;
  }
  ahead += std::min(lane.waiting[index], (own + 1) * tenants - 1);
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(*lane.interval * static_cast<double>(ahead + 1)));
}

void WaitQueue::wake_next() const {
  std::vector<std::function<void()>> wakes;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [model, lane] : lanes_)
      if (const auto ticket = next_of(lane)) wakes.push_back(entries_.find(*ticket)->second.wake);
  }
  for (const auto& wake : wakes)
    if (wake) wake();
}

}  // namespace hp::gateway

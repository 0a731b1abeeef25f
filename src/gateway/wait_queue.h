// Who gets the next free place at a node: classes first, then tenants by how much each has been given, then who came
// first. One lane per model. Knows no node and no socket; each entry has a callback that says "try now". Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/clock.h"

namespace hp::gateway {

enum class Priority : std::uint8_t { high, normal, low };
inline constexpr std::size_t kPriorities = 3;
std::optional<Priority> parse_priority(std::string_view word);

struct WaitEntry {
  std::string model, tenant;
  Priority priority = Priority::normal;
  std::int64_t cost_tokens = 1;
  std::function<void()> wake = {};  ///< must only post
};

class WaitQueue {
 public:
  using Ticket = std::uint64_t;

  Ticket join(WaitEntry entry);
  void leave(Ticket ticket);
  /// It got a node: its tenant is charged, the lane's pace is noted.
  void served(Ticket ticket, TimePoint now);
  [[nodiscard]] bool is_next(Ticket ticket) const;
  [[nodiscard]] bool empty(std::string_view model) const;
  [[nodiscard]] std::size_t size() const;
  /// How long an entry that joined now would wait; nothing while the lane's pace is not known.
  [[nodiscard]] std::optional<Duration> estimate(const WaitEntry& entry) const;
  /// A place may have become free.
  void wake_next() const;

 private:
  // Start-time fair queueing: a tenant's clock runs by the tokens it was given; the slowest clock is next.
  struct Tenant {
    std::deque<Ticket> waiting;
    double clock = 0;
  };
  struct Lane {
    std::array<std::map<std::string, Tenant, std::less<>>, kPriorities> classes;
    std::array<std::size_t, kPriorities> waiting{};
    double clock = 0;                ///< of the tenant served last
    int turns = 0;                   ///< since a lower class had one
    std::optional<TimePoint> last;   ///< service, while somebody has been waiting ever since
    std::optional<double> interval;  ///< seconds between two services, smoothed
  };
  [[nodiscard]] static std::optional<std::size_t> next_class(const Lane& lane);
  [[nodiscard]] static std::optional<Ticket> next_of(const Lane& lane);
  void remove_locked(Ticket ticket);

  mutable std::mutex mutex_;
  std::map<std::string, Lane, std::less<>> lanes_;
  std::unordered_map<Ticket, WaitEntry> entries_;
  Ticket last_ticket_ = 0;
};

}  // namespace hp::gateway

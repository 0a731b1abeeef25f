// Who is told what and when: grouping, de-duplication, quiet hours, retry with backoff, heartbeats. State on one
// thread; sending is a function that comes back to it. A channel that is down delays no other one, and loses nothing
// within a day and the limit of its queue.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "ops/collect/cluster_track.h"
#include "ops/notice/channel.h"

namespace hp::ops {

class Notifier {
 public:
  using Done = std::function<void(Status)>;
  /// Starts the sending and returns; `done` comes on this object's thread.
  using Send = std::function<void(const Channel& channel, const std::vector<Notice>& notices, Done done)>;

  Notifier(NoticeOptions options, Send send, MetricsRegistry& metrics);

  void tell(const Notice& notice, const Moment& now);
  /// Sends what is due. `minute_of_day`: local time, for quiet hours.
  void round(const Moment& now, int minute_of_day);
  /// Past every queue, once: for the test button.
  void test(std::string_view channel, const Moment& now, const std::function<void(std::string, Status)>& each);

  [[nodiscard]] std::vector<ChannelView> views() const;
  [[nodiscard]] const NoticeOptions& options() const { return options_; }

 private:
  struct Waiting {
    Notice notice;
    std::int64_t due_ms = 0, since_ms = 0;
  };
  struct Line {
    const Channel* channel = nullptr;
    std::deque<Waiting> queue;
    std::map<std::string, unsigned, std::less<>> told;  // by key: bits of NoticeKind
    std::size_t in_flight = 0;                          // so many of the queue's first are on their way
    int failures = 0;
    std::int64_t retry_ms = 0, heartbeat_ms = 0, now_ms = 0;
    std::string last_error;
    Counter *sent = nullptr, *failed = nullptr, *dropped = nullptr;
  };
  static bool wants(Line& line, const Notice& notice);
  void enqueue(Line& line, const Notice& notice, std::int64_t now_ms);
  void start(Line& line);
  void finished(Line& line, std::size_t count, const Status& status);

  const NoticeOptions options_;
  Send send_;
  std::vector<Line> lines_;  // one per channel, never resized
};

}  // namespace hp::ops

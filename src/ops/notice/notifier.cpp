#include "ops/notice/notifier.h"

#include <algorithm>

#include "base/log.h"
#include "ops/limits.h"

namespace hp::ops {
namespace {

constexpr std::int64_t kFirstRetryMs = 1'000, kLongestRetryMs = 60'000;
constexpr std::size_t kMaxTold = 1'000;

constexpr unsigned bit(NoticeKind kind) {
  return 1u << static_cast<unsigned>(kind);
}

bool ends(NoticeKind kind) {
  return kind == NoticeKind::closed || kind == NoticeKind::message_end;
}

}  // namespace

Notifier::Notifier(NoticeOptions options, Send send, MetricsRegistry& metrics)
    : options_(std::move(options)), send_(std::move(send)) {
  for (const Channel& channel : options_.channels) {
    const Labels labels{{"channel", channel.name}};
    Line& line = lines_.emplace_back();
    line.channel = &channel;
    line.sent = &metrics.counter("homeport_notices_sent_total", "Messages that a channel took", labels);
    line.failed = &metrics.counter("homeport_notices_failed_total", "Attempts that a channel did not take", labels);
    line.dropped =
        &metrics.counter("homeport_notices_dropped_total", "Notices given up after a day or for want of room", labels);
  }
}

/// Whether this channel is to be told; remembers that it was.
bool Notifier::wants(Line& line, const Notice& n) {
  const Channel& c = *line.channel;
  if (n.level > c.level) return false;
  if (!n.role.empty() && std::ranges::find(c.roles, n.role) == c.roles.end()) return false;
  const auto known = line.told.find(n.key);
  const unsigned told = known == line.told.end() ? 0 : known->second;
  if (c.escalation && n.kind != NoticeKind::escalated && told == 0) return false;
  if (ends(n.kind) && told == 0) return false;  // nobody here heard of its beginning
  const bool once = n.kind != NoticeKind::reminder && n.kind != NoticeKind::update;
  if (once && (told & bit(n.kind)) != 0) return false;
  if (ends(n.kind))
    line.told.erase(n.key);
  else
    line.told[n.key] = told | bit(n.kind);
  if (line.told.size() > kMaxTold) line.told.erase(line.told.begin());
  return true;
}

void Notifier::enqueue(Line& line, const Notice& notice, std::int64_t now_ms) {
  if (line.queue.size() >= limits::kMaxNoticeQueue) {
    const auto begin = line.queue.begin() + static_cast<std::ptrdiff_t>(line.in_flight);
    auto victim =
        std::find_if(begin, line.queue.end(), [](const Waiting& w) { return w.notice.kind != NoticeKind::opened; });
    if (victim == line.queue.end()) victim = begin;
    line.queue.erase(victim);
    line.dropped->add();
  }
  line.queue.push_back({.notice = notice, .due_ms = now_ms + options_.group_wait_ms, .since_ms = now_ms});
}

void Notifier::tell(const Notice& notice, const Moment& now) {
  for (Line& line : lines_)
    if (wants(line, notice)) enqueue(line, notice, now.at_ms);
}

void Notifier::round(const Moment& now, int minute_of_day) {
  for (Line& line : lines_) {
    const Channel& c = *line.channel;
    line.now_ms = now.at_ms;
    if (c.heartbeat_ms > 0 && (line.heartbeat_ms == 0 || now.at_ms - line.heartbeat_ms >= c.heartbeat_ms)) {
      line.heartbeat_ms = now.at_ms;
      // One at a time: the newest says all that a heartbeat can say.
      std::erase_if(line.queue,
                    [&](const Waiting& w) { return w.notice.kind == NoticeKind::heartbeat && line.in_flight == 0; });
      Notice beat;
      beat.kind = NoticeKind::heartbeat;
      beat.level = 3;
      beat.key = "watchdog";
      beat.rule = "dead_man";
      beat.at_ms = beat.started_ms = now.wall_ms;
      line.queue.push_back({.notice = std::move(beat), .due_ms = now.at_ms, .since_ms = now.at_ms});
    }
    if (line.in_flight > 0 || now.at_ms < line.retry_ms) continue;
    while (!line.queue.empty() && now.at_ms - line.queue.front().since_ms > limits::kMaxNoticeAgeMs) {
      line.queue.pop_front();
      line.dropped->add();
    }
    const bool quiet = c.quiet.holds(minute_of_day);
    // What is due comes to the front, in its order; what waits for the end of the quiet hours stays behind it.
    const auto due = [&](const Waiting& w) {
      const bool hushed = quiet && w.notice.level > 1 && w.notice.kind != NoticeKind::heartbeat;
      return w.due_ms <= now.at_ms && !hushed;
    };
    std::stable_partition(line.queue.begin(), line.queue.end(), due);
    if (!line.queue.empty() && due(line.queue.front())) start(line);
  }
}

void Notifier::start(Line& line) {
  std::vector<Notice> batch;
  const std::size_t most = may_merge(line.channel->kind) ? limits::kMaxMergedNotices : 1;
  const bool heartbeat = line.queue.front().notice.kind == NoticeKind::heartbeat;
  for (const Waiting& w : line.queue) {
    const bool same = (w.notice.kind == NoticeKind::heartbeat) == heartbeat;
    if (batch.size() >= most || !same || w.due_ms > line.now_ms) break;
    // Level 1 is not held back by a hushed neighbour: a batch is of what is due, and quiet ones were put behind it.
    if (!batch.empty() && w.notice.level > 1 && batch.front().level == 1) break;
    batch.push_back(w.notice);
  }
  line.in_flight = batch.size();
  send_(*line.channel, batch,
        [this, &line, count = batch.size()](const Status& status) { finished(line, count, status); });
}

void Notifier::finished(Line& line, std::size_t count, const Status& status) {
  line.in_flight = 0;
  if (status) {
    line.queue.erase(line.queue.begin(), line.queue.begin() + static_cast<std::ptrdiff_t>(count));
    line.sent->add(static_cast<double>(count));
    if (line.failures > 0) log::info("ops: channel {} takes messages again", line.channel->name);
    line.failures = 0;
    line.last_error.clear();
    line.retry_ms = 0;
    return;
  }
  line.failed->add();
  line.last_error = status.error().message;
  if (line.failures == 0)
    log::warn("ops: channel {}: {}; {} notices wait", line.channel->name, line.last_error, line.queue.size());
  line.retry_ms = line.now_ms + std::min(kLongestRetryMs, kFirstRetryMs << std::min(line.failures, 6));
  ++line.failures;
}

void Notifier::test(std::string_view name, const Moment& now, const std::function<void(std::string, Status)>& each) {
  Notice notice;
  notice.kind = NoticeKind::test;
  notice.key = "homeport-test";
  notice.rule = "test";
  notice.at_ms = notice.started_ms = now.wall_ms;
  for (const Line& line : lines_)
    if (name.empty() || line.channel->name == name)
      send_(*line.channel, {notice},
            [each, channel = line.channel->name](Status status) { each(channel, std::move(status)); });
}

std::vector<ChannelView> Notifier::views() const {
  std::vector<ChannelView> out;
  for (const Line& line : lines_)
    out.push_back({.name = line.channel->name,
                   .kind = std::string(to_string(line.channel->kind)),
                   .sent = static_cast<std::uint64_t>(line.sent->value()),
                   .failed = static_cast<std::uint64_t>(line.failed->value()),
                   .queued = line.queue.size(),
                   .last_error = line.last_error});
  return out;
}

}  // namespace hp::ops

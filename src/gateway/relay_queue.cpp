// A relay that waits: for its turn, for a node, and no longer than its deadline.
#include <algorithm>
#include <cmath>

#include "gateway/answers.h"
#include "gateway/relay.h"

namespace hp::gateway {
namespace {
constexpr milliseconds kNodePoll{50};
constexpr milliseconds kTurnPoll{500};  // who is not next is woken; this is for its limits
constexpr std::int64_t kRetryAfterMax = 3600;

std::int64_t whole_seconds(Duration wait) {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::ceil(to_seconds(wait))), 1, kRetryAfterMax);
}
}  // namespace

WaitEntry Relay::wait_entry() {
  return {.model = peek().model,
          .tenant = stream_->tenant,
          .priority = priority_,
          .cost_tokens = peek().cost_tokens(),
          .wake = [loop = shard_.loop.get(), weak = weak_from_this()] {
            loop->post([weak] {
              if (const auto self = weak.lock(); self && self->ticket_) self->dispatch();
            });
          }};
}

bool Relay::is_late() const {
  return !begun_ && terms_.deadline && core_.clock.now() - started_ > *terms_.deadline;
}

// It would be served, but too late for its client: no node is asked any more.
void Relay::refuse_late() {
  core_.metrics.deadline_expired.add();
  core_.business.timed_out(stream_->tenant, peek().model);
  if (node_) close_attempt();
  retry_in_s_ = whole_seconds(core_.queue.estimate(wait_entry()).value_or(std::chrono::seconds(1)));
  give_up(attempt_ > 0 ? 504 : 503,
          fmt::format("The request's deadline of {} ms has passed.", terms_.deadline->count()));
}

// True: it has its turn. Started streams and repeated requests do not wait in line again.
bool Relay::take_turn() {
  if (begun_ || attempt_ > 0) return true;
  return ticket_ ? core_.queue.is_next(*ticket_) : core_.queue.empty(peek().model);
}

// False: it was refused.
bool Relay::join_queue() {
  if (ticket_ || begun_ || attempt_ > 0) return true;
  WaitEntry entry = wait_entry();
  const auto wait = core_.queue.estimate(entry);
  const Duration left = terms_.deadline ? *terms_.deadline - (core_.clock.now() - started_) : Duration::max();
  const bool full = core_.queue.size() >= core_.options.max_waiting;
  if (full || (wait && *wait > left)) {
    (full ? core_.metrics.queue_full : core_.metrics.deadline_refused).add();
    if (!full) core_.business.timed_out(stream_->tenant, peek().model);
    retry_in_s_ = whole_seconds(wait && !full ? *wait - left : wait.value_or(std::chrono::seconds(1)));
    give_up(503, full ? "Too many requests are waiting; try again later."
                      : "The request would not start before its deadline; try again later.");
    return false;
  }
  ticket_ = core_.queue.join(std::move(entry));
  core_.metrics.waiting.set(static_cast<double>(core_.queue.size()));
  return true;
}

void Relay::leave_queue(bool served) {
  if (!ticket_) return;
  const auto ticket = *std::exchange(ticket_, std::nullopt);
  if (served) {
    core_.queue.served(ticket, core_.clock.now());
    core_.metrics.queued.observe(to_seconds(core_.clock.now() - started_));
  } else {
    core_.queue.leave(ticket);
  }
  core_.metrics.waiting.set(static_cast<double>(core_.queue.size()));
  core_.queue.wake_next();  // perhaps there is room for one more
}

// `busy`: nodes work, but all have as many requests as they may; waiting for them is waiting in line, without a limit
// but the client's own.
void Relay::wait_for_node(bool busy) {
  const TimePoint now = core_.clock.now();
  if (busy) waiting_since_ = now;
  if (!join_queue()) return;
  const auto limit = begun_ ? core_.options.resume_timeout : core_.options.queue_timeout;
  if (now - waiting_since_ > limit) {
    core_.business.timed_out(stream_->tenant, peek().model);
    if (status_ == 429 || status_ == 503) return on_refusal();
    return give_up(503, "No node is ready to take this request; try again later.");
  }
  milliseconds pause = ticket_ && !core_.queue.is_next(*ticket_) ? kTurnPoll : kNodePoll;
  if (!begun_ && terms_.deadline) {
    const auto left = std::chrono::duration_cast<milliseconds>(*terms_.deadline - (now - started_)) + milliseconds(1);
    pause = std::clamp(left, milliseconds(1), pause);
  }
  shard_.loop->cancel(timer_);
  timer_ = shard_.loop->after(pause, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->dispatch();
  });
}

}  // namespace hp::gateway

#include "gateway/core.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>

#include "base/check.h"
#include "store/redis.h"

namespace hp::gateway {
namespace {
constexpr std::array kFirstToken{.005, .01, .025, .05, .1, .25, .5, 1., 2.5, 5., 10., 30., 60., 120.};
constexpr std::array kGap{.005, .01, .025, .05, .1, .25, .5, 1., 2., 3., 5., 10.};

std::string random_authorization() {
  std::array<std::uint64_t, 4> words{};
  HP_CHECK(::getrandom(words.data(), sizeof words, 0) == static_cast<ssize_t>(sizeof words), "no random bytes");
  return fmt::format("Inside {:016x}{:016x}{:016x}{:016x}", words[0], words[1], words[2], words[3]);
}

}  // namespace

GatewayMetrics::GatewayMetrics(MetricsRegistry& r)
    : requests(r.counter("homeport_gateway_requests_total", "Requests that were taken in")),
      streams(r.counter("homeport_gateway_streams_total", "Streams that began")),
      resumes(r.counter("homeport_gateway_resumes_total", "Started streams that went on at another node")),
      stalls(r.counter("homeport_gateway_stalls_total", "Streams that the pace watchdog took from a node")),
      retries(r.counter("homeport_gateway_retries_total", "Requests sent again before their first token")),
      retries_refused(r.counter("homeport_gateway_retries_refused_total", "Retries that the budget did not allow")),
      given_up(r.counter("homeport_gateway_given_up_total", "Requests that ended in an error of the gateway's own")),
      client_gone(r.counter("homeport_gateway_client_gone_total", "Requests whose client left before the end")),
      reattached(r.counter("homeport_gateway_reattached_total", "Streams taken up again by Last-Event-ID")),
      deadline_refused(r.counter("homeport_gateway_deadline_refused_total",
                                 "Requests refused at once: they would not have started before their deadline")),
      deadline_expired(r.counter("homeport_gateway_deadline_expired_total", "Requests ended at their deadline")),
      queue_full(r.counter("homeport_gateway_queue_full_total", "Requests refused because too many were waiting")),
      hedges(r.counter("homeport_gateway_hedges_total", "Late first tokens that a second node was asked for")),
      hedges_won(r.counter("homeport_gateway_hedges_won_total", "Hedges whose second node was first")),
      hedges_refused(r.counter("homeport_gateway_hedges_refused_total", "Hedges that the budget did not allow")),
      prompt_tokens(r.counter("homeport_gateway_prompt_tokens_total", "Prompt tokens, each request once")),
      completion_tokens(r.counter("homeport_gateway_completion_tokens_total", "Reply tokens, each token once")),
      open(r.gauge("homeport_gateway_open_requests", "Requests being served")),
      waiting(r.gauge("homeport_gateway_waiting_requests", "Requests waiting for a node")),
      first_token(
          r.histogram("homeport_gateway_time_to_first_token_seconds", "Request in to first event out", kFirstToken)),
      gap(r.histogram("homeport_gateway_event_gap_seconds", "Pause between two events of a stream", kGap)),
      resume_gap(r.histogram("homeport_gateway_resume_gap_seconds", "Pause that a resumed stream's client saw", kGap)),
      queued(r.histogram("homeport_gateway_queue_seconds", "How long requests that had to wait for a node waited",
                         kFirstToken)) {}

Core::Core(GatewayOptions o, std::unique_ptr<RoutePolicy> policy, std::unique_ptr<store::Redis> store,
           MetricsRegistry& r)
    : options(std::move(o)),
      registry(r),
      metrics(r),
      business(r, options.refusal_phrases),
      nodes(std::move(policy), clock, r, options.hand_back_after),
      redis(std::move(store)),
      streams(options.reattach_ttl, options.reattach_bytes),
      replies(options.replies, redis.get(), clock, r),
      admission(clock, r),
      retry_budget(options.retry_ratio),
      hedging(options.hedge_share),
      inside_authorization(random_authorization()) {
  admission.set_inside(inside_authorization);
  admission.configure(options.tenants);
}

Core::~Core() = default;

}  // namespace hp::gateway

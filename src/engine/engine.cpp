// The step loop. Locking: `mutex` guards the inbox, the cancellations and the published statistics; all else belongs to
// the engine's thread. Preemption, resume and a fresh prompt are one path: a sequence has tokens, some of them
// computed.
#include "engine/engine.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "engine/kv_pool.h"
#include "engine/limits.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/validate_request.h"

namespace hp {

struct Engine::State {
  using Sequences = std::vector<std::unique_ptr<Sequence>>;

  State(std::unique_ptr<Executor> e, EventSink& s, const EngineOptions& o, const Clock& c)
      : executor(std::move(e)),
        info(executor->info()),
        sink(s),
        options(o),
        clock(c),
        pool(info.blocks),
        cache(pool, info.block_tokens, o.prefix_cache) {
    options.max_step_tokens = std::min(o.max_step_tokens, info.max_step_tokens);
    options.max_running = std::min({o.max_running, info.max_logit_rows, options.max_step_tokens});
    HP_CHECK(options.max_running > 0, "max_running, max_step_tokens and the executor's limits must be positive");
    published.blocks_total = info.blocks;
    stats = published;
  }

  void loop();
  void take_inbox();
  void accept(EngineRequest request);
  void apply_cancels();
  void apply_deadlines();
  void finish(Sequences& from, std::size_t i, FinishReason reason);
  void finish_all(FinishReason reason);
  void preempt(const StepPlan& plan);
  void admit_waiting(StepPlan& plan, const StepLimits& limits);
  [[nodiscard]] bool held_back(const Sequence& s) const;
  void attach(Sequence& s);
  void detach(Sequence& s);
  [[nodiscard]] RunningView view(const Sequence& s) const;
  void step();
  Status run(const StepPlan& plan);
  void index_full_blocks(Sequence& s);
  void sample(Sequence& s, std::span<const float> logits);
  void publish();

  std::unique_ptr<Executor> executor;
  const ExecutorInfo info;
  EventSink& sink;
  EngineOptions options;
  const Clock& clock;

  std::mutex mutex;
  std::condition_variable wake;
  std::vector<EngineRequest> inbox;
  std::int32_t inbox_sequences = 0;
  std::vector<std::pair<RequestId, std::int32_t>> cancels;
  bool stopping = false;
  bool lost = false;  ///< the executor failed: nothing can run any more
  EngineStats published;

  KvPool pool;
  PrefixCache cache;
  Sequences waiting;  ///< by rank
  Sequences running;
  std::vector<std::pair<Sequence*, FinishReason>> ended;
  std::vector<TokenEvent> events;
  std::uint64_t arrivals = 0;
  EngineStats stats;
  std::thread thread;
};

void Engine::State::accept(EngineRequest request) {
  auto constraints = std::move(request.constraints);
  request.constraints.clear();
  const auto shared = std::make_shared<const EngineRequest>(std::move(request));
  for (std::int32_t c = 0; c < shared->choices; ++c) {
    auto s = std::make_unique<Sequence>();
    s->request = shared;
    s->choice = c;
    s->rank = {.priority = shared->priority, .arrival = arrivals++};
    s->tokens = shared->prompt;
    const auto at = static_cast<std::size_t>(c);
    if (!constraints.empty()) s->constraint = std::move(constraints[at]);
    if (!shared->generated.empty())
      for (const TokenId t : shared->generated[at]) {
        s->tokens.push_back(t);
        if (s->constraint) s->constraint->accept(t);
      }
    const bool done = !s->generated().empty() && finish_of(*s, info.context).has_value();
    waiting.push_back(std::move(s));
    if (done) finish(waiting, waiting.size() - 1, *finish_of(*waiting.back(), info.context));
  }
}

void Engine::State::take_inbox() {
  std::vector<EngineRequest> taken;
  {
    const std::lock_guard lock(mutex);
    taken.swap(inbox);
    published.waiting += std::exchange(inbox_sequences, 0);
  }
  for (EngineRequest& r : taken) accept(std::move(r));
  std::ranges::sort(waiting, {}, [](const auto& s) { return s->rank; });
}

void Engine::State::finish(Sequences& from, std::size_t i, FinishReason reason) {
  Sequence& s = *from[i];
  TokenEvent e;
  e.request = s.request->id;
  e.choice = s.choice;
  e.index = static_cast<std::int32_t>(s.generated().size());
  e.finish = reason;
  events.push_back(std::move(e));
  detach(s);
  from.erase(from.begin() + static_cast<std::ptrdiff_t>(i));
}

void Engine::State::finish_all(FinishReason reason) {
  for (Sequences* list : {&running, &waiting})
    while (!list->empty()) finish(*list, list->size() - 1, reason);
}

void Engine::State::apply_cancels() {
  std::vector<std::pair<RequestId, std::int32_t>> taken;
  {
    const std::lock_guard lock(mutex);
    taken.swap(cancels);
  }
  for (const auto& [id, choice] : taken)
    for (Sequences* list : {&running, &waiting})
      for (std::size_t i = list->size(); i-- > 0;)
        if ((*list)[i]->request->id == id && (choice < 0 || (*list)[i]->choice == choice))
          finish(*list, i, FinishReason::cancelled);
}

void Engine::State::apply_deadlines() {
  const TimePoint now = clock.now();
  for (Sequences* list : {&running, &waiting})
    for (std::size_t i = list->size(); i-- > 0;)
      if ((*list)[i]->request->deadline && *(*list)[i]->request->deadline <= now)
        finish(*list, i, FinishReason::deadline);
}

RunningView Engine::State::view(const Sequence& s) const {
  const auto alone = [&](BlockId b) { return pool.references(b) == 1; };
  return {.rank = s.rank,
          .tokens = s.size(),
          .computed = s.computed,
          .blocks = static_cast<std::int32_t>(s.blocks.size()),
          .freeable = static_cast<std::int32_t>(std::ranges::count_if(s.blocks, alone))};
}

/// Takes over the cached blocks that the sequence begins with; at least one token stays to be computed, for its logits.
void Engine::State::attach(Sequence& s) {
  s.blocks = cache.match(s.tokens, (s.size() - 1) / info.block_tokens);
  s.indexed = static_cast<std::int32_t>(s.blocks.size());
  s.computed = s.indexed * info.block_tokens;
}

void Engine::State::detach(Sequence& s) {
  cache.release(s.blocks);
  s.computed = s.indexed = 0;
  s.indexable = true;
}

/// Further choices wait until the first has computed the prompt, and then find its blocks in the cache.
bool Engine::State::held_back(const Sequence& s) const {
  if (!options.prefix_cache || s.choice == 0) return false;
  const auto full = static_cast<std::int32_t>(s.request->prompt.size()) / info.block_tokens * info.block_tokens;
  const auto computing = [&](const auto& o) {
    return o->request == s.request && o->choice < s.choice && o->computed < full;
  };
  return full > 0 && std::ranges::any_of(running, computing);
}

void Engine::State::preempt(const StepPlan& plan) {
  std::vector<std::int32_t> order = plan.preempt;
  std::ranges::sort(order, std::greater<>());
  for (const std::int32_t i : order) {
    const auto at = static_cast<std::size_t>(i);
    detach(*running[at]);
    waiting.push_back(std::move(running[at]));
    running.erase(running.begin() + i);
    ++stats.preemptions;
  }
  if (!order.empty()) std::ranges::sort(waiting, {}, [](const auto& s) { return s->rank; });
}

void Engine::State::admit_waiting(StepPlan& plan, const StepLimits& limits) {
  std::size_t i = 0;
  for (std::int32_t n = 0; n < kMaxAdmitsPerStep && i < waiting.size() && plan.preempt.empty() &&
                           plan.tokens_left > 0 && running.size() < static_cast<std::size_t>(options.max_running);) {
    Sequence& s = *waiting[i];
    if (held_back(s)) {
      ++i;
      continue;
    }
    const std::int32_t before = pool.available();
    attach(s);
    const std::int32_t taken = before - pool.available();  // cached blocks that are no longer evictable
    plan.blocks_left -= taken;
    const std::int32_t tokens = admit(view(s), plan, limits);
    if (tokens == 0) {
      detach(s);
      plan.blocks_left += taken;
      return;
    }
    book(view(s), tokens, limits, plan);
    if (!std::exchange(s.admitted_before, true)) {
      s.queued = clock.now() - s.request->submitted;
      s.cached_prompt = std::min(s.computed, static_cast<std::int32_t>(s.request->prompt.size()));
      stats.prefix_queries += s.request->prompt.size();
      stats.prefix_hits += static_cast<std::uint64_t>(s.cached_prompt);
    }
    plan.tokens.push_back(tokens);
    running.push_back(std::move(waiting[i]));
    waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
    ++n;
  }
}

void Engine::State::index_full_blocks(Sequence& s) {
  while (s.indexable && (s.indexed + 1) * info.block_tokens <= s.computed) {
    s.indexable = cache.insert(s.tokens, s.blocks, s.indexed);
    if (s.indexable) ++s.indexed;
  }
}

void Engine::State::sample(Sequence& s, std::span<const float> logits) {
  const EngineRequest& r = *s.request;
  const auto done = static_cast<std::int32_t>(s.generated().size());
  std::vector<std::uint64_t> mask;
  if (s.constraint) {
    mask.assign((static_cast<std::size_t>(info.vocab) + 63) / 64, ~std::uint64_t{0});
    s.constraint->allowed(mask);
  }
  auto sampled = sample_token(r.sampling, {.logits = logits,
                                           .prompt = r.prompt,
                                           .generated = s.generated(),
                                           .forbidden = done < r.min_tokens ? std::span<const TokenId>(r.stop_tokens)
                                                                            : std::span<const TokenId>(),
                                           .allowed = mask,
                                           .position = s.tokens.size(),
                                           .choice = static_cast<std::uint32_t>(s.choice)});
  if (!sampled) {
    log::error("request {} choice {}: {}", r.id.value, s.choice, sampled.error().message);
    ended.emplace_back(&s, FinishReason::error);
    return;
  }
  s.tokens.push_back(sampled->token);
  if (s.constraint) s.constraint->accept(sampled->token);
  ++stats.generated_tokens;
  TokenEvent e;
  e.request = r.id;
  e.choice = s.choice;
  e.index = done;
  e.token = sampled->token;
  e.logprob = sampled->logprob;
  e.top = std::move(sampled->top);
  if (!std::exchange(s.reported, true)) {
    e.cached_prompt_tokens = s.cached_prompt;
    e.queued = s.queued;
  }
  e.finish = finish_of(s, info.context);
  if (e.finish) ended.emplace_back(&s, *e.finish);
  events.push_back(std::move(e));
}

Status Engine::State::run(const StepPlan& plan) {
  std::vector<SequenceStep> batch;
  std::vector<Sequence*> members;
  for (std::size_t i = 0; i < running.size(); ++i) {
    Sequence& s = *running[i];
    const std::int32_t n = plan.tokens[i];
    if (n == 0) continue;
    while (static_cast<std::int32_t>(s.blocks.size()) * info.block_tokens < s.computed + n) {
      const auto block = cache.allocate();
      HP_CHECK(block.has_value(), "the plan took more blocks than there are");
      s.blocks.push_back(*block);
    }
    batch.push_back({.tokens = std::span<const TokenId>(s.tokens).subspan(static_cast<std::size_t>(s.computed),
                                                                          static_cast<std::size_t>(n)),
                     .position = s.computed,
                     .blocks = s.blocks,
                     .logit_rows = s.computed + n == s.size() ? 1 : 0});
    members.push_back(&s);
  }
  if (batch.empty()) return {};
  HP_TRY(const StepLogits logits, executor->step(batch));
  std::int32_t row = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    Sequence& s = *members[i];
    const auto n = static_cast<std::int32_t>(batch[i].tokens.size());
    const auto prompt = static_cast<std::int32_t>(s.request->prompt.size());
    stats.prompt_tokens += static_cast<std::uint64_t>(std::clamp(prompt - s.computed, 0, n));
    stats.step_tokens += static_cast<std::uint64_t>(n);
    s.computed += n;
    index_full_blocks(s);
    if (batch[i].logit_rows > 0) sample(s, logits.row(row++));
  }
  ++stats.steps;
  return {};
}

void Engine::State::step() {
  std::vector<RunningView> views;
  for (const auto& s : running) views.push_back(view(*s));
  const StepLimits limits{
      .step_tokens = options.max_step_tokens, .block_tokens = info.block_tokens, .free_blocks = pool.available()};
  StepPlan plan = plan_step(views, limits);
  if (!plan.preempt.empty()) {
    preempt(plan);
    std::vector<std::int32_t> kept;
    for (std::size_t i = 0; i < plan.tokens.size(); ++i)
      if (std::ranges::find(plan.preempt, static_cast<std::int32_t>(i)) == plan.preempt.end())
        kept.push_back(plan.tokens[i]);
    plan.tokens = std::move(kept);
  }
  admit_waiting(plan, limits);
  const Status ran = run(plan);
  if (!ran) {
    log::error("the executor failed, every request ends: {}", ran.error().message);
    ++stats.failed_steps;
    {
      const std::lock_guard lock(mutex);
      lost = true;
    }
    take_inbox();
    finish_all(FinishReason::error);
    return;
  }
  for (const auto& [s, reason] : ended) {
    const auto it = std::ranges::find(running, s, [](const auto& p) { return p.get(); });
    if (reason == FinishReason::error) {
      finish(running, static_cast<std::size_t>(it - running.begin()), reason);
    } else {
      detach(*s);
      running.erase(it);
    }
  }
  ended.clear();
}

void Engine::State::publish() {
  stats.running = static_cast<std::int32_t>(running.size());
  stats.waiting = static_cast<std::int32_t>(waiting.size());
  stats.blocks_used = pool.used();
  stats.blocks_cached = pool.cached();
  stats.waiting_tokens = 0;
  for (const Sequences* list : {&running, &waiting})
    for (const auto& s : *list)
      stats.waiting_tokens +=
          std::max<std::int64_t>(0, static_cast<std::int64_t>(s->request->prompt.size()) - s->computed);
  {
    const std::lock_guard lock(mutex);
    published = stats;
  }
  if (!events.empty()) sink.on_step(std::exchange(events, {}));
}

void Engine::State::loop() {
  while (true) {
    {
      std::unique_lock lock(mutex);
      const auto work = [&] {
        return stopping || !inbox.empty() || !cancels.empty() || !running.empty() || !waiting.empty();
      };
      wake.wait(lock, work);
      if (stopping) break;
    }
    take_inbox();
    apply_cancels();
    apply_deadlines();
    if (!running.empty() || !waiting.empty()) step();
    publish();
  }
  take_inbox();
  finish_all(FinishReason::cancelled);
  publish();
  HP_CHECK(pool.used() == 0, "{} KV blocks are still referenced with no sequence left", pool.used());
  cache.check_integrity();
}

Engine::Engine(std::unique_ptr<Executor> executor, EventSink& sink, const EngineOptions& options, const Clock& clock)
    : state_(std::make_unique<State>(std::move(executor), sink, options, clock)) {
  state_->thread = std::thread([s = state_.get()] { s->loop(); });
}

Engine::~Engine() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  state_->thread.join();
}

Status Engine::submit(EngineRequest request) {
  HP_TRY_VOID(validate_request(request, state_->info));
  request.submitted = state_->clock.now();
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->lost) return fail(ErrorCode::unavailable, "the device is lost: restart the node");
    // Places among the running count too: an idle engine takes a burst in, whatever the queue's length.
    const std::int32_t queued = state_->published.waiting + state_->inbox_sequences;
    const std::int32_t taken = queued + state_->published.running;
    if (taken + request.choices > state_->options.max_waiting + state_->options.max_running)
      return fail(ErrorCode::resource_exhausted, "the queue holds {} of {} sequences: try again later", queued,
                  state_->options.max_waiting);
    state_->inbox_sequences += request.choices;
    state_->inbox.push_back(std::move(request));
  }
  state_->wake.notify_all();
  return {};
}

void Engine::cancel(RequestId id, std::int32_t choice) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->cancels.emplace_back(id, choice);
  }
  state_->wake.notify_all();
}

const ExecutorInfo& Engine::info() const {
  return state_->info;
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(state_->mutex);
  return state_->published;
}

}  // namespace hp

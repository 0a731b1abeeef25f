// What comes into the engine and goes out: the inbox, cancellations, deadlines, admissions and the loop. One step is
// engine_step.cpp's; the locking rule stands in engine_state.h.
#include "engine/engine.h"

#include "engine/engine_state.h"
#include "engine/limits.h"
#include "engine/validate_request.h"

namespace hp {

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
  if (taken.empty()) return;
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

RunningView Engine::State::view(const Sequence& s) {
  return {
      .rank = s.rank, .tokens = s.size(), .computed = s.computed, .blocks = static_cast<std::int32_t>(s.blocks.size())};
}

/// What the plan asks about the running sequences. Their blocks are counted only when the step may run out of blocks:
/// that walks over all of them, and a step takes at most one begun block per sequence beside its tokens' whole ones.
void Engine::State::view_running(const StepLimits& limits) {
  views.clear();
  for (const auto& s : running) views.push_back(view(*s));
  const std::size_t most = static_cast<std::size_t>(limits.step_tokens / limits.block_tokens) + running.size();
  if (static_cast<std::size_t>(limits.free_blocks) > most) return;
  const auto alone = [&](BlockId b) { return pool.references(b) == 1; };
  for (std::size_t i = 0; i < running.size(); ++i)
    views[i].freeable = static_cast<std::int32_t>(std::ranges::count_if(running[i]->blocks, alone));
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

/// By rank. One that does not fit lets smaller ones behind it pass, but only so many: then all wait for it.
void Engine::State::admit_waiting(StepPlan& plan, const StepLimits& limits) {
  std::vector<Sequence*> passed;
  std::size_t i = 0;
  for (std::int32_t n = 0; n < kMaxAdmitsPerStep && i < waiting.size() && plan.preempt.empty() &&
                           plan.tokens_left > 0 && running.size() < static_cast<std::size_t>(running_now.load());) {
    Sequence& s = *waiting[i];
    if (held_back(s)) {
      ++i;
      continue;
    }
    ++n;
    const std::int32_t before = pool.available();
    attach(s);
    const std::int32_t taken = before - pool.available();  // cached blocks that are no longer evictable
    plan.blocks_left -= taken;
    const std::int32_t tokens = admit(view(s), plan, limits);
    if (tokens == 0) {
      detach(s);
      plan.blocks_left += taken;
      if (s.passed_by >= kMaxPassedBy) return;
      passed.push_back(&s);
      ++i;
      continue;
    }
    book(view(s), tokens, limits, plan);
    for (Sequence* p : passed) ++p->passed_by;
    if (!std::exchange(s.admitted_before, true)) {
      s.queued = clock.now() - s.request->submitted;
      s.cached_prompt = std::min(s.computed, static_cast<std::int32_t>(s.request->prompt.size()));
      stats.prefix_queries += s.request->prompt.size();
      stats.prefix_hits += static_cast<std::uint64_t>(s.cached_prompt);
    }
    plan.tokens.push_back(tokens);
    running.push_back(std::move(waiting[i]));
    waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
  }
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
    if (state_->cancels.size() >= kMaxPendingCancels) {
      // Far more than there can be live choices: what is left out was repeated or is unknown.
      std::ranges::sort(state_->cancels);
      const auto repeated = std::ranges::unique(state_->cancels);
      state_->cancels.erase(repeated.begin(), repeated.end());
      if (state_->cancels.size() >= kMaxPendingCancels) return;
    }
    state_->cancels.emplace_back(id, choice);
  }
  state_->wake.notify_all();
}

void Engine::set_limits(Limits limits) {
  const Limits most = built_for();
  if (limits.max_step_tokens > 0) state_->step_tokens_now = std::min(limits.max_step_tokens, most.max_step_tokens);
  if (limits.max_running > 0) state_->running_now = std::min(limits.max_running, most.max_running);
  state_->wake.notify_all();
}

Engine::Limits Engine::limits() const {
  return {.max_step_tokens = state_->step_tokens_now, .max_running = state_->running_now};
}

Engine::Limits Engine::built_for() const {
  return {.max_step_tokens = state_->options.max_step_tokens, .max_running = state_->options.max_running};
}

const ExecutorInfo& Engine::info() const {
  return state_->info;
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(state_->mutex);
  return state_->published;
}

Duration Engine::in_step() const {
  const std::int64_t since = state_->step_since.load(std::memory_order_acquire);
  return since == 0 ? Duration{} : state_->clock.now().time_since_epoch() - Duration(since);
}

}  // namespace hp

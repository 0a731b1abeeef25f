// One step of the engine: plan, run, sample, end what ended. See engine_state.h.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "engine/engine_state.h"
#include "engine/limits.h"
#include "engine/sampler.h"
#include "engine/speculation.h"

namespace hp {

void Engine::State::index_full_blocks(Sequence& s) {
  while (s.indexable && (s.indexed + 1) * info.block_tokens <= s.computed) {
    s.indexable = cache.insert(s.tokens, s.blocks, s.indexed);
    if (s.indexable) ++s.indexed;
  }
}

/// Both are asked while `drafts` guessed tokens stand at the end of the sequence.
/// Greedy, with nothing that changes or reports logits: the largest is all that counts.
bool Engine::State::takes_the_best(const Sequence& s, std::int32_t drafts) {
  const SamplingParams& p = s.request->sampling;
  const bool penalties = p.repetition_penalty != 1.0F || p.frequency_penalty != 0.0F || p.presence_penalty != 0.0F;
  const bool stops_masked = static_cast<std::int32_t>(s.generated().size()) - drafts < s.request->min_tokens;
  return p.temperature == 0.0F && !p.logprobs && !penalties && p.logit_bias.empty() && !s.constraint && !stops_masked;
}

/// What a device needs to draw the next token, if that is all that counts.
std::optional<TokenDraw> Engine::State::draw_on_device(const Sequence& s, std::int32_t drafts) {
  const SamplingParams& p = s.request->sampling;
  const bool penalties = p.repetition_penalty != 1.0F || p.frequency_penalty != 0.0F || p.presence_penalty != 0.0F;
  const bool stops_masked = static_cast<std::int32_t>(s.generated().size()) - drafts < s.request->min_tokens;
  if (p.temperature <= 0.0F || p.top_k > 0 || p.logprobs || p.top_logprobs > 0 || penalties || !p.logit_bias.empty() ||
      s.constraint || stops_masked)
    return std::nullopt;
  return TokenDraw{.temperature = p.temperature,
                   .top_p = p.top_p,
                   .min_p = p.min_p,
                   .choice = static_cast<std::uint32_t>(s.choice),
                   .seed = p.seed,
                   .position = s.tokens.size() - static_cast<std::size_t>(drafts)};
}

Result<Sample> Engine::State::draw(const Sequence& s, const StepLogits& logits, std::int32_t row) {
  const EngineRequest& r = *s.request;
  const TokenId best = logits.best.empty() ? kUndecided : logits.best[static_cast<std::size_t>(row)];
  if (best != kUndecided) {
    if (best < 0)
      return fail(ErrorCode::internal, "the model's logits at position {} are not numbers", s.tokens.size());
    return Sample{.token = best};
  }
  std::vector<std::uint64_t> mask;
  if (s.constraint) {
    mask.assign((static_cast<std::size_t>(info.vocab) + 63) / 64, ~std::uint64_t{0});
    s.constraint->allowed(mask);
  }
  const bool stops_masked = static_cast<std::int32_t>(s.generated().size()) < r.min_tokens;
  return sampler.sample(
      r.sampling, {.logits = logits.row(row),
                   .prompt = r.prompt,
                   .generated = s.generated(),
                   .forbidden = stops_masked ? std::span<const TokenId>(r.stop_tokens) : std::span<const TokenId>(),
                   .allowed = mask,
                   .position = s.tokens.size(),
                   .choice = static_cast<std::uint32_t>(s.choice)});
}

void Engine::State::sample(Sequence& s, const StepLogits& logits, std::int32_t row) {
  const EngineRequest& r = *s.request;
  const auto done = static_cast<std::int32_t>(s.generated().size());
  auto sampled = draw(s, logits, row);
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

/// Appends guessed tokens to a sequence that is about to decode, within what the step has left; gives their number.
std::int32_t Engine::State::guess(Sequence& s, StepPlan& plan, std::int32_t& rows_left) const {
  const std::int32_t to_come = s.request->max_tokens - static_cast<std::int32_t>(s.generated().size()) - 1;
  const auto held = static_cast<std::int32_t>(s.blocks.size());
  const std::int32_t spare = std::max(plan.blocks_left - plan.blocks_reserved, 0);
  const std::int32_t room = (held + spare) * info.block_tokens - s.size();
  const std::int32_t most = std::min(
      {options.max_draft_tokens, kMaxDraftTokens, rows_left, plan.tokens_left, to_come, info.context - s.size(), room});
  std::vector<TokenId> drafts = propose_from_past(s.tokens, most > 0 ? s.pace.next(most) : 0);
  const std::optional<TokenId> predicted = std::exchange(s.predicted, std::nullopt);
  const std::optional<TokenId> found = drafts.empty() ? std::nullopt : std::optional(drafts.front());
  s.follows_prediction = s.sources.choose_predicted(found, predicted) && most > 0;
  if (s.follows_prediction) drafts = {*predicted};
  s.tokens.insert(s.tokens.end(), drafts.begin(), drafts.end());
  const auto n = static_cast<std::int32_t>(drafts.size());
  rows_left -= n;
  plan.tokens_left -= n;
  plan.blocks_left -= std::max((s.size() + info.block_tokens - 1) / info.block_tokens - held, 0);
  return n;
}

/// Samples the rows from `row` on, one more than there are drafts, for as long as each draft is what was sampled.
void Engine::State::take_rows(Sequence& s, const StepLogits& logits, std::int32_t row,
                              std::span<const TokenId> drafts) {
  const std::size_t others_ended = ended.size(), known = s.tokens.size();
  std::int32_t taken = 0;
  for (sample(s, logits, row); ended.size() == others_ended && static_cast<std::size_t>(taken) < drafts.size() &&
                               s.tokens.back() == drafts[static_cast<std::size_t>(taken)];) {
    ++s.computed;
    sample(s, logits, row + ++taken);
  }
  const auto proposed = static_cast<std::int32_t>(drafts.size());
  if (!s.follows_prediction) s.pace.seen(proposed, taken);
  if (s.tokens.size() > known) s.sources.came(s.tokens[known]);
  stats.draft_tokens += static_cast<std::uint64_t>(proposed);
  stats.draft_accepted += static_cast<std::uint64_t>(taken);
}

/// Shows the prediction layer the tokens that followed the step's rows, and keeps its guesses for the next step.
void Engine::State::predict() {
  std::vector<DraftRequest> requests;
  std::vector<Sequence*> asking;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    Sequence& s = *members[i].first;
    const std::int32_t rows = std::min(s.computed, s.size() - 1) - batch[i].position;
    if (rows <= 0) continue;  // the sampler failed
    requests.push_back({.sequence = static_cast<std::int32_t>(i),
                        .follow = {.tokens = std::span<const TokenId>(s.tokens).subspan(
                                       static_cast<std::size_t>(batch[i].position) + 1, static_cast<std::size_t>(rows)),
                                   .position = batch[i].position,
                                   .blocks = s.blocks,
                                   .logit_rows = batch[i].logit_rows > 0 ? 1 : 0}});
    asking.push_back(&s);
  }
  const std::vector<TokenId> guesses = executor->draft(requests);
  for (std::size_t i = 0; i < guesses.size(); ++i)
    if (guesses[i] >= 0) asking[i]->predicted = guesses[i];
}

Status Engine::State::run(StepPlan plan) {
  batch.clear();
  members.clear();
  std::int32_t rows_left = std::min(kMaxDraftRows, info.max_logit_rows - static_cast<std::int32_t>(running.size()));
  for (std::size_t i = 0; i < running.size(); ++i) {
    Sequence& s = *running[i];
    if (plan.tokens[i] == 0) continue;
    const bool decodes = plan.tokens[i] == 1 && s.computed + 1 == s.size() && !s.generated().empty();
    const std::int32_t drafts = decodes && options.max_draft_tokens > 0 ? guess(s, plan, rows_left) : 0;
    const std::int32_t n = plan.tokens[i] + drafts;
    while (static_cast<std::int32_t>(s.blocks.size()) * info.block_tokens < s.computed + n) {
      const auto block = cache.allocate();
      HP_CHECK(block.has_value(), "the plan took more blocks than there are");
      s.blocks.push_back(*block);
    }
    batch.push_back({.tokens = std::span<const TokenId>(s.tokens).subspan(static_cast<std::size_t>(s.computed),
                                                                          static_cast<std::size_t>(n)),
                     .position = s.computed,
                     .blocks = s.blocks,
                     .logit_rows = s.computed + n == s.size() ? 1 + drafts : 0,
                     .best_suffices = takes_the_best(s, drafts),
                     .draw = draw_on_device(s, drafts)});
    members.emplace_back(&s, drafts);
  }
  if (batch.empty()) return {};
  step_since.store(clock.now().time_since_epoch().count(), std::memory_order_release);
  const Result<StepLogits> logits = executor->step(batch);
  step_since.store(0, std::memory_order_release);
  events.reserve(events.size() + batch.size());
  std::int32_t row = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    Sequence& s = *members[i].first;
    const std::vector<TokenId> drafts(s.tokens.end() - members[i].second, s.tokens.end());
    s.tokens.resize(s.tokens.size() - drafts.size());
    if (!logits) continue;
    const auto n = static_cast<std::int32_t>(batch[i].tokens.size()) - members[i].second;
    const auto prompt = static_cast<std::int32_t>(s.request->prompt.size());
    stats.prompt_tokens += static_cast<std::uint64_t>(std::clamp(prompt - s.computed, 0, n));
    stats.step_tokens += static_cast<std::uint64_t>(n);
    s.computed += n;
    index_full_blocks(s);
    if (batch[i].logit_rows > 0) take_rows(s, *logits, row, drafts);
    row += batch[i].logit_rows;
  }
  if (!logits) return fail(logits.error());
  if (info.predicts && options.max_draft_tokens > 0) predict();
  ++stats.steps;
  return {};
}

void Engine::State::step() {
  const StepLimits limits{
      .step_tokens = step_tokens_now, .block_tokens = info.block_tokens, .free_blocks = pool.available()};
  view_running(limits);
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
  const Status ran = run(std::move(plan));
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

}  // namespace hp

#include "cli/generation.h"

#include <algorithm>

#include "text/detokenizer.h"

namespace hp::cli {
namespace {

constexpr std::chrono::milliseconds kPoll{50};  // how late a Ctrl-C may be noticed

/// Tokens to text, reasoning kept apart.
class Reader {
 public:
  Reader(const Tokenizer& tokenizer, const Generation& what, const OnText& on_text, GenerationResult& result)
      : detokenizer_(tokenizer, ReplyParser::markers()),
        parser_(what.style),
        raw_(what.raw),
        on_text_(on_text),
        result_(result) {}

  void push(TokenId token) {
    std::string text;
    detokenizer_.push(token, text);
    take(text);
  }
  void finish() {
    std::string text;
    detokenizer_.finish(text);
    take(text);
    if (raw_) return;
    ReplyDelta delta;
    parser_.finish(delta);
    show(delta);
  }

 private:
  void take(std::string_view text) {
    if (text.empty()) return;
    ReplyDelta delta;
    if (raw_) {
      delta.content = text;
    } else {
      parser_.push(text, delta);
    }
    show(delta);
  }
  void show(const ReplyDelta& delta) {
    result_.reasoning += delta.reasoning;
    result_.content += delta.content;
    if (!delta.reasoning.empty()) on_text_(delta.reasoning, true);
    if (!delta.content.empty()) on_text_(delta.content, false);
  }

  Detokenizer detokenizer_;
  ReplyParser parser_;
  bool raw_;
  const OnText& on_text_;
  GenerationResult& result_;
};

}  // namespace

std::string GenerationResult::summary() const {
  std::string out = fmt::format("{} + {} tokens", prompt_tokens, generated_tokens);
  if (cached_tokens > 0) out += fmt::format(" ({} cached)", cached_tokens);
  out += fmt::format(", first after {:.2f} s", first_s);
  if (generated_tokens > 1 && decode_s > 0.0)
    out += fmt::format(", {:.1f} tokens/s", (generated_tokens - 1) / decode_s);
  if (finish == FinishReason::length) out += ", cut at the limit";
  if (finish == FinishReason::cancelled) out += ", stopped";
  return out;
}

Result<GenerationResult> generate(LocalEngine& local, const Generation& what, const std::atomic<bool>& stop,
                                  const OnText& on_text) {
  const NodeModel& model = local.model();
  const auto prompt_tokens = static_cast<std::int32_t>(what.prompt.size());
  const std::int32_t room = local.engine().info().context - prompt_tokens;
  if (room < 1)
    return fail(ErrorCode::invalid_argument,
                "the prompt has {} tokens and the context {}; shorten it, or raise --context", prompt_tokens,
                local.engine().info().context);
  GenerationResult result{.content = {}, .reasoning = {}, .prompt_tokens = prompt_tokens};
  Reader reader(*model.tokenizer, what, on_text, result);
  EngineRequest request;
  request.id = local.next_id();
  request.prompt = what.prompt;
  request.max_tokens = what.max_tokens > 0 ? std::min(what.max_tokens, room) : room;
  request.stop_tokens = model.stop_tokens;
  request.sampling = what.sampling;
  const RequestId id = request.id;
  const SteadyClock clock;
  const TimePoint start = clock.now();
  TimePoint first = start, last = start;
  HP_TRY_VOID(local.engine().submit(std::move(request)));
  bool cancelled = false;
  for (bool done = false; !done;) {
    if (stop && !cancelled) {
      local.engine().cancel(id);
      cancelled = true;
      result.finish = FinishReason::cancelled;
      break;
    }
    for (const TokenEvent& event : local.take(kPoll)) {
      if (event.request != id) continue;
      if (event.token) {
        last = clock.now();
        if (result.generated_tokens++ == 0) {
          first = last;
          result.cached_tokens = event.cached_prompt_tokens;
        }
        if (!std::ranges::binary_search(model.stop_tokens, *event.token)) reader.push(*event.token);
      }
      if (!event.finish) continue;
      done = true;
      result.finish = *event.finish;
      if (*event.finish == FinishReason::error)
        return fail(ErrorCode::internal, "the engine could not go on; its log line says why");
    }
  }
  reader.finish();
  result.first_s = to_seconds(first - start);
  result.decode_s = to_seconds(last - first);
  return result;
}

}  // namespace hp::cli

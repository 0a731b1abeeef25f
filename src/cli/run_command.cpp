// `run`: one prompt, piped text, or a chat on the terminal, without a server.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>

#include "cli/chat_screen.h"
#include "cli/command.h"
#include "cli/generation.h"
#include "cli/model_fetch.h"
#include "cli/node_flags.h"
#include "cli/signal_thread.h"
#include "node/random_id.h"

namespace hp::cli {
namespace {

constexpr std::size_t kMaxPipedBytes = std::size_t{64} << 20;
constexpr int kExitInterrupted = 130;
constexpr double kChatTemperature = 0.7, kChatTopP = 0.95;  // where the model's files recommend nothing

struct RunOptions {
  std::vector<std::string> words;
  std::string system;
  std::int64_t max_tokens = 0, top_k = 0, seed = -1;
  double temperature = -1.0, top_p = -1.0;
  bool raw = false, stats = false, think = false, no_think = false;
};

SamplingParams sampling_of(const RunOptions& o, const SamplingDefaults& recommended) {
  SamplingParams s;
  const auto chosen = [](double given, const std::optional<float>& model, double otherwise) {
    return given >= 0.0 ? static_cast<float>(given) : model.value_or(static_cast<float>(otherwise));
  };
  s.temperature = chosen(o.temperature, recommended.temperature, kChatTemperature);
  s.top_p = chosen(o.top_p, recommended.top_p, kChatTopP);
  s.top_k = o.top_k > 0 ? static_cast<std::int32_t>(o.top_k) : recommended.top_k.value_or(0);
  s.repetition_penalty = recommended.repetition_penalty.value_or(1.0F);
  s.seed = o.seed >= 0 ? static_cast<std::uint64_t>(o.seed) : random_u64();
  return s;
}

Result<std::string> piped_text() {
  std::string text;
  char buffer[1 << 16];
  while (std::cin.read(buffer, sizeof buffer) || std::cin.gcount() > 0) {
    text.append(buffer, static_cast<std::size_t>(std::cin.gcount()));
    if (text.size() > kMaxPipedBytes)
      return fail(ErrorCode::resource_exhausted, "standard input has more than {} MiB", kMaxPipedBytes >> 20);
  }
  return text;
}

/// The words of the line, then what was piped in.
Result<std::string> prompt_of(const RunOptions& o) {
  std::string prompt;
  for (const std::string& word : o.words) prompt += (prompt.empty() ? "" : " ") + word;
  if (isatty(STDIN_FILENO) != 0) return prompt;
  HP_TRY(std::string piped, piped_text());
  while (piped.ends_with('\n')) piped.pop_back();
  if (!prompt.empty() && !piped.empty()) prompt += "\n\n";
  return prompt + piped;
}

Result<int> answer_once(LocalEngine& local, const RunOptions& o, const SamplingParams& sampling,
                        const std::string& prompt, const std::atomic<bool>& stop) {
  Generation what{.prompt = {},
                  .sampling = sampling,
                  .max_tokens = static_cast<std::int32_t>(o.max_tokens),
                  .style = {},
                  .raw = o.raw};
  const NodeModel& model = local.model();
  if (o.raw) {
    if (model.tokenizer->source().add_bos && model.tokenizer->source().bos)
      what.prompt.push_back(*model.tokenizer->source().bos);
    model.tokenizer->encode_with_special(prompt, what.prompt);
  } else {
    if (!model.family)
      return fail(ErrorCode::unsupported, "{} has no chat template that is known here ({}); use --raw", model.name,
                  model.no_chat);
    Conversation conversation;
    if (!o.system.empty()) conversation.messages.push_back({.role = ChatRole::system, .content = o.system});
    conversation.messages.push_back({.role = ChatRole::user, .content = prompt});
    if (o.think || o.no_think) conversation.thinking = o.think;
    HP_TRY(what.prompt, encode_chat(*model.family, conversation, *model.tokenizer));
    what.style = reply_style(*model.family, conversation);
  }
  AnswerPrinter printer;
  HP_TRY(const GenerationResult result,
         generate(local, what, stop, [&](std::string_view text, bool reasoning) { printer.print(text, reasoning); }));
  printer.end();
  if (o.stats || isatty(STDERR_FILENO) != 0) fmt::print(stderr, "[{}]\n", result.summary());
  return result.finish == FinishReason::cancelled ? kExitInterrupted : kExitOk;
}

/// The first word, where it is a model's name and no flag gave one: it is then no part of the prompt.
std::string take_model(const Config& config, std::vector<std::string>& words) {
  if (words.empty() || config.source("model.path") == ConfigSource::flag || !names_a_model(words.front())) return {};
  std::string model = std::move(words.front());
  words.erase(words.begin());
  return model;
}

Result<int> run(const Invocation& in, RunOptions& o) {
  if (o.think && o.no_think) return fail(ErrorCode::invalid_argument, "--think and --no-think exclude each other");
  HP_TRY(const Config config, with_model(in.config, take_model(in.config, o.words)));
  HP_TRY(const std::string prompt, prompt_of(o));
  HP_TRY(LoadOptions load, load_options(config));
  const bool chat = prompt.empty() && isatty(STDIN_FILENO) != 0;
  if (prompt.empty() && !chat)
    return fail(ErrorCode::invalid_argument, "standard input is empty; expected a prompt there or on the line");
  load.max_running = 1;
  std::atomic<bool> stop = false;
  const SignalThread interrupts({SIGINT}, [&stop](int) {
    if (stop.exchange(true)) _exit(kExitInterrupted);  // twice: the engine does not listen
  });
  HP_TRY(const std::unique_ptr<LocalEngine> local,
         LocalEngine::load(load, {.max_step_tokens = load.max_step_tokens, .max_running = 1}));
  if (stop) return kExitInterrupted;
  const SamplingParams sampling = sampling_of(o, local->model().config.sampling);
  if (!chat) return answer_once(*local, o, sampling, prompt, stop);
  std::optional<bool> thinking;
  if (o.think || o.no_think) thinking = o.think;
  return chat_screen(*local,
                     {.system = o.system,
                      .sampling = sampling,
                      .fixed_seed = o.seed >= 0,
                      .max_tokens = static_cast<std::int32_t>(o.max_tokens),
                      .thinking = thinking},
                     stop);
}

}  // namespace

Command run_command() {
  auto options = std::make_shared<RunOptions>();
  return {
      .name = "run",
      .summary = "ask a model here: one prompt, piped text, or a chat",
      .details =
          "A first word like deepseek-r1:1.5b or ORG/NAME is the model, fetched first when it is not here (put a "
          "prompt "
          "that begins like that in quotes). With a prompt, or with text piped in, prints one answer. On a terminal "
          "without a prompt, opens a chat: "
          "/help lists its commands, Ctrl-C stops an answer, Ctrl-D leaves.",
      .examples =
          "  homeport run \"What is the capital of France?\"\n"
          "  homeport run deepseek-r1:1.5b How many primes are there below 100?\n"
          "  cat report.txt | homeport run Summarize this in three lines.\n"
          "  homeport run --model model.gguf --system \"You are a pirate.\"\n"
          "  homeport run --raw --temperature 0 --max-tokens 32 \"Once upon a time\"",
      .sections = {"model", "engine", "log"},
      .declare =
          [options](Arguments& a) {
            RunOptions& o = *options;
            a.rest("prompt", o.words, "A model's name, if you like, and what to ask; several words need no quotes.");
            a.text("-s,--system", o.system, "System message.");
            a.integer("-n,--max-tokens", o.max_tokens, "Most tokens of an answer; 0: as many as fit.", 0, 1 << 24);
            a.number("-t,--temperature", o.temperature, "Randomness, 0 to 2; by default the model's own.", -1.0, 2.0);
            a.number("--top-p", o.top_p, "Share of the probability to draw from; by default the model's own.", -1.0,
                     1.0);
            a.integer("--top-k", o.top_k, "Draw from so many tokens; 0: the model's own.", 0, 1 << 24);
            a.integer("--seed", o.seed, "The same seed gives the same answer; by default random.", -1, INT64_MAX);
            a.toggle("--think", o.think, "Ask for reasoning, where the model can choose.");
            a.toggle("--no-think", o.no_think, "Ask for no reasoning, where the model can choose.");
            a.toggle("--raw", o.raw, "Continue the text as it is: no chat template.");
            a.toggle("--stats", o.stats, "Print tokens and speed on stderr, also when it is no terminal.");
          },
      .run = [options](const Invocation& in) { return run(in, *options); },
  };
}

}  // namespace hp::cli

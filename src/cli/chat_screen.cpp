#include "cli/chat_screen.h"

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <utility>

#include "cli/line_editor.h"
#include "node/random_id.h"

namespace hp::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHelp =
    "/help            this list\n"
    "/new             forget the conversation\n"
    "/retry           another answer to the last message\n"
    "/system TEXT     set the system message (and begin anew)\n"
    "/temperature X   0 is greedy; without X: show it\n"
    "/think on|off    ask for reasoning, where the model can choose\n"
    "/save FILE       write the conversation as text\n"
    "/stats           tokens and speed of the last answer\n"
    "/quit            leave (Ctrl-D does too)\n"
    "A line that ends with \\ goes on in the next one. Ctrl-C stops an answer.\n";

fs::path history_file() {
  const char* home = std::getenv("HOME");
  if (home == nullptr) return {};
  std::error_code error;
  fs::create_directories(fs::path(home) / ".homeport", error);
  return fs::path(home) / ".homeport/history";
}

class Chat {
 public:
  Chat(LocalEngine& local, ChatOptions options, std::atomic<bool>& stop)
      : local_(local), options_(std::move(options)), stop_(stop) {
    begin();
  }

  /// False: leave.
  bool line(const std::string& text) {
    if (text.find_first_not_of(" \t") == std::string::npos) return true;
    if (text.starts_with('/')) return command(text);
    conversation_.messages.push_back({.role = ChatRole::user, .content = text});
    answer();
    return true;
  }

 private:
  void begin() {
    conversation_ = {};
    conversation_.thinking = options_.thinking;
    if (!options_.system.empty())
      conversation_.messages.push_back({.role = ChatRole::system, .content = options_.system});
  }

  void answer();
  bool command(const std::string& text);
  void set_temperature(std::string_view text);
  void save(const std::string& path) const;
  void retry();
  /// The conversation as tokens, without its oldest turns when it no longer fits.
  Result<std::vector<TokenId>> encode_fitting();

  LocalEngine& local_;
  ChatOptions options_;
  std::atomic<bool>& stop_;
  Conversation conversation_;
  std::string last_summary_;
};

Result<std::vector<TokenId>> Chat::encode_fitting() {
  const NodeModel& model = local_.model();
  const auto context = static_cast<std::size_t>(local_.engine().info().context);
  const std::size_t kept_free = context / 4;  // for the answer
  const std::size_t first = conversation_.messages.front().role == ChatRole::system ? 1 : 0;
  for (int dropped = 0;;) {
    HP_TRY(std::vector<TokenId> tokens, encode_chat(*model.family, conversation_, *model.tokenizer));
    if (tokens.size() + kept_free <= context || conversation_.messages.size() < first + 3) {
      if (dropped > 0)
        fmt::print(stderr, "[the {} oldest messages no longer fit the context and were dropped]\n", dropped);
      return tokens;
    }
    const auto begin = conversation_.messages.begin() + static_cast<std::ptrdiff_t>(first);
    conversation_.messages.erase(begin, begin + 2);
    dropped += 2;
  }
}

void Chat::answer() {
  const auto forget = [&](const Error& error) {
    conversation_.messages.pop_back();
    fmt::print(stderr, "[{}]\n", error.message);
  };
  Result<std::vector<TokenId>> tokens = encode_fitting();
  if (!tokens) return forget(tokens.error());
  Generation what{.prompt = *std::move(tokens),
                  .sampling = options_.sampling,
                  .max_tokens = options_.max_tokens,
                  .style = reply_style(*local_.model().family, conversation_)};
  if (!options_.fixed_seed) what.sampling.seed = random_u64();
  AnswerPrinter printer;
  stop_ = false;
  const Result<GenerationResult> result =
      generate(local_, what, stop_, [&](std::string_view text, bool reasoning) { printer.print(text, reasoning); });
  stop_ = false;
  printer.end();
  if (!result) return forget(result.error());
  last_summary_ = result->summary();
  fmt::print(stderr, "\x1b[2m[{}]\x1b[0m\n", last_summary_);
  conversation_.messages.push_back({.role = ChatRole::assistant, .content = result->content});
}

bool Chat::command(const std::string& text) {
  const std::size_t space = std::min(text.find(' '), text.size());
  const std::string name = text.substr(1, space - 1);
  std::string rest = text.substr(std::min(space + 1, text.size()));
  if (name == "quit" || name == "exit" || name == "q") return false;
  if (name == "help" || name == "?") {
    std::fputs(kHelp, stdout);
  } else if (name == "new" || name == "clear") {
    begin();
    std::puts("[a new conversation]");
  } else if (name == "retry") {
    retry();
  } else if (name == "system") {
    options_.system = std::move(rest);
    begin();
    std::puts("[system message set; a new conversation]");
  } else if (name == "temperature") {
    set_temperature(rest);
  } else if (name == "think" && (rest == "on" || rest == "off")) {
    options_.thinking = conversation_.thinking = rest == "on";
  } else if (name == "save" && !rest.empty()) {
    save(rest);
  } else if (name == "stats") {
    fmt::print("{}\n", last_summary_.empty() ? "no answer yet" : last_summary_);
  } else {
    fmt::print("[no command '{}'; /help lists them]\n", text);
  }
  return true;
}

void Chat::retry() {
  if (conversation_.messages.empty() || conversation_.messages.back().role != ChatRole::assistant) {
    std::puts("[there is no answer to replace]");
    return;
  }
  conversation_.messages.pop_back();
  answer();
}

void Chat::set_temperature(std::string_view text) {
  float value = 0.0F;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size() && value >= 0.0F && value <= 2.0F)
    options_.sampling.temperature = value;
  else if (!text.empty())
    fmt::print("[expected a number from 0 to 2, found '{}']\n", text);
  fmt::print("[temperature {}]\n", options_.sampling.temperature);
}

void Chat::save(const std::string& path) const {
  static constexpr const char* kRoles[] = {"system", "developer", "user", "assistant", "tool"};
  std::ofstream file(path);
  for (const ChatMessage& m : conversation_.messages)
    file << "## " << kRoles[static_cast<std::size_t>(m.role)] << "\n" << m.content << "\n\n";
  file.close();
  fmt::print("[{} {}]\n", file ? "saved to" : "cannot write", path);
}

}  // namespace

AnswerPrinter::AnswerPrinter() : terminal_(isatty(STDOUT_FILENO) != 0) {}

void AnswerPrinter::print(std::string_view text, bool reasoning) {
  if (reasoning && !terminal_) return;
  if (terminal_ && reasoning != dimmed_) std::fputs(reasoning ? "\x1b[2m" : "\x1b[0m\n\n", stdout);
  dimmed_ = reasoning;
  if (text.empty()) return;
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
  fresh_line_ = text.ends_with('\n');
}

void AnswerPrinter::end() {
  if (dimmed_) std::fputs("\x1b[0m", stdout);
  if (!fresh_line_) std::fputs("\n", stdout);
  std::fflush(stdout);
}

Result<int> chat_screen(LocalEngine& local, ChatOptions options, std::atomic<bool>& stop) {
  const NodeModel& model = local.model();
  if (!model.family)
    return fail(ErrorCode::unsupported, "{} has no chat template that is known here ({}); use --raw with a prompt",
                model.name, model.no_chat);
  fmt::print("{} on {}. /help for help, Ctrl-D to leave.\n", model.name, local.engine().info().device);
  LineEditor editor(history_file());
  Chat chat(local, std::move(options), stop);
  for (std::string text;;) {
    const std::optional<std::string> line = editor.read(text.empty() ? "> " : "… ");
    stop = false;
    if (!line) break;
    text += *line;
    if (text.ends_with('\\')) {
      text.back() = '\n';
      continue;
    }
    if (!chat.line(std::exchange(text, {}))) return 0;
  }
  std::puts("");
  return 0;
}

}  // namespace hp::cli

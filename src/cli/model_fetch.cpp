#include "cli/model_fetch.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "cli/node_flags.h"
#include "model/checkpoint.h"

namespace hp::cli {
namespace {

namespace fs = std::filesystem;

std::atomic<bool> interrupted{false};

extern "C" void on_interrupt(int /*signal*/) {
  interrupted = true;
}

const char* variable(const char* name) {
  return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here changes the environment
}

/// One line on a terminal: bar, share, speed over the last seconds, time left.
class ProgressLine {
 public:
  ProgressLine() : shown_(::isatty(STDERR_FILENO) == 1) {}
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const hub::PullProgress& p) {
    if (!shown_) return;
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - then_).count();
    if (began_ && seconds > 0.5) {
      const double fresh = static_cast<double>(p.bytes - bytes_) / seconds;
      speed_ = speed_ == 0.0 ? fresh : 0.8 * speed_ + 0.2 * fresh;
    }
    if (!began_ || seconds > 0.5) {
      began_ = true;
      then_ = now;
      bytes_ = p.bytes;
    }
    const double share = p.bytes_total == 0 ? 1.0 : static_cast<double>(p.bytes) / static_cast<double>(p.bytes_total);
    constexpr int kWidth = 24;
    const int full = static_cast<int>(share * kWidth);
    std::string line = fmt::format(
        "\r[{}{}] {:3.0f} %  {} of {}  {}/s", std::string(static_cast<std::size_t>(full), '#'),
        std::string(static_cast<std::size_t>(kWidth - full), '.'), share * 100, size_text(static_cast<double>(p.bytes)),
        size_text(static_cast<double>(p.bytes_total)), size_text(speed_));
    if (speed_ > 0) {
      const auto left = static_cast<std::int64_t>(static_cast<double>(p.bytes_total - p.bytes) / speed_);
      line += fmt::format("  {}:{:02} left", left / 60, left % 60);
    }
    if (p.verifying) line += "  checking hashes";
    std::fputs((line + "\x1b[K").c_str(), stderr);
    std::fflush(stderr);
  }
  void clear() {
    if (shown_ && began_) std::fputs("\r\x1b[K", stderr);
    began_ = false;
  }

 private:
  bool shown_, began_ = false;
  std::chrono::steady_clock::time_point then_;
  std::uint64_t bytes_ = 0;
  double speed_ = 0.0;
};

/// SIGINT and SIGTERM as a flag while a transfer runs; afterwards they mean again what they meant before.
class Interrupts {
 public:
  Interrupts() : int_(std::signal(SIGINT, on_interrupt)), term_(std::signal(SIGTERM, on_interrupt)) {
    interrupted = false;
    size_ = std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes comes as an error of the write
  }
  ~Interrupts() {
    std::signal(SIGINT, int_);
    std::signal(SIGTERM, term_);
    std::signal(SIGXFSZ, size_);
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

 private:
  using Handler = void (*)(int);
  Handler int_, term_, size_ = nullptr;
};

fs::path folder_of(const hub::ModelName& name) {
  return models_folder() / name.repository;
}

/// A transfer opens all its files under this ending before the first byte: none left means that it came to its end.
bool is_whole(const fs::path& folder) {
  std::error_code error;
  for (auto at = fs::recursive_directory_iterator(folder, error); !error && at != fs::recursive_directory_iterator();
       at.increment(error))
    if (at->path().extension() == ".part") return false;
  return !error;
}

/// The first of a folder's GGUF files that the pattern means; empty where there is none.
fs::path fetched_gguf(const fs::path& folder, std::string_view pattern) {
  std::vector<fs::path> found;
  std::error_code error;
  for (auto at = fs::recursive_directory_iterator(folder, error); !error && at != fs::recursive_directory_iterator();
       at.increment(error)) {
    const std::string path = at->path().lexically_relative(folder).string();
    if (path.ends_with(".gguf") && (pattern.empty() || hub::matches(pattern, path))) found.push_back(at->path());
  }
  std::ranges::sort(found);
  return found.empty() ? fs::path() : found.front();
}

bool is_word(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) <= ' '; });
}

}  // namespace

std::string size_text(double bytes) {
  if (bytes < 1e6) return fmt::format("{:.0f} kB", bytes / 1e3);
  return bytes < 1e9 ? fmt::format("{:.0f} MB", bytes / 1e6) : fmt::format("{:.2f} GB", bytes / 1e9);
}

Result<hub::PullPlan> fetch_model(const FetchRequest& request) {
  HP_TRY(const hub::ModelName name, hub::parse_model_name(request.model));
  if (request.from != "huggingface" && request.from != "modelscope")
    return fail(ErrorCode::invalid_argument, "a hub named '{}': expected huggingface or modelscope", request.from);
  const auto kind = request.from == "modelscope" ? hub::Hub::Kind::model_scope : hub::Hub::Kind::hugging_face;
  HP_TRY(hub::Hub source, hub::Hub::from_environment(kind, variable));
  if (!request.revision.empty()) source.revision = request.revision;
  const fs::path folder = request.folder.empty() ? folder_of(name) : request.folder;
  const auto client = net::HttpClient::create();
  HP_TRY(hub::PullPlan plan, hub::plan_pull(*client, source, name, folder));
  fmt::print(stderr, "{}: {} files, {}; {} to fetch\n", name.repository, plan.files.size(),
             size_text(static_cast<double>(plan.bytes_total)), size_text(static_cast<double>(plan.bytes_missing)));
  if (request.dry_run) return plan;
  const Interrupts interrupts;
  ProgressLine line;
  HP_TRY_VOID(hub::run_pull(*client, source, name, plan,
                            {.folder = folder,
                             .connections = request.connections,
                             .on_progress = [&line](const hub::PullProgress& p) { line.show(p); },
                             .stop = [] { return interrupted.load(); }}));
  return plan;
}

bool names_a_model(std::string_view word) {
  if (!is_word(word) || word.ends_with(".gguf") || word.ends_with(".safetensors")) return false;
  if (word.find('/') != std::string_view::npos) return hub::parse_model_name(word).has_value();
  const std::string_view family = word.substr(0, word.find(':'));
  return std::ranges::any_of(hub::catalog(), [&](const hub::CatalogEntry& e) {
    return e.name == word || (family.size() < word.size() && e.name.substr(0, e.name.find(':')) == family);
  });
}

std::optional<fs::path> find_fetched(std::string_view model) {
  const auto name = hub::parse_model_name(model);
  if (!name || !is_whole(folder_of(*name))) return std::nullopt;
  fs::path path = folder_of(*name);
  if (!name->pattern.empty() || !Checkpoint::open(path)) path = fetched_gguf(path, name->pattern);
  if (path.empty() || !Checkpoint::open(path)) return std::nullopt;
  return path;
}

Result<fs::path> find_or_fetch(std::string_view model, std::string_view hub) {
  if (const auto found = find_fetched(model)) return *found;
  auto plan = fetch_model({.model = std::string(model), .from = std::string(hub)});
  if (!plan)
    return fail(std::move(plan.error()).with_context(fmt::format("'{}' is no file here; as a model's name", model)));
  return plan->model;
}

}  // namespace hp::cli

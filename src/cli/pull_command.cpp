// `pull`: brings a model from a hub. The work is the hub room's; here are flags, the progress line and the words around
// it.
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/json.h"
#include "cli/command.h"
#include "hub/limits.h"
#include "hub/pull.h"

namespace hp::cli {
namespace {

struct PullFlags {
  std::string model, from = "huggingface", directory, revision;
  std::int64_t connections = 8;
  bool json = false, list = false, dry_run = false;
};

std::atomic<bool> interrupted{false};

extern "C" void on_interrupt(int /*signal*/) {
  interrupted = true;
}

const char* variable(const char* name) {
  return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here changes the environment
}

std::filesystem::path models_folder() {
  const char* own = variable("HOMEPORT_MODELS");
  if (own != nullptr && *own != '\0') return own;
  const char* home = variable("HOME");
  return std::filesystem::path(home != nullptr ? home : ".") / ".homeport" / "models";
}

std::string size_text(double bytes) {
  if (bytes < 1e6) return fmt::format("{:.0f} kB", bytes / 1e3);
  return bytes < 1e9 ? fmt::format("{:.0f} MB", bytes / 1e6) : fmt::format("{:.2f} GB", bytes / 1e9);
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

int list_catalog() {
  for (const hub::CatalogEntry& e : hub::catalog())
    fmt::print("{:24} {:28} {}{}{}\n", e.name, e.note, e.repository, e.pattern.empty() ? "" : ":", e.pattern);
  return kExitOk;
}

void print_result(const PullFlags& flags, const hub::PullPlan& plan, double seconds) {
  const std::string path = plan.model.string();
  if (flags.json) {
    std::string out;
    {
      JsonWriter w(out);
      w.begin_object().key("model").value(path).key("files").value(static_cast<std::int64_t>(plan.files.size()));
      w.key("bytes").value(static_cast<std::int64_t>(plan.bytes_total));
      w.key("bytes_fetched").value(static_cast<std::int64_t>(plan.bytes_missing)).key("seconds").value(seconds);
      w.end_object();
    }
    fmt::print("{}\n", out);
    return;
  }
  if (plan.bytes_missing > 0)
    fmt::print("{} in {:.0f} s\n", size_text(static_cast<double>(plan.bytes_missing)), seconds);
  fmt::print("{}\nhomeport serve --model {}\n", path, path);
}

Result<int> pull(const PullFlags& flags) {
  if (flags.list) return list_catalog();
  if (flags.model.empty()) return fail(ErrorCode::invalid_argument, "which model? A catalog name (--list) or ORG/NAME");
  HP_TRY(const hub::ModelName name, hub::parse_model_name(flags.model));
  if (flags.from != "huggingface" && flags.from != "modelscope")
    return fail(ErrorCode::invalid_argument, "--from {}: expected huggingface or modelscope", flags.from);
  const auto kind = flags.from == "modelscope" ? hub::Hub::Kind::model_scope : hub::Hub::Kind::hugging_face;
  HP_TRY(hub::Hub source, hub::Hub::from_environment(kind, variable));
  if (!flags.revision.empty()) source.revision = flags.revision;
  const std::filesystem::path folder =
      flags.directory.empty() ? models_folder() / name.repository : std::filesystem::path(flags.directory);
  const auto client = net::HttpClient::create();
  HP_TRY(const hub::PullPlan plan, hub::plan_pull(*client, source, name, folder));
  fmt::print(stderr, "{}: {} files, {}; {} to fetch\n", name.repository, plan.files.size(),
             size_text(static_cast<double>(plan.bytes_total)), size_text(static_cast<double>(plan.bytes_missing)));
  if (flags.dry_run) {
    for (const hub::HubFile& f : plan.files) fmt::print("{:>14} {}\n", f.size, f.path);
    return kExitOk;
  }
  const auto start = std::chrono::steady_clock::now();
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes comes as an error of the write
  {
    ProgressLine line;
    HP_TRY_VOID(hub::run_pull(*client, source, name, plan,
                              {.folder = folder,
                               .connections = static_cast<int>(flags.connections),
                               .on_progress = [&line](const hub::PullProgress& p) { line.show(p); },
                               .stop = [] { return interrupted.load(); }}));
  }
  print_result(flags, plan, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return kExitOk;
}

}  // namespace

Command pull_command() {
  auto flags = std::make_shared<PullFlags>();
  return {
      .name = "pull",
      .summary = "fetch a model from a hub",
      .details =
          "Fetches from Hugging Face (or the mirror in HF_ENDPOINT) or ModelScope into ~/.homeport/models (or "
          "HOMEPORT_MODELS). A run that was cut off goes on where it ended. Tokens: HF_TOKEN, the hub's own token "
          "file, "
          "MODELSCOPE_API_TOKEN.",
      .examples =
          "  homeport pull deepseek-r1:1.5b\n"
          "  homeport pull unsloth/DeepSeek-R1-Distill-Qwen-7B-GGUF:Q4_K_M --connections 16\n"
          "  HF_ENDPOINT=https://hf-mirror.com homeport pull deepseek-v2:16b --dry-run\n"
          "  homeport pull --from modelscope deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
      .declare =
          [flags](Arguments& a) {
            a.positional("MODEL", flags->model, "A catalog name, ORG/NAME, or ORG/NAME:PATTERN for one GGUF of many.",
                         false);
            a.text("--from", flags->from, "huggingface or modelscope.", "HUB");
            a.text("--dir", flags->directory, "Where to; default: the models folder and the repository's name.", "DIR");
            a.text("--revision", flags->revision, "Branch, tag or commit.", "NAME");
            a.integer("--connections", flags->connections, "Parts fetched at once.", 1, hub::kMaxConnections);
            a.toggle("--dry-run", flags->dry_run, "List the files and their sizes, fetch nothing.");
            a.toggle("--list", flags->list, "Show the catalog.");
            a.toggle("--json", flags->json, "Print the result as JSON.");
          },
      .run = [flags](const Invocation&) { return pull(*flags); },
  };
}

}  // namespace hp::cli

// `pull`: brings a model from a hub; flags and the words around it.
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include "base/json.h"
#include "cli/command.h"
#include "cli/model_fetch.h"
#include "hub/limits.h"
#include "hub/pull.h"

namespace hp::cli {
namespace {

struct PullFlags {
  std::string model, from = "huggingface", directory, revision;
  std::int64_t connections = 8;
  bool json = false, list = false, dry_run = false;
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
  const auto start = std::chrono::steady_clock::now();
  HP_TRY(const hub::PullPlan plan, fetch_model({.model = flags.model,
                                                .from = flags.from,
                                                .revision = flags.revision,
                                                .folder = flags.directory,
                                                .connections = static_cast<int>(flags.connections),
                                                .dry_run = flags.dry_run}));
  if (flags.dry_run) {
    for (const hub::HubFile& f : plan.files) fmt::print("{:>14} {}\n", f.size, f.path);
    return kExitOk;
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

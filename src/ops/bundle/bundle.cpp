#include "ops/bundle/bundle.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "base/black_box.h"
#include "ops/bundle/archive.h"
#include "ops/bundle/redact.h"
#include "ops/bundle/stacks.h"

namespace hp::ops {
namespace {
using Clock = std::chrono::steady_clock;

/// Pages on their way; what has come is taken, the rest is told.
class Fetches {
 public:
  Fetches(const std::vector<BundlePage>& pages, std::chrono::milliseconds patience) : results_(pages.size()) {
    for (std::size_t i = 0; i < pages.size(); ++i) {
      net::ClientRequest request = pages[i].request;
      request.connect_timeout = request.read_timeout = pages[i].doubtful ? patience / 4 : patience;
      request.max_body_bytes = limits::kMaxTarFileBytes;
      request.keep_alive = false;
      client_->start(std::move(request), {.on_headers = {},
                                          .on_data =
                                              [this, i](std::string_view bytes) {
                                                const std::lock_guard lock(mutex_);
                                                results_[i].body += bytes;
                                              },
                                          .on_done =
                                              [this, i](const Status& outcome) {
                                                const std::lock_guard lock(mutex_);
                                                results_[i].done = true;
                                                if (!outcome) results_[i].error = outcome.error().message;
                                                changed_.notify_all();
                                              }});
    }
  }
  ~Fetches() { client_.reset(); }  // before what its callbacks use
  Fetches(const Fetches&) = delete;
  Fetches& operator=(const Fetches&) = delete;

  Result<std::string> take(std::size_t i, Clock::time_point until) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, until, [&] { return results_[i].done; }))
      return fail(ErrorCode::deadline_exceeded, "no answer in time");
    if (!results_[i].error.empty()) return fail(ErrorCode::unavailable, "{}", results_[i].error);
    return std::move(results_[i].body);
  }

 private:
  struct One {
    std::string body, error;
    bool done = false;
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<One> results_;
  std::unique_ptr<net::HttpClient> client_ = net::HttpClient::create();
};

struct Writer {
  Archive& archive;
  const BundleInput& input;
  BundleReport& report;

  void add(const std::string& name, std::string_view text) const {
    if (text.size() > limits::kMaxTarFileBytes) text.remove_prefix(text.size() - limits::kMaxTarFileBytes);
    if (const Status added = archive.add(name, redacted(text, input.secrets)); added)
      report.files.push_back(name);
    else
      leave_out(name, added.error().message);
  }
  void leave_out(const std::string& name, std::string_view why) const {
    report.left_out.push_back(fmt::format("{}: {}", name, redacted(why, input.secrets)));
  }
};

std::string report_text(const BundleReport& report) {
  std::string out;
  for (const std::string& name : report.files) out += name + "\n";
  if (!report.left_out.empty()) out += "\nLeft out:\n";
  for (const std::string& line : report.left_out) out += line + "\n";
  return out;
}

}  // namespace

Result<BundleReport> write_bundle(const BundleInput& input) {
  const Clock::time_point began = Clock::now(), until = began + input.patience;
  HP_TRY(const auto archive, Archive::create(input.file, input.max_bytes));
  BundleReport report{.file = input.file};
  const Writer writer{*archive, input, report};
  Fetches fetches(input.pages, input.patience * 2 / 3);
  // Stacks first: the process may be about to be killed, and nothing else is lost by waiting.
  const std::size_t count = std::min(input.processes.size(), limits::kMaxBundleProcesses);
  for (std::size_t i = 0; i < count; ++i) {
    const pid_t process = input.processes[i];
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    const std::string name = fmt::format("processes/{}/", process);
    if (left.count() <= 0) {
      writer.leave_out(name + "stacks.txt", "no time left");
      continue;
    }
    writer.add(name + "stacks.txt", process_stacks(process, left / 3));
    if (const auto log = black_box::read_log(process))
      writer.add(name + "log.txt", *log);
    else
      writer.leave_out(name + "log.txt", log.error().message);
  }
  for (const auto& [name, make] : input.texts) {
    if (Clock::now() >= until)
      writer.leave_out(name, "no time left");
    else
      writer.add(name, make());
  }
  for (std::size_t i = 0; i < input.pages.size(); ++i) {
    if (const auto body = fetches.take(i, until))
      writer.add(input.pages[i].name, *body);
    else
      writer.leave_out(input.pages[i].name, body.error().message);
  }
  writer.add("contents.txt", report_text(report));
  HP_TRY(report.bytes, archive->close());
  report.seconds = std::chrono::duration<double>(Clock::now() - began).count();
  return report;
}

void trim_bundles(const std::filesystem::path& folder, std::size_t keep) {
  std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> bundles;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (std::error_code gone; entry->path().string().ends_with(".tar.zst"))
      bundles.emplace_back(entry->last_write_time(gone), entry->path());
  std::ranges::sort(bundles, std::greater{});
  for (std::size_t i = keep; i < bundles.size(); ++i) std::filesystem::remove(bundles[i].second, error);
}

}  // namespace hp::ops

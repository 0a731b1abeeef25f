#include "hub/pull.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "hub/limits.h"
#include "hub/part_file.h"

namespace hp::hub {
namespace {

bool is_top_level(const HubFile& f) {
  return f.path.find('/') == std::string::npos;
}

/// What a folder of safetensors needs beside them.
bool is_companion(const std::string& path) {
  return path.ends_with(".json") || path.ends_with(".jinja") || path == "tokenizer.model" || path.ends_with(".txt") ||
         path == "LICENSE" || path == "README.md";
}

/// A part of a file that is still to come, and the thread-safe list of them.
struct Work {
  std::size_t file, part;
};

class Transfer {
 public:
  Transfer(net::HttpClient& client, const Hub& hub, const ModelName& name, const PullPlan& plan,
           const PullOptions& options)
      : client_(client), hub_(hub), name_(name), plan_(plan), options_(options), left_(plan.files.size()) {}

  Status run();

 private:
  Status open_files();
  void work();
  std::optional<Work> next();
  Status fetch_part(const Work& w);
  Status fetch_once(const Work& w);
  void part_done(const Work& w);
  void end_with(Error error);
  void watch();
  [[nodiscard]] PullProgress progress() const;

  net::HttpClient& client_;
  const Hub& hub_;
  const ModelName& name_;
  const PullPlan& plan_;
  const PullOptions& options_;
  std::vector<std::unique_ptr<PartFile>> files_;  ///< null: was complete before
  std::vector<std::size_t> left_;                 ///< parts to come of each file
  std::vector<Work> queue_;
  std::size_t taken_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Error> error_;
  std::atomic<bool> ending_{false};
  std::size_t complete_ = 0;
  int working_ = 0, verifying_ = 0;
};

Status Transfer::open_files() {
  for (std::size_t i = 0; i < plan_.files.size(); ++i) {
    const HubFile& f = plan_.files[i];
    const auto target = options_.folder / f.path;
    files_.emplace_back();
    if (is_complete(target, f)) {
      ++complete_;
      continue;
    }
    HP_TRY(files_.back(), PartFile::open(target, f));
    for (std::size_t p = 0; p < files_.back()->parts(); ++p)
      if (files_.back()->arrived(p) < files_.back()->size_of(p)) queue_.push_back({i, p});
    left_[i] = static_cast<std::size_t>(std::ranges::count_if(queue_, [&](const Work& w) { return w.file == i; }));
    if (left_[i] == 0) {  // everything had arrived, only the name is missing
      HP_TRY_VOID(files_.back()->complete());
      ++complete_;
    }
  }
  return {};
}

std::optional<Work> Transfer::next() {
  const std::lock_guard lock(mutex_);
  if (ending_ || taken_ == queue_.size()) return std::nullopt;
  return queue_[taken_++];
}

void Transfer::end_with(Error error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = std::move(error);
  ending_ = true;
}

Status Transfer::fetch_once(const Work& w) {
  PartFile& file = *files_[w.file];
  const std::uint64_t from = file.begin_of(w.part) + file.arrived(w.part);
  const std::uint64_t end = file.begin_of(w.part) + file.size_of(w.part);
  const bool whole = from == 0 && end == plan_.files[w.file].size;
  net::Headers headers;
  if (!whole) headers.emplace_back("Range", fmt::format("bytes={}-{}", from, end - 1));
  Status wrote;
  const auto begin = [&](const Landed& landed) {
    if (landed.status == 206 || whole) return;
    // A server without ranges starts over; only a file of one part can take that.
    if (file.parts() == 1)
      file.restart(w.part);
    else
      wrote = fail(ErrorCode::unsupported, "{} does not send ranges of a file (answered {})", landed.url.host,
                   landed.status);
  };
  const auto sink = [&](std::string_view bytes) {
    if (wrote && !ending_) wrote = file.append(w.part, bytes);
    return wrote && !ending_;
  };
  const auto landed = get(client_, hub_, hub_.file_url(name_.repository, plan_.files[w.file].path), headers,
                          std::numeric_limits<std::size_t>::max(), begin, sink);
  if (!wrote) return wrote;
  if (!landed) return fail(landed.error());
  if (file.arrived(w.part) < file.size_of(w.part))
    return fail(ErrorCode::unavailable, "'{}': the answer ended after {} of {} bytes of a part",
                plan_.files[w.file].path, file.arrived(w.part), file.size_of(w.part));
  return {};
}

/// Whether another attempt may help: the network's faults, not the disk's, the name's or the hub's word.
bool may_retry(const Error& e) {
  return e.code == ErrorCode::unavailable || e.code == ErrorCode::deadline_exceeded ||
         e.code == ErrorCode::corrupt_data;
}

Status Transfer::fetch_part(const Work& w) {
  auto backoff = kFirstBackoff;
  for (int attempt = 1;; ++attempt) {
    const std::uint64_t before = files_[w.file]->arrived(w.part);
    Status done = fetch_once(w);
    if (done || ending_) return done;
    if (files_[w.file]->arrived(w.part) > before) {  // it moves on: a cut is no failure
      attempt = 0;
      backoff = kFirstBackoff;
    }
    if (!may_retry(done.error()) || attempt >= kMaxAttempts)
      return fail(std::move(done.error()).with_context(plan_.files[w.file].path));
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, backoff, [this] { return ending_.load(); });
    backoff = std::min(backoff * 2, kLongestBackoff);
  }
}

void Transfer::part_done(const Work& w) {
  {
    const std::lock_guard lock(mutex_);
    if (--left_[w.file] > 0) return;
    ++verifying_;
  }
  const Status complete = files_[w.file]->complete();
  {
    const std::lock_guard lock(mutex_);
    --verifying_;
    if (complete) ++complete_;
  }
  if (!complete) end_with(complete.error());
}

void Transfer::work() {
  while (const auto w = next()) {
    const Status done = fetch_part(*w);
    if (ending_) break;
    if (!done) {
      end_with(done.error());
      break;
    }
    part_done(*w);
  }
  const std::lock_guard lock(mutex_);
  --working_;
  changed_.notify_all();
}

PullProgress Transfer::progress() const {
  PullProgress p{.bytes_total = plan_.bytes_total, .files = complete_, .files_total = plan_.files.size()};
  p.verifying = verifying_ > 0;
  for (std::size_t i = 0; i < files_.size(); ++i) p.bytes += files_[i] ? files_[i]->arrived() : plan_.files[i].size;
  return p;
}

// The caller's thread: shows progress, notes what has arrived, asks whether to stop.
void Transfer::watch() {
  auto saved = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  while (working_ > 0) {
    changed_.wait_for(lock, std::chrono::milliseconds(200), [this] { return working_ == 0; });
    const PullProgress now = progress();
    lock.unlock();
    if (options_.on_progress) options_.on_progress(now);
    if (options_.stop && options_.stop())
      end_with({ErrorCode::cancelled, "stopped; what has arrived is kept, run again to go on"});
    if (std::chrono::steady_clock::now() - saved >= kStateInterval) {
      saved = std::chrono::steady_clock::now();
      for (const auto& f : files_)
        if (f && f->arrived() > 0 && !ending_) (void)f->save();
    }
    lock.lock();
  }
}

Status Transfer::run() {
  HP_TRY_VOID(open_files());
  working_ = std::clamp(options_.connections, 1, kMaxConnections);
  {
    std::vector<std::jthread> threads;
    for (int i = working_; i > 0; --i) threads.emplace_back([this] { work(); });
    watch();
  }
  if (!error_) return {};
  for (std::size_t i = 0; i < files_.size(); ++i) {
    std::error_code ignored;
    const auto part = (options_.folder / plan_.files[i].path).string() + ".part";
    if (files_[i] && left_[i] > 0 && std::filesystem::exists(part, ignored)) (void)files_[i]->save();
  }
  return fail(*error_);
}

Status check_disk(const std::filesystem::path& folder, std::uint64_t missing) {
  std::filesystem::path existing = std::filesystem::absolute(folder);
  std::error_code error;
  while (!std::filesystem::exists(existing, error) && existing.has_relative_path()) existing = existing.parent_path();
  struct statvfs disk {};
  if (::statvfs(existing.c_str(), &disk) != 0) return {};  // no way to know: the reservation will tell
  const std::uint64_t free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  if (missing == 0 || missing + kDiskMargin <= free) return {};
  return fail(ErrorCode::resource_exhausted, "'{}' has {:.1f} GB free, {:.1f} GB are needed: make room or choose --dir",
              existing.string(), static_cast<double>(free) / 1e9, static_cast<double>(missing + kDiskMargin) / 1e9);
}

}  // namespace

Result<std::vector<HubFile>> choose_files(const std::vector<HubFile>& all, const ModelName& name) {
  std::vector<HubFile> out, ggufs;
  std::string names;
  bool safetensors = false;
  for (const HubFile& f : all) {
    safetensors |= is_top_level(f) && f.path.ends_with(".safetensors");
    if (!f.path.ends_with(".gguf")) continue;
    ggufs.push_back(f);
    if (names.size() < 2000) names += "\n  " + f.path;
  }
  const bool wants_gguf = !name.pattern.empty() || (!safetensors && !ggufs.empty());
  if (!wants_gguf) {
    if (!safetensors) return fail(ErrorCode::not_found, "{} has neither .safetensors nor .gguf files", name.repository);
    std::ranges::copy_if(all, std::back_inserter(out), [](const HubFile& f) {
      return is_top_level(f) && (f.path.ends_with(".safetensors") || is_companion(f.path));
    });
    return out;
  }
  std::string pattern = name.pattern;
  if (pattern.empty() && ggufs.size() > 1) pattern = "Q4_K_M";
  std::ranges::copy_if(all, std::back_inserter(out), [&](const HubFile& f) {
    return pattern.empty() ? f.path.ends_with(".gguf") : matches(pattern, f.path);
  });
  if (out.empty())
    return fail(ErrorCode::not_found, "{} has no file that matches '{}'; it has:{}", name.repository, pattern,
                names.empty() ? " no .gguf" : names);
  return out;
}

Result<PullPlan> plan_pull(net::HttpClient& client, const Hub& hub, const ModelName& name,
                           const std::filesystem::path& folder) {
  HP_TRY(const std::vector<HubFile> all, list_files(client, hub, name.repository));
  PullPlan plan;
  HP_TRY(plan.files, choose_files(all, name));
  plan.model = folder;
  std::ranges::sort(plan.files, {}, &HubFile::path);
  for (const HubFile& f : plan.files) {
    plan.bytes_total += f.size;
    if (plan.model == folder && f.path.ends_with(".gguf")) plan.model = folder / f.path;
    if (!is_complete(folder / f.path, f)) plan.bytes_missing += f.size;
  }
  return plan;
}

Status run_pull(net::HttpClient& client, const Hub& hub, const ModelName& name, const PullPlan& plan,
                const PullOptions& options) {
  HP_TRY_VOID(check_disk(options.folder, plan.bytes_missing));
  return Transfer(client, hub, name, plan, options).run();
}

}  // namespace hp::hub

#include "cli/console_wiring.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <filesystem>

#include "base/black_box.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/plan_common.h"
#include "cli/program.h"
#include "ops/bundle/redact.h"
#include "ops/console/console_view.h"
#include "ops/watch_options.h"

namespace hp::cli {
namespace {

constexpr std::size_t kBundlesKept = 10, kBundleStreams = 2'000, kHistoryPoints = 180;
constexpr std::size_t kMinKeyBytes = 12;

std::string random_hex() {
  std::array<std::uint64_t, 3> words{};
  if (::getrandom(words.data(), sizeof words, 0) != static_cast<ssize_t>(sizeof words)) return {};
  return fmt::format("{:016x}{:016x}{:016x}", words[0], words[1], words[2]);
}

/// The content of a file that only we may read; made at random when it is not there.
Result<std::string> secret_file(const std::filesystem::path& path, bool& made) {
  if (auto text = read_text_file(path.string()); text && text->size() >= kMinKeyBytes) return text;
  const std::string fresh = random_hex();
  std::error_code ignored;
  std::filesystem::create_directories(path.parent_path(), ignored);
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  const bool written = fd >= 0 && ::write(fd, fresh.data(), fresh.size()) == static_cast<ssize_t>(fresh.size());
  if (fd >= 0) ::close(fd);
  if (!written || fresh.empty()) return fail(ErrorCode::io_error, "cannot write {}", path.string());
  made = true;
  return fresh;
}

std::filesystem::path key_path(const Config& config) {
  return std::filesystem::path(ops::ops_folder(config)) / "console.key";
}

Result<std::vector<ops::ConsoleKey>> keys_of(const Config& config, const std::string& url) {
  const std::string& file = config.text("ops.console_keys_file");
  if (!file.empty()) {
    HP_TRY(const std::string text, read_text_file(file));
    HP_TRY(auto keys, ops::parse_console_keys(text, file));
    if (keys.empty()) return fail(ErrorCode::invalid_argument, "{}: holds no key", file);
    return keys;
  }
  bool made = false;
  HP_TRY(const std::string key, secret_file(key_path(config), made));
  log::info("console: {}/console  (key in {})", url, key_path(config).string());
  return ops::parse_console_keys("operator " + key, key_path(config).string());
}

std::string stream_json(const gateway::StreamState& s) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("id", s.id).member("tenant", s.tenant).member("model", s.model);
  json.member("prompt_tokens", s.prompt_tokens).member("tokens", s.tokens).member("complete", s.complete);
  json.key("legs").begin_array();
  for (const gateway::StreamLeg& leg : s.legs)
    json.begin_object()
        .member("node", leg.node)
        .member("from_token", leg.from_token)
        .member("tokens", leg.tokens)
        .member("at_ms", leg.at_ms)
        .end_object();
  json.end_array().end_object();
  return out;
}

std::string streams_text(const gateway::Gateway& gateway) {
  std::string out;
  for (const auto& stream : gateway.streams(kBundleStreams)) out += stream_json(stream) + "\n";
  return out;
}

/// A line per lane: its name and its values, oldest first.
std::string history_text(ConsoleSlot& slot, std::size_t resolution) {
  const std::lock_guard lock(slot.mutex);
  if (slot.console == nullptr) return {};
  std::string out;
  slot.console->with_history([&](const ops::History& history) {
    std::vector<std::string> lanes;
    for (const auto& series : history.series())
      lanes.push_back(fmt::format("{}:{}", series.name, series.kind == ops::SeriesKind::quantiles ? "p99" : "mean"));
    const auto table = history.query(resolution, lanes, kHistoryPoints);
    out = fmt::format("# from_ms {} step_ms {}\n", table.from_ms, table.step_ms);
    for (const auto& column : table.columns) {
      out += column.name;
      for (const float v : column.values) out += std::isfinite(v) ? fmt::format(" {:.4g}", v) : " -";
      out += '\n';
    }
  });
  return out;
}

net::ClientRequest request_to(const gateway::NodeConfig& node, std::string target) {
  net::ClientRequest request{.host = node.host, .port = node.port, .tls = node.tls, .target = std::move(target)};
  if (!node.api_key.empty()) request.headers.emplace_back("Authorization", "Bearer " + node.api_key);
  return request;
}

/// `admin`: "host:port" or "unix:/path".
net::ClientRequest admin_request(const std::string& admin, std::string target) {
  net::ClientRequest request{.host = admin, .target = std::move(target)};
  if (const auto colon = admin.rfind(':'); !admin.starts_with("unix:") && colon != std::string::npos) {
    request.host = admin.substr(0, colon);
    request.port = static_cast<std::uint16_t>(std::strtoul(admin.c_str() + colon + 1, nullptr, 10));
  }
  return request;
}

ops::BundleInput bundle_input(const Config& config, gateway::Gateway& gateway, const MetricsRegistry& metrics,
                              const std::shared_ptr<ConsoleSlot>& slot, pid_t first) {
  ops::BundleInput input{.secrets = ops::secrets_of(config)};
  input.processes = black_box::processes();
  std::ranges::stable_partition(input.processes, [first](pid_t process) { return process == first; });
  input.texts = {{"config.txt", [&config] { return ops::redacted_config(config); }},
                 {"gateway/metrics.txt", [&metrics] { return metrics.render(); }},
                 {"gateway/streams.jsonl", [&gateway] { return streams_text(gateway); }},
                 {"history/5s.txt", [slot] { return history_text(*slot, 0); }},
                 {"history/60s.txt", [slot] { return history_text(*slot, 1); }},
                 {"history/600s.txt", [slot] { return history_text(*slot, 2); }}};
  for (const gateway::NodeStatus& node : gateway.nodes()) {
    if (node.removed) continue;
    const bool doubtful = node.silent || !node.ready;
    for (const std::string_view page : {"metrics", "health"})
      input.pages.push_back({fmt::format("nodes/{}/{}.txt", node.config.name, page),
                             request_to(node.config, fmt::format("/{}", page)), doubtful});
    if (!node.config.admin.empty())
      input.pages.push_back({fmt::format("nodes/{}/stats.txt", node.config.name),
                             admin_request(node.config.admin, "/admin/stats"), doubtful});
    if (!node.config.api_key.empty()) input.secrets.push_back(node.config.api_key);
  }
  return input;
}

ops::ActionOutcome make_bundle(const Config& config, ops::BundleInput input, std::string_view what) {
  const std::filesystem::path ops_folder = ops::ops_folder(config), folder = ops_folder / "bundles";
  if (ops_folder.empty())
    return {.ok = false, .changed = false, .text = "there is no folder to keep bundles in: ops.folder is none"};
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  std::array<char, 32> time{};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  std::strftime(time.data(), time.size(), "%Y%m%dT%H%M%SZ", ::gmtime_r(&now, &utc));
  std::string name;
  for (const char c : what.substr(0, 40)) name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '-';
  input.file = folder / fmt::format("{}{}{}.tar.zst", time.data(), name.empty() ? "" : "-", name);
  const auto report = ops::write_bundle(input);
  if (!report) return {.ok = false, .changed = false, .text = report.error().message};
  ops::trim_bundles(folder, kBundlesKept);
  return {.ok = true,
          .changed = false,
          .text = fmt::format("{}: {} KiB in {:.1f} s, {} files", report->file.string(), (report->bytes + 1023) / 1024,
                              report->seconds, report->files.size())};
}

}  // namespace

ConsoleDoor::ConsoleDoor(gateway::Gateway& gateway, std::unique_ptr<ops::Console> console,
                         std::shared_ptr<ConsoleSlot> slot)
    : gateway_(gateway), slot_(std::move(slot)), console_(std::move(console)) {
  {
    const std::lock_guard lock(slot_->mutex);
    slot_->console = console_.get();
  }
  gateway_.open_side_door(
      [this](net::HttpRequest& request, std::shared_ptr<net::ResponseWriter>& writer,
             const gateway::InsideRequest& inside) { return console_->handle(request, writer, inside); });
}

ConsoleDoor::~ConsoleDoor() {
  gateway_.open_side_door({});  // returns when nobody stands in it
  const std::lock_guard lock(slot_->mutex);
  slot_->console = nullptr;
}

Result<std::unique_ptr<ConsoleDoor>> ConsoleDoor::open(const Config& config, gateway::Gateway& gateway,
                                                       ops::Watch& watch, MetricsRegistry& metrics,
                                                       std::shared_ptr<ConsoleSlot> slot) {
  if (!config.boolean("ops.console")) return nullptr;
  const std::filesystem::path folder = ops::ops_folder(config);
  if (folder.empty() && config.text("ops.console_keys_file").empty()) return nullptr;  // nowhere to keep a key
  const std::string host = config.text("server.host");
  const std::string url = host.starts_with("unix:")
                              ? host
                              : fmt::format("http://{}:{}", host == "0.0.0.0" ? "127.0.0.1" : host, gateway.port());
  auto known = keys_of(config, url);
  if (!known && known.error().code == ErrorCode::io_error) {  // a folder that cannot be written costs the console only
    log::warn("console: there is none: {}", known.error().message);
    return nullptr;
  }
  if (!known) return fail(std::move(known).error());
  std::vector<ops::ConsoleKey> keys = *std::move(known);
  bool made = false;
  auto secret = folder.empty() ? Result<std::string>(random_hex()) : secret_file(folder / "console.secret", made);
  if (!secret) secret = random_hex();  // sessions end with this process then
  ops::ConsoleSource source = ops::watch_source(watch, [&metrics] { return metrics.render(); });
  source.journey = [&gateway](std::string_view id) -> Result<std::string> {
    const auto stream = gateway.stream(id);
    if (!stream) return fail(ErrorCode::not_found, "there is no such stream");
    return stream_json(*stream);
  };
  ops::ConsoleOptions options{
      .keys = std::move(keys),
      .secret = *std::move(secret),
      .history_file = folder.empty() ? std::filesystem::path() : folder / fmt::format("history-{}.bin", gateway.port()),
      .version = std::string(kVersion)};
  return std::unique_ptr<ConsoleDoor>(
      new ConsoleDoor(gateway, ops::Console::start(std::move(options), std::move(source)), std::move(slot)));
}

ops::Action bundle_action(const Config& config, gateway::Gateway& gateway, const MetricsRegistry& metrics,
                          std::function<pid_t(const std::string& node)> pid, std::shared_ptr<ConsoleSlot> slot) {
  ops::Action action{
      .info = {
          .name = "bundle", .target = ops::ActionTarget::node, .en = "Write a diagnostics bundle", .zh = "生成诊断包"}};
  action.run = [&config, &gateway, &metrics, pid = std::move(pid),
                slot = std::move(slot)](const ops::ActionRequest& request) {
    if (request.dry_run) return ops::ActionOutcome{.ok = true, .changed = false, .text = "would write a bundle"};
    const pid_t first = pid && !request.target.empty() ? pid(request.target) : 0;
    return make_bundle(config, bundle_input(config, gateway, metrics, slot, first), request.target);
  };
  return action;
}

std::string default_console_key(const Config& config) {
  const auto text = read_text_file(key_path(config).string());
  return text ? *text : std::string();
}

}  // namespace hp::cli

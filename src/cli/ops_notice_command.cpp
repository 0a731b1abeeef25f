// `ops test-notice`: does a message reach anybody? Past grouping, quiet hours and queues, each channel once.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>

#include "base/json.h"
#include "cli/command.h"
#include "cli/plan_common.h"
#include "ops/notice/sender.h"

namespace hp::cli {
namespace {

// Longer than the sender's own limits: an answer that comes drop by drop.
constexpr std::chrono::seconds kLongest{60};

/// By channel; what has not answered in time is an error too.
class Outcomes {
 public:
  void put(std::string channel, Status status) {
    const std::lock_guard lock(mutex_);
    of_[std::move(channel)] = std::move(status);
    changed_.notify_all();
  }
  std::map<std::string, Status> wait(const std::vector<ops::Channel>& channels) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kLongest, [&] { return of_.size() == channels.size(); });
    auto out = of_;
    for (const ops::Channel& c : channels)
      if (!out.contains(c.name))
        out[c.name] = fail(ErrorCode::deadline_exceeded, "no answer in {} s", kLongest.count());
    return out;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Status> of_;
};

std::map<std::string, Status> send_to_all(const ops::NoticeOptions& options) {
  const auto outcomes = std::make_shared<Outcomes>();
  MetricsRegistry metrics;
  const auto loop = net::EventLoop::create();
  auto client = net::HttpClient::create(*loop);
  auto sender = std::make_unique<ops::Sender>(*loop, *client, options.link);
  ops::Notifier notifier(
      options,
      [&](const ops::Channel& channel, const std::vector<ops::Notice>& notices, ops::Notifier::Done done) {
        sender->send(channel, notices, std::move(done));
      },
      metrics);
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  const ops::Moment now{.at_ms = 0, .wall_ms = std::chrono::duration_cast<std::chrono::milliseconds>(wall).count()};
  loop->post([&notifier, now, outcomes] {
    notifier.test("", now,
                  [outcomes](std::string name, Status status) { outcomes->put(std::move(name), std::move(status)); });
  });
  auto out = outcomes->wait(options.channels);
  client.reset();  // before the sender, both before their loop
  sender.reset();
  return out;
}

std::string as_json(const ops::NoticeOptions& options, const std::map<std::string, Status>& outcomes) {
  std::string out;
  JsonWriter json(out);
  json.begin_array();
  for (const ops::Channel& c : options.channels) {
    const Status& status = outcomes.at(c.name);
    json.begin_object().member("channel", c.name).member("kind", ops::to_string(c.kind));
    json.member("ok", status.has_value());
    if (!status) json.member("error", status.error().message);
    json.end_object();
  }
  json.end_array();
  return out + "\n";
}

std::string as_text(const ops::NoticeOptions& options, const std::map<std::string, Status>& outcomes) {
  std::string out;
  for (const ops::Channel& c : options.channels) {
    const Status& status = outcomes.at(c.name);
    out += fmt::format("{} ({}): {}\n", c.name, ops::to_string(c.kind),
                       status ? std::string("taken") : "failed: " + status.error().message);
  }
  return out;
}

}  // namespace

Command ops_test_notice_command() {
  auto json = std::make_shared<bool>(false);
  return {.name = "ops test-notice",
          .summary = "Send a test message through every channel of the notices file.",
          .details = "Says of each channel whether the service took the message. Ends with 1 when one did not.",
          .examples = "  homeport ops test-notice --ops-notices notices.toml",
          .sections = {"ops"},
          .declare = [json](Arguments& a) { a.toggle("--json", *json, "Print JSON."); },
          .run = [json](const Invocation& in) -> Result<int> {
            const std::string& file = in.config.text("ops.notices_file");
            if (file.empty())
              return fail(ErrorCode::invalid_argument, "--ops-notices: name the file with the channels");
            HP_TRY(const std::string toml, read_text_file(file));
            HP_TRY(const ops::NoticeOptions options, ops::load_notices(toml, file));
            if (options.channels.empty()) return fail(ErrorCode::invalid_argument, "{}: there is no [[channel]]", file);
            const auto outcomes = send_to_all(options);
            std::fputs((*json ? as_json(options, outcomes) : as_text(options, outcomes)).c_str(), stdout);
            const bool all = std::ranges::all_of(outcomes, [](const auto& o) { return o.second.has_value(); });
            return all ? kExitOk : kExitFailure;
          }};
}

}  // namespace hp::cli

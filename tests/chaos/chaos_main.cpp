// make chaos, tier (a): streams through two gateways over fake nodes, a fault every few seconds from a seeded schedule.
// Every token that a client was given is compared with the one that it must be given. One JSON line at the end. With
// --scenario standby the whole primary group dies instead, again and again; with rolling, nodes are drained, restarted
// and taken away under streams of --seconds, and no client may notice.
//   chaos --streams 10000 --concurrent 150 --every 2 --each 2 --seed 1 --gateway build/dev/gateway_tool --node
//   build/dev/fake_node
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "base/counter_rng.h"
#include "base/json.h"
#include "base/log.h"
#include "faults.h"
#include "gateway/stream_record.h"
#include "ledger.h"
#include "sim/fake_node.h"

namespace hp::chaos {
namespace {

struct Options {
  std::uint64_t streams = 10'000, concurrent = 150, seed = 1, nodes = 4, max_rss_mib = 300;
  std::uint64_t each = 0;  // streams go on until every kind of fault has happened so often
  double every = 2, pace_ms = 20, seconds = 600;
  std::string scenario = "faults";  // or standby, rolling: streams as long as `seconds`, all at once
  std::string gateway = "build/dev/gateway_tool", node = "build/dev/fake_node", redis, logs = "build/chaos";
};

constexpr int kDeadlineMs = 20'000;
constexpr double kLongestRun = 600;  // seconds that are waited for rare faults

struct Totals {
  std::uint64_t ended = 0, tokens = 0, lost = 0, doubled = 0, unequal = 0, failed = 0, usage_wrong = 0, reconnects = 0,
                refusals = 0, errors_5xx = 0, cache_hits = 0, cache_dirty = 0, past_deadline = 0;
  std::int64_t usage_told = 0, usage_due = 0;
  std::vector<double> gaps, first;
  std::vector<std::string> examples;
};

// What the stream must have said, from its own request alone.
void check(const StreamSpec& spec, const Ledger& ledger, Totals& totals) {
  ++totals.ended;
  totals.tokens += ledger.token_events;
  totals.lost += ledger.lost;
  totals.doubled += ledger.doubled;
  totals.reconnects += static_cast<std::uint64_t>(ledger.connections - 1);
  totals.refusals += static_cast<std::uint64_t>(ledger.refusals);
  totals.errors_5xx += static_cast<std::uint64_t>(ledger.errors_5xx);
  totals.cache_hits += ledger.from_cache ? 1 : 0;
  totals.cache_dirty += ledger.from_cache && ledger.truncated ? 1 : 0;
  totals.past_deadline += ledger.past_deadline ? 1 : 0;
  totals.gaps.push_back(ledger.longest_gap_s);
  totals.first.push_back(ledger.first_token_s);
  if (!ledger.done) {
    ++totals.failed;
    if (totals.examples.size() < 10) totals.examples.push_back(fmt::format("{}: {}", spec.number, ledger.error));
    return;
  }
  const std::uint64_t seed =
      spec.seed >= 0 ? static_cast<std::uint64_t>(spec.seed) : gateway::stream_seed(ledger.stream);
  const std::string prompt = JsonValue::parse(spec.prompt)->dump();
  std::int64_t tokens = 0;
  bool equal = true;
  for (int c = 0; c < spec.choices; ++c) {
    const FakeReply reply = fake_reply(prompt, seed, static_cast<std::uint32_t>(c), spec.max_tokens);
    tokens += static_cast<std::int64_t>(reply.tokens);
    equal = equal && reply.text == ledger.text[static_cast<std::size_t>(c)];
  }
  if (!equal) ++totals.unequal;
  const bool usage_ok =
      spec.streamed ? (ledger.usage_chunks == (spec.usage ? 1 : 0)) && (!spec.usage || ledger.usage_tokens == tokens)
                    : ledger.usage_tokens == tokens;
  if (!usage_ok) ++totals.usage_wrong;
  if (ledger.usage_tokens >= 0) {
    totals.usage_told += ledger.usage_tokens;
    totals.usage_due += tokens;
  }
  if ((!equal || !usage_ok || ledger.lost + ledger.doubled > 0) && totals.examples.size() < 10)
    totals.examples.push_back(fmt::format("{} ({}): equal={} usage={}/{} lost={} doubled={} connections={} n={}",
                                          spec.number, ledger.stream, equal, ledger.usage_tokens, tokens, ledger.lost,
                                          ledger.doubled, ledger.connections, spec.choices));
}

constexpr std::uint64_t kPopular = 40;  // requests that are asked again and again

StreamSpec make_spec(std::uint64_t seed, std::uint64_t number, int mean_tokens) {
  const bool popular = uniform_at(seed, number, 1, 8) < 0.15;
  const std::uint64_t shape = popular ? 1'000'000'000 + number % kPopular : number;
  const auto draw = [&](std::uint32_t what) { return uniform_at(seed, shape, 1, what); };
  StreamSpec spec{.number = number};
  spec.chat = draw(0) < 0.7;
  spec.usage = draw(1) < 0.5;
  spec.streamed = draw(2) < (popular ? 0.7 : 0.95);
  spec.choices = draw(3) < 0.8 ? 1 : 2 + static_cast<int>(draw(4) * 2);
  spec.max_tokens = 1 + static_cast<int>(draw(5) * (popular ? 6 : 2) * mean_tokens);
  spec.seed = popular || draw(6) < 0.5 ? static_cast<std::int64_t>(draw(7) * 1e6) : -1;
  if (uniform_at(seed, number, 1, 9) < 0.1) spec.deadline_ms = kDeadlineMs;
  const std::string text = fmt::format("shared prefix {} and question {}", shape % 16, shape);
  spec.prompt = spec.chat ? fmt::format(R"([{{"role":"user","content":"{}"}}])", text) : fmt::format(R"("{}")", text);
  return spec;
}

// Of the scenarios: as long as the run, to the last token.
StreamSpec long_spec(std::uint64_t number, const Options& options) {
  return {.number = number,
          .usage = true,
          .max_tokens = static_cast<int>(options.seconds * 1000 / options.pace_ms),
          .seed = static_cast<std::int64_t>(number),
          .prompt = fmt::format(R"([{{"role":"user","content":"endless {}"}}])", number)};
}

// How often the gateways said that a group of nodes took over from another one.
std::int64_t handovers(const World& world) {
  std::int64_t count = 0;
  for (const Process& gateway : world.gateways) {
    std::ifstream log(world.log_folder + "/" + gateway.name + ".log");
    for (std::string line; std::getline(log, line);) count += line.find("take over from") != std::string::npos ? 1 : 0;
  }
  return count;
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

// Where a member can be reached, and how its command runs there.
void place(World& world, Process& process) {
  process.port = free_port();
  process.link = world.links.add();
  if (process.link < 0) return;
  process.host = world.links.host(process.link);
  process.command = world.links.prefix(process.link);
}

void build_world(World& world, const Options& options) {
  std::filesystem::remove_all(options.logs);
  std::filesystem::create_directories(options.logs);
  world.log_folder = options.logs;
  world.nodes_file = options.logs + "/nodes";
  if (options.scenario == "standby") world.primaries = options.nodes / 2;
  const auto add = [](Process& p, std::initializer_list<std::string> words) {
    p.command.insert(p.command.end(), words);
  };
  for (std::uint64_t i = 0; i < options.nodes; ++i) {
    Process node{.name = fmt::format("node{}", i), .command = {}};
    place(world, node);
    add(node, {options.node, "--address", node.host, "--port", std::to_string(node.port), "--pace-us",
               std::to_string(static_cast<int>(options.pace_ms * 1000))});
    world.nodes.push_back(node);
  }
  Faults::write_nodes(world, true);
  if (!options.redis.empty()) {
    world.redis = {.name = "redis", .command = {}};
    place(world, world.redis);
    add(world.redis, {options.redis, "--bind", world.redis.host, "--protected-mode", "no", "--port",
                      std::to_string(world.redis.port), "--save", "", "--appendonly", "no"});
    world.redis.start(world.log_folder);
  }
  for (int i = 0; i < 2; ++i) {
    Process gateway{.name = fmt::format("gateway{}", i), .command = {}, .port = free_port()};
    gateway.command = {options.gateway, "--port", std::to_string(gateway.port), "--nodes-file", world.nodes_file};
    add(gateway, {"--access-log", "false", "--max-connections", "20000", "--probe-interval-ms", "250"});
    add(gateway, {"--response-cache", "true", "--log-level", std::getenv("CHAOS_GAPS") != nullptr ? "debug" : "info"});
    if (!options.redis.empty()) add(gateway, {"--redis", fmt::format("{}:{}", world.redis.host, world.redis.port)});
    world.gateways.push_back(gateway);
  }
  for (auto* group : {&world.nodes, &world.gateways})
    for (Process& p : *group) p.start(world.log_folder);
}

bool wait_ready(World& world) {
  for (auto* group : {&world.nodes, &world.gateways})
    for (Process& p : *group)
      if (!p.wait_ready(120)) {
        std::fprintf(stderr, "chaos: %s did not become ready; see its log in %s\n", p.name.c_str(),
                     world.log_folder.c_str());
        return false;
      }
  return true;
}

class Run {
 public:
  Run(const Options& options, World& world) : options_(options), world_(world), cluster_{*loop_, *http_, {}, "fake"} {
    cluster_.tell_gaps = std::getenv("CHAOS_GAPS") != nullptr;
    for (const Process& gateway : world.gateways) cluster_.gateways.push_back(gateway.port);
  }

  Totals operator()(Faults& faults) {
    loop_->post([this] {
      for (std::uint64_t i = 0; i < options_.concurrent; ++i) next();
    });
    auto finished = done_.get_future();
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] { return to_seconds(std::chrono::steady_clock::now() - start); };
    const bool drawn = options_.scenario == "faults";
    enough_ = !drawn || options_.each == 0;
    double fault_at = options_.scenario == "faults" ? options_.every : std::min(options_.every, 2.0);
    while (finished.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
      if (elapsed() > fault_at && (started_ < options_.streams || !enough_ || !drawn)) {
        fault(faults, elapsed());
        fault_at += options_.every;
      }
      faults.mend(elapsed());
      if (!enough_) enough_ = faults.fewest() >= static_cast<int>(options_.each) || elapsed() > kLongestRun;
      for (const Process& g : world_.gateways)  // after the last stream started nothing may grow any more
        if (g.running()) peak_kib_ = std::max(peak_kib_, resident_kib(g.pid));
    }
    seconds_ = elapsed();
    return std::move(totals_);
  }
  [[nodiscard]] double seconds() const { return seconds_; }
  [[nodiscard]] long peak_kib() const { return peak_kib_; }
  [[nodiscard]] std::int64_t handovers() const { return chaos::handovers(world_); }
  [[nodiscard]] std::string_view links() const {
    return world_.nodes.front().link >= 0 ? "network namespaces" : "skipped: this machine gives no network namespaces";
  }

 private:
  void fault(Faults& faults, double now) const {
    if (options_.scenario == "standby")
      faults.kill_primaries(now);
    else if (options_.scenario == "rolling")
      faults.roll(now);
    else
      faults.inject(now);
  }
  void next() {
    if (started_ >= options_.streams && enough_) return;
    const std::uint64_t number = started_++;
    const auto spec =
        options_.scenario == "faults" ? make_spec(options_.seed, number, 50) : long_spec(number, options_);
    std::make_shared<Client>(cluster_, spec, [this](const StreamSpec& s, const Ledger& ledger) {
      check(s, ledger, totals_);
      next();
      if (totals_.ended == started_) done_.set_value();
    })->start();
  }

  const Options& options_;
  World& world_;
  std::unique_ptr<net::EventLoop> loop_ = net::EventLoop::create();
  std::unique_ptr<net::HttpClient> http_ = net::HttpClient::create(*loop_);
  Client::Cluster cluster_;
  std::atomic<std::uint64_t> started_{0};
  std::atomic<bool> enough_{true};
  Totals totals_;
  std::promise<void> done_;
  double seconds_ = 0;
  long peak_kib_ = 0;
};

bool report(const Run& run, const Options& options, const Totals& totals, const Faults& faults) {
  const double gap_p99 = quantile(totals.gaps, 0.99), gap_max = quantile(totals.gaps, 1);
  const auto asked = static_cast<double>(totals.ended + totals.errors_5xx);
  const double availability = 1 - static_cast<double>(totals.failed + totals.errors_5xx) / asked;
  const bool planned = options.scenario == "rolling";  // no fault at all: nobody may see a refusal
  const bool pass = totals.failed + totals.unequal + totals.lost + totals.doubled + totals.usage_wrong == 0 &&
                    totals.usage_told == totals.usage_due && totals.cache_dirty + totals.past_deadline == 0 &&
                    gap_p99 <= 3.0 && availability >= 0.9999 &&
                    run.peak_kib() / 1024 <= static_cast<long>(options.max_rss_mib) &&
                    (options.each == 0 || faults.fewest() >= static_cast<int>(options.each)) &&
                    (!planned || totals.refusals + totals.reconnects == 0) &&
                    (options.scenario != "standby" || run.handovers() >= 4);  // two gateways, there and back
  int injected = 0;
  std::string out;
  JsonWriter json(out);
  json.begin_object()
      .member("tier", "a: fake engine")
      .member("scenario", options.scenario)
      .member("pass", pass)
      .member("seed", options.seed);
  json.member("streams", totals.ended).member("token_events", totals.tokens).member("lost", totals.lost);
  json.member("doubled", totals.doubled).member("unequal", totals.unequal).member("failed", totals.failed);
  json.member("usage_wrong", totals.usage_wrong)
      .member("reconnects", totals.reconnects)
      .member("refusals", totals.refusals)
      .member("errors_5xx", totals.errors_5xx)
      .member("availability", availability);
  json.member("usage_told", totals.usage_told).member("usage_due", totals.usage_due);
  json.member("cache_hits", totals.cache_hits).member("cache_dirty", totals.cache_dirty);
  json.member("past_deadline", totals.past_deadline).member("links", run.links());
  json.member("handovers", run.handovers());
  json.member("longest_gap_p50_s", quantile(totals.gaps, 0.5))
      .member("longest_gap_p99_s", gap_p99)
      .member("longest_gap_max_s", gap_max);
  json.member("first_token_p50_s", quantile(totals.first, 0.5))
      .member("first_token_p99_s", quantile(totals.first, 0.99));
  json.member("gateway_peak_rss_mib", static_cast<std::int64_t>(run.peak_kib() / 1024))
      .member("seconds", run.seconds());
  json.key("faults").begin_object();
  for (const auto& [kind, count] : faults.counts()) {
    json.member(kind, count);
    injected += count;
  }
  json.end_object().member("faults_injected", injected);
  if (options.scenario == "faults") json.member("fewest_of_a_kind", faults.fewest());
  json.end_object();
  for (const std::string& example : totals.examples) std::printf("  wrong: %s\n", example.c_str());
  std::printf("%s\n", out.c_str());
  return pass;
}

}  // namespace
}  // namespace hp::chaos

int main(int argc, char** argv) {
  using namespace hp::chaos;
  hp::log::configure({.level = hp::log::Level::error});
  std::signal(SIGPIPE, SIG_IGN);
  Options options;
  std::map<std::string, std::string> flags;
  for (int i = 1; i + 1 < argc; i += 2) flags[argv[i]] = argv[i + 1];
  const auto take = [&](const char* flag, auto& value) {
    const auto found = flags.find(flag);
    if (found == flags.end()) return;
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>)
      value = found->second;
    else if constexpr (std::is_floating_point_v<std::decay_t<decltype(value)>>)
      value = std::atof(found->second.c_str());
    else
      value = std::strtoull(found->second.c_str(), nullptr, 10);
    flags.erase(found);
  };
  take("--streams", options.streams);
  take("--concurrent", options.concurrent);
  take("--seed", options.seed);
  take("--nodes", options.nodes);
  take("--every", options.every);
  take("--each", options.each);
  take("--pace-ms", options.pace_ms);
  take("--gateway", options.gateway);
  take("--node", options.node);
  take("--redis", options.redis);
  take("--logs", options.logs);
  take("--scenario", options.scenario);
  take("--seconds", options.seconds);
  take("--max-rss-mib", options.max_rss_mib);
  if (!flags.empty()) {
    std::fprintf(stderr, "chaos: unknown flag %s\n", flags.begin()->first.c_str());
    return 2;
  }
  World world;
  build_world(world, options);
  bool pass = false;
  if (wait_ready(world)) {
    Faults faults(world, options.seed);
    Run run(options, world);
    const Totals totals = run(faults);
    pass = report(run, options, totals, faults);
  }
  for (auto* group : {&world.nodes, &world.gateways})
    for (Process& p : *group) p.signal(SIGKILL);
  world.redis.signal(SIGKILL);
  return pass ? 0 : 1;
}

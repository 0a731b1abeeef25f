// Incidents driven by hand: rounds, alerts, and actions whose outcomes come when the test lets them.
#include "ops/incident/incident_desk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>

namespace hp::ops {
namespace {

class Scene {
 public:
  explicit Scene(std::string_view playbooks) : rules_(*load_rules()) {
    auto set = load_playbooks(playbooks, "test.toml");
    EXPECT_TRUE(set.has_value());
    notifier_ = std::make_unique<Notifier>(
        NoticeOptions{}, [](const Channel&, const std::vector<Notice>&, Notifier::Done) {}, metrics_);
    actions_ =
        std::make_unique<ActionDesk>(cluster(), ActionPolicy{.forbidden = {}, .limits = {}}, store_, clock_, metrics_);
    desk_ = std::make_unique<IncidentDesk>(IncidentDesk::Parts{.playbooks = *std::move(set),
                                                               .actions = actions_.get(),
                                                               .store = &store_,
                                                               .notifier = notifier_.get(),
                                                               .post = [this](auto task) { post(std::move(task)); },
                                                               .clock = [this] { return now_; }});
  }
  ~Scene() { actions_.reset(); }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  void at(std::int64_t ms) { now_ = {.at_ms = ms, .wall_ms = 1'000'000 + ms}; }
  void alert(std::string_view id, std::string instance, bool fires) {
    const auto rule = std::ranges::find(rules_, id, &Rule::id);
    const auto phase = [](bool on) { return on ? AlertPhase::firing : AlertPhase::inactive; };
    desk_->changes(
        now_,
        {{.rule = &*rule, .instance = std::move(instance), .from = phase(!fires), .to = phase(fires), .value = 1}});
  }
  void round() { desk_->round(now_, {"a", "b"}); }
  /// Waits until an action has reported and hands its outcome over.
  void outcome() {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      came_.wait(lock, [this] { return !posted_.empty(); });
      task = std::move(posted_.front());
      posted_.pop_front();
    }
    task();
  }
  [[nodiscard]] IncidentView incident() const { return desk_->views(now_.wall_ms).front(); }
  /// "action target" of what was done, "-action target" of what was taken back.
  [[nodiscard]] std::vector<std::string> steps() const {
    std::vector<std::string> out;
    for (const TimelineEntry& e : incident().timeline)
      if (e.kind == "action" || e.kind == "undo")
        out.push_back((e.kind == "undo" ? "-" : "") + e.action + " " + e.target);
    return out;
  }

 private:
  static std::vector<Action> cluster() {
    const auto works = [](const ActionRequest&) {
      return ActionOutcome{.ok = true, .text = "done", .undo_argument = "was"};
    };
    const auto limit = [value = std::make_shared<std::string>("8")](const ActionRequest& r) {
      const std::string wanted = r.undo ? r.argument : *value == "8" ? "4" : "2";
      return ActionOutcome{.ok = true, .text = "limit " + wanted, .undo_argument = std::exchange(*value, wanted)};
    };
    const auto share = std::make_shared<bool>(false);
    const auto take_part = [share](const ActionRequest&) {
      return ActionOutcome{.ok = true, .changed = !std::exchange(*share, true), .text = "takes part"};
    };
    const auto stand_by = [share](const ActionRequest&) {
      return ActionOutcome{.ok = true, .changed = std::exchange(*share, false), .text = "stands by"};
    };
    return {{{.name = "limit", .target = ActionTarget::cluster, .undo = "limit"}, limit},
            {{.name = "share", .target = ActionTarget::cluster, .undo = "unshare"}, take_part},
            {{.name = "unshare", .target = ActionTarget::cluster}, stand_by},
            {{.name = "slower", .target = ActionTarget::node, .undo = "slower"}, works},
            {{.name = "more", .target = ActionTarget::cluster, .undo = "fewer", .adds = true}, works},
            {{.name = "fewer", .target = ActionTarget::cluster}, works}};
  }
  void post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
    came_.notify_all();
  }

  std::vector<Rule> rules_;
  MetricsRegistry metrics_;
  SteadyClock clock_;
  IncidentStore store_{""};
  std::unique_ptr<Notifier> notifier_;
  std::unique_ptr<ActionDesk> actions_;
  std::unique_ptr<IncidentDesk> desk_;
  Moment now_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::function<void()>> posted_;
};

constexpr std::string_view kBook = R"(
[[playbook]]
name = "level2"
level = 2
per = "incident"
[[playbook.step]]
action = "slower"
target = "nodes"
wait_s = 1
[[playbook.step]]
action = "more"
target = "cluster"
)";

TEST(IncidentDesk, ATimelineSaysWhenAnActionEndedNotWhenTheRoundBegan) {
  Scene scene(kBook);
  scene.at(1'000);
  scene.alert("latency_p99", "cluster", true);
  scene.round();
  scene.at(1'700);  // between two rounds
  scene.outcome();
  const IncidentView incident = scene.incident();
  ASSERT_EQ(incident.timeline.size(), 2u);
  EXPECT_EQ(incident.timeline[0].at_ms, 1'001'000) << "detected";
  EXPECT_EQ(incident.timeline[1].at_ms, 1'001'700) << "done";
}

TEST(IncidentDesk, EveryStepIsTakenBackInReverseAndThenItIsClosed) {
  Scene scene(kBook);
  scene.at(0);
  scene.alert("latency_p99", "cluster", true);
  scene.round();
  scene.outcome();
  scene.outcome();
  scene.at(1'500);
  scene.round();
  scene.outcome();
  EXPECT_EQ(scene.steps(), (std::vector<std::string>{"slower a", "slower b", "more "}));
  scene.at(2'000);
  scene.alert("latency_p99", "cluster", false);
  scene.round();
  scene.outcome();
  EXPECT_EQ(scene.incident().state, IncidentState::recovering);
  scene.outcome();
  scene.outcome();
  EXPECT_EQ(scene.steps(),
            (std::vector<std::string>{"slower a", "slower b", "more ", "-fewer ", "-slower b", "-slower a"}));
  EXPECT_EQ(scene.incident().state, IncidentState::closed);
}

constexpr std::string_view kTwoBooks = R"(
[[playbook]]
name = "full"
level = 2
rules = ["kv_usage"]
per = "incident"
[[playbook.step]]
action = "ACTION"
target = "cluster"
[[playbook]]
name = "level2"
level = 2
per = "incident"
[[playbook.step]]
action = "ACTION"
target = "cluster"
)";

/// What is said when two runs take the same action and end in this order.
std::vector<std::string> two_runs(const std::string& action, bool first_ends_first) {
  std::string books(kTwoBooks);
  for (std::size_t at = 0; (at = books.find("ACTION")) != std::string::npos;) books.replace(at, 6, action);
  Scene scene(books);
  const auto change = [&](std::string_view rule, bool fires) {
    scene.alert(rule, "cluster", fires);
    scene.round();
  };
  scene.at(0);
  change("kv_usage", true);
  scene.outcome();
  change("latency_p99", true);
  scene.outcome();
  const auto told = [&] {
    std::vector<std::string> out;
    for (const TimelineEntry& e : scene.incident().timeline)
      if (e.kind == "undo") out.push_back(e.text.find("still needs it") == std::string::npos ? e.text : "left");
    return out;
  };
  for (const bool first : {first_ends_first, !first_ends_first}) {
    const std::size_t before = told().size();
    change(first ? "kv_usage" : "latency_p99", false);
    if (told().size() == before) scene.outcome();
  }
  scene.round();
  EXPECT_EQ(scene.incident().state, IncidentState::closed);
  return told();
}

TEST(IncidentDesk, WhatTwoRunsHoldEndsWithTheLast) {
  using Told = std::vector<std::string>;
  EXPECT_EQ(two_runs("share", true), (Told{"left", "stands by"}));
  EXPECT_EQ(two_runs("share", false), (Told{"left", "stands by"}));
  EXPECT_EQ(two_runs("limit", true), (Told{"left", "limit 8"})) << "not back to 4, where the second found it";
  EXPECT_EQ(two_runs("limit", false), (Told{"limit 4", "limit 8"}));
  EXPECT_EQ(two_runs("more", true), (Told{"done", "done"})) << "each added something of its own";
}

}  // namespace
}  // namespace hp::ops

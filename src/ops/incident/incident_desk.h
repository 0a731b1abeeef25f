// Incidents from the first alert to the last undo: opens and closes them, runs their playbooks, keeps their story,
// tells the notifier. One thread; actions come back to it through `post`.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ops/alert_board.h"
#include "ops/incident/action_desk.h"
#include "ops/incident/playbook.h"
#include "ops/incident/store.h"
#include "ops/notice/notifier.h"

namespace hp::ops {

class IncidentDesk {
 public:
  using Post = std::function<void(std::function<void()>)>;
  struct Parts {
    PlaybookSet playbooks;
    bool automatic = true;  ///< false: playbooks are not run
    ActionDesk* actions = nullptr;
    IncidentStore* store = nullptr;
    Notifier* notifier = nullptr;
    Post post;
    std::function<Moment()> clock;  ///< when an action's outcome comes in, between two rounds
  };
  explicit IncidentDesk(Parts parts) : parts_(std::move(parts)) {}

  /// What an earlier process left: its incidents end, its changes are taken back.
  void take_over(const Moment& now);
  void changes(const Moment& now, const std::vector<AlertChange>& changes);
  /// Once a round, after changes(). `serving`: nodes that get requests now.
  void round(const Moment& now, std::vector<std::string> serving);
  bool acknowledge(std::int64_t id, std::string_view who, const Moment& now);
  bool note(std::int64_t id, std::string_view who, std::string_view text, const Moment& now);
  /// An action by a person that belongs to an incident's story.
  void person_acted(const ActionRequest& request, const ActionOutcome& outcome, const Moment& now);

  /// Open ones, and those closed within the last hour.
  [[nodiscard]] std::vector<IncidentView> views(std::int64_t wall_ms) const;

 private:
  struct Alert {
    const Rule* rule = nullptr;
    std::string instance;
    bool firing = true;
  };
  struct Run {
    PlaybookRun run;
    std::string name;
    std::optional<Order> open;  // on its way
    std::uint64_t serial = 0;   // of that order: what comes after its time is told from what is awaited
    std::int64_t deadline_ms = 0;
  };
  struct Incident {
    IncidentView view;
    std::vector<Alert> alerts;
    std::vector<std::shared_ptr<Run>> runs;
    std::int64_t opened_ms = 0, reminded_ms = 0;  // monotonic
    bool escalated = false;
  };
  using Ref = std::shared_ptr<Incident>;

  Ref open_for(const AlertChange& change, const Moment& now);
  void alert_fires(const AlertChange& change, const Moment& now);
  void alert_ends(const AlertChange& change, const Moment& now);
  void message(const AlertChange& change, const Moment& now);
  void add_run(Incident& incident, const AlertChange& change);
  [[nodiscard]] bool run_fires(const Incident& incident, const Run& run) const;
  void drive(const Ref& incident, const Moment& now);
  struct Holder {
    Ref incident;
    std::shared_ptr<Run> run;
    PlaybookRun::Applied applied;
  };
  /// Who else stands by the same change, earliest first.
  [[nodiscard]] std::vector<Holder> holders(std::string_view undo_action, std::string_view target,
                                            const Run& but) const;
  bool leave_to_others(const Ref& incident, const std::shared_ptr<Run>& run, const Order& order);
  void carry_out(const Ref& incident, const std::shared_ptr<Run>& run, const Order& order);
  void late_outcome(const Ref& incident, const Order& order, const ActionOutcome& outcome);
  void on_outcome(const Ref& incident, const std::shared_ptr<Run>& run, const Order& order,
                  const ActionOutcome& outcome);
  void save_undo(const Incident& incident);
  void set_state(Incident& incident, IncidentState state, const Moment& now);
  void remind(Incident& incident, const Moment& now);
  void log_entry(Incident& incident, TimelineEntry entry);
  void tell(const Incident& incident, NoticeKind kind, const Moment& now, const std::string& role = {});
  [[nodiscard]] Ref find(std::int64_t id) const;

  Parts parts_;
  std::deque<Ref> incidents_;  // oldest first; closed ones stay for an hour
  std::vector<std::string> serving_;
  Moment now_;
  std::int64_t last_id_ = 0;
  std::uint64_t last_applied_ = 0;
};

}  // namespace hp::ops

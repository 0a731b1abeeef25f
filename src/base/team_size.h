// How many members of a team work at once, by what came of it. On a machine whose cores others want too, a member that
// has to wait for a core keeps all others waiting at the next barrier, and fewer members do more.
//
// The measure is the work of all members (processor time without spinning) over the time of a run. Where it is far
// below the number of members, fewer are tried for some runs and kept if they do more; then, now and again, more are
// tried.
#pragma once

#include <chrono>

namespace hp {

class TeamSize {
 public:
  using Seconds = std::chrono::duration<double>;

  explicit TeamSize(int most) : most_(most), kept_(most), tried_(most) {}
  /// Members of the next run.
  [[nodiscard]] int members() const { return tried_; }
  /// A run with members() took `span` and its members worked `work` together; `now` is the time since any fixed moment.
  void ran(Seconds now, Seconds span, Seconds work);

 private:
  void judge(Seconds now, double rate);
  void try_another(double rate);

  int most_, kept_, tried_;  ///< tried_ differs from kept_ during a trial
  bool up_next_ = false;     ///< of the two directions, where both may help
  int runs_ = 0;             ///< of this window
  Seconds span_{}, work_{};
  double kept_rate_ = 0;  ///< members' worth of work that kept_ members did last
  Seconds pause_{1}, next_trial_{};
};

}  // namespace hp

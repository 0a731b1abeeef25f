// Asks every node for its readiness and its models, on one loop. A failed probe never moves a started stream: it only
// keeps new requests away; streams are the watchdog's business.
#pragma once

#include <memory>
#include <unordered_map>

#include "gateway/core.h"

namespace hp::gateway {

class Prober final : public std::enable_shared_from_this<Prober> {
 public:
  explicit Prober(Shard& shard) : shard_(shard) {}
  /// On the shard's loop; goes on until stop().
  void start();
  void stop() { stopped_ = true; }

 private:
  struct Probe {
    bool in_flight = false, models_known = false;
    int failures = 0;
    TimePoint asked_at{}, waiting_since{};  // waiting: for the answer to this probe or the late ones before it
  };
  void round();
  void listen(NodeIndex node, const Probe& probe, TimePoint now);
  void ask(NodeIndex node, const NodeConfig& config);
  void ask_models(NodeIndex node, const NodeConfig& config);
  void on_answer(NodeIndex node, bool homeport, int status, const std::string& body, const Status& outcome);

  Shard& shard_;
  std::unordered_map<NodeIndex, Probe> probes_;
  bool stopped_ = false;
};

}  // namespace hp::gateway

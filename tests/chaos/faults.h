// The seeded schedule: what breaks when, and what mends. At least one node and one gateway stay whole at any moment.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "links.h"
#include "net/http_client.h"
#include "processes.h"

namespace hp::chaos {

struct World {
  std::vector<Process> nodes, gateways;
  Process redis;  ///< no command: the run has none
  Links links;
  std::string log_folder, nodes_file;
  std::size_t primaries = 0;  ///< of the standby scenario: so many of the nodes have priority 0
  bool fake_nodes = true;
};

class Faults {
 public:
  Faults(World& world, std::uint64_t seed) : world_(world), seed_(seed) {}
  /// Nodes that the gateways' file names: all, or all but the last one.
  static void write_nodes(const World& world, bool all);
  /// The whole primary group dies, comes back, and gets its load back.
  void kill_primaries(double now);
  /// The next step of taking every node out of service in turn, without a client noticing: drained and restarted, or
  /// taken from the list and put back.
  void roll(double now);
  /// Injects the next fault of the schedule: all kinds in a drawn order, then all again in another one. What cannot
  /// break now has its turn later.
  void inject(double now);
  /// How often the rarest of all kinds that this cluster can have has happened.
  [[nodiscard]] int fewest() const;
  /// Starts again, thaws, goes on with a rolling restart.
  void mend(double now);
  void mend_all();
  [[nodiscard]] const std::map<std::string, int>& counts() const { return counts_; }

 private:
  std::uint64_t draw(std::uint64_t below);
  [[nodiscard]] bool possible(std::string_view kind) const;
  bool happen(const std::string& kind, double now);
  Process* healthy(std::vector<Process>& group);
  void ask_node(const Process& node, const std::string& fault);
  void flood(int requests);
  bool break_node(const std::string& kind, double now);
  bool break_redis(const std::string& kind, double now);

  World& world_;
  const std::uint64_t seed_;
  std::uint64_t drawn_ = 0;
  std::vector<std::string> deck_;  // of this round, the next one last
  void cut_link(Process& process, double now);
  void restore(Process& process);
  std::size_t rolling_ = 0, rolled_ = 0;
  double rolling_at_ = -1, leave_at_ = 0;
  int leaving_ = -1;
  std::map<std::string, int> counts_;
  std::unique_ptr<net::HttpClient> http_ = net::HttpClient::create();
};

}  // namespace hp::chaos

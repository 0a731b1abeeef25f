// Links that can be cut: each member of the cluster in a network namespace of its own, joined to ours by a veth pair. A
// cut link drops every packet without a word, as a pulled cable does. Needs root and iproute2.
#pragma once

#include <string>
#include <vector>

namespace hp::chaos {

class Links {
 public:
  Links() = default;
  ~Links();
  Links(const Links&) = delete;
  Links& operator=(const Links&) = delete;

  /// Another namespace; its number, or -1 when this machine does not let us.
  int add();
  [[nodiscard]] std::string host(int link) const;
  /// What goes before a command so that it runs there.
  [[nodiscard]] std::vector<std::string> prefix(int link) const;
  void set_up(int link, bool up) const;

 private:
  [[nodiscard]] std::string name(int link) const;
  int count_ = 0;
};

}  // namespace hp::chaos

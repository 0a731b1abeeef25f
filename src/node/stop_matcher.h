// Finds stop strings in text that arrives in pieces. Text that may still become a stop string is held back, so that a
// client never sees a part of one. Any cutting of the same text into pieces gives the same output and the same end.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace hp {

class StopMatcher {
 public:
  /// Empty strings are left out: they would stop everything.
  explicit StopMatcher(std::vector<std::string> stops);

  /// Appends what became certain to `out`. True: a stop string was found; it and what follows are dropped, and later
  /// pushes add nothing. The stop string that ends first wins, among those ending together the longest.
  bool push(std::string_view text, std::string& out);
  /// The end without a stop string: what is held back comes out.
  void finish(std::string& out);
  [[nodiscard]] bool stopped() const { return stopped_; }
  [[nodiscard]] std::size_t held_bytes() const { return held_.size(); }

 private:
  [[nodiscard]] std::size_t keep_from() const;

  std::vector<std::string> stops_;
  std::string held_;  ///< shorter than the longest stop string
  bool stopped_ = false;
};

}  // namespace hp

#include "node/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace hp {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& s) { return s.empty(); });
}

bool StopMatcher::push(std::string_view text, std::string& out) {
  // Byte by byte, so that no result depends on how the text was cut.
  for (const char c : text) {
    if (stopped_) break;
    held_.push_back(c);
    std::size_t longest = 0;
    for (const std::string& stop : stops_) {
      if (held_.ends_with(stop)) longest = std::max(longest, stop.size());
    }
    const std::size_t certain = longest > 0 ? held_.size() - longest : keep_from();
    out.append(held_, 0, certain);
    held_.erase(0, certain);
    if (longest > 0) {
      stopped_ = true;
      held_.clear();
    }
  }
  return stopped_;
}

void StopMatcher::finish(std::string& out) {
  out += held_;
  held_.clear();
}

// The first position from which what is held is the beginning of some stop string.
std::size_t StopMatcher::keep_from() const {
  for (std::size_t from = 0; from < held_.size(); ++from) {
    const std::string_view tail = std::string_view(held_).substr(from);
    if (std::any_of(stops_.begin(), stops_.end(), [&](const std::string& s) { return s.starts_with(tail); })) {
      return from;
    }
  }
  return held_.size();
}

}  // namespace hp

// The overview as lines of a terminal: `homeport top`. From the same JSON that the console's pages get (view_json).
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace hp::ops {

struct TopSize {
  std::size_t columns = 80, rows = 24;
  bool colours = true;
};

/// At most `rows` lines of at most `columns` cells, each ended by '\n'. What is left out is counted in the last line.
std::string top_screen(const JsonValue& view, const TopSize& size);

/// The text in exactly `cells` of a terminal, cut or filled up; nothing in it can steer the terminal. East Asian
/// characters take two cells.
std::string fitted(std::string_view text, std::size_t cells);

}  // namespace hp::ops

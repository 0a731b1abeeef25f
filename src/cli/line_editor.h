// Lines from a person: editing and history on a terminal (libedit), plain lines otherwise. The only file that sees
// libedit is line_editor.cpp.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace hp::cli {

class LineEditor final {
 public:
  /// `history` is read now and written at the end; empty: none is kept.
  explicit LineEditor(std::filesystem::path history);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// Without its line end; empty optional: the end of input (Ctrl-D). Ctrl-C empties the line.
  std::optional<std::string> read(std::string_view prompt);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hp::cli

#include "cli/line_editor.h"

#include <histedit.h>
#include <sys/stat.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <iostream>

namespace hp::cli {
namespace {

constexpr int kHistoryLines = 1000;

}  // namespace

struct LineEditor::State {
  std::filesystem::path file;
  std::string prompt;
  EditLine* editor = nullptr;  // null: not a terminal
  History* history = nullptr;
  HistEvent event{};

  static char* prompt_of(EditLine* editor) {
    State* state = nullptr;
    el_get(editor, EL_CLIENTDATA, &state);
    return state->prompt.data();
  }
  /// Ctrl-C comes as a key, because the terminal makes no signal of it while a line is edited.
  static unsigned char empty_line(EditLine* editor, int /*key*/) {
    const LineInfo* line = el_line(editor);
    el_cursor(editor, static_cast<int>(line->lastchar - line->cursor));
    el_deletestr(editor, static_cast<int>(line->lastchar - line->buffer));
    return CC_REFRESH;
  }
};

LineEditor::LineEditor(std::filesystem::path history_file) : state_(std::make_unique<State>()) {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) return;
  if (const char* set = std::setlocale(LC_CTYPE, ""); set == nullptr || std::string_view(set) == "C")
    std::setlocale(LC_CTYPE, "C.UTF-8");
  State& s = *state_;
  s.file = std::move(history_file);
  s.editor = el_init("homeport", stdin, stdout, stderr);
  if (s.editor == nullptr) return;
  s.history = history_init();
  history(s.history, &s.event, H_SETSIZE, kHistoryLines);
  history(s.history, &s.event, H_SETUNIQUE, 1);
  if (!s.file.empty()) history(s.history, &s.event, H_LOAD, s.file.c_str());
  el_set(s.editor, EL_CLIENTDATA, &s);
  el_set(s.editor, EL_PROMPT, &State::prompt_of);
  el_set(s.editor, EL_EDITOR, "emacs");
  el_set(s.editor, EL_HIST, ::history, s.history);
  el_set(s.editor, EL_ADDFN, "homeport-empty-line", "Empty the line", &State::empty_line);
  el_set(s.editor, EL_SETTY, "-d", "-isig", nullptr);
  el_source(s.editor, nullptr);  // the user's ~/.editrc
  el_set(s.editor, EL_BIND, "^C", "homeport-empty-line", nullptr);
  el_set(s.editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
}

LineEditor::~LineEditor() {
  State& s = *state_;
  if (s.editor == nullptr) return;
  if (!s.file.empty()) {
    const mode_t before = umask(077);  // what people ask is nobody else's business
    history(s.history, &s.event, H_SAVE, s.file.c_str());
    umask(before);
  }
  history_end(s.history);
  el_end(s.editor);
}

std::optional<std::string> LineEditor::read(std::string_view prompt) {
  State& s = *state_;
  std::string line;
  if (s.editor == nullptr) {
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  s.prompt = prompt;
  int count = 0;
  const char* text = el_gets(s.editor, &count);
  if (text == nullptr || count <= 0) return std::nullopt;
  line.assign(text, static_cast<std::size_t>(count));
  while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
  if (line.find_first_not_of(" \t") != std::string::npos) history(s.history, &s.event, H_ENTER, line.c_str());
  return line;
}

}  // namespace hp::cli

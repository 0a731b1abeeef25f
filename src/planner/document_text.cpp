// Answers as console text and as CSV.
#include <algorithm>

#include "base/utf8.h"
#include "planner/document.h"

namespace hp::planner {
namespace {

constexpr std::size_t kLineColumns = 100;

/// Ranges of Unicode East Asian Width W and F that occur in our texts (UAX #11).
bool is_wide(std::uint32_t c) {
  return (c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) || (c >= 0xac00 && c <= 0xd7a3) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
         (c >= 0xffe0 && c <= 0xffe6) || (c >= 0x20000 && c <= 0x3fffd);
}

std::string pad(const std::string& text, std::size_t width, bool right) {
  const std::size_t used = display_width(text);
  const std::string space(width > used ? width - used : 0, ' ');
  return right ? space + text : text + space;
}

/// Breaks at spaces and after wide characters.
void append_wrapped(std::string& out, std::string_view text) {
  std::size_t column = 0, line_start = out.size(), last_break = std::string::npos;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    const std::string_view piece = text.substr(0, step.bytes);
    text.remove_prefix(step.bytes);
    const bool wide = step.valid && is_wide(step.codepoint);
    if (piece == " ") last_break = out.size();
    out += piece;
    column += wide ? 2 : 1;
    if (column > kLineColumns && last_break != std::string::npos && last_break > line_start) {
      out[last_break] = '\n';
      line_start = last_break + 1;
      column = display_width(std::string_view(out).substr(line_start));
      last_break = std::string::npos;
    } else if (column >= kLineColumns && wide && !text.empty() && is_wide(utf8_step(text).codepoint)) {
      out += '\n';
      line_start = out.size();
      column = 0;
      last_break = std::string::npos;
    }
  }
  out += '\n';
}

void append_table(std::string& out, const Table& table) {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    std::size_t width = display_width(table.columns[c]);
    for (const auto& row : table.rows) width = std::max(width, display_width(row[c]));
    widths.push_back(width);
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text = " ";
    for (std::size_t c = 0; c < cells.size(); ++c) text += " " + pad(cells[c], widths[c], c > 0) + " ";
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  if (!table.title.empty()) out += table.title + "\n";
  line(table.columns);
  std::size_t total = 1;
  for (const std::size_t width : widths) total += width + 2;
  out += "  " + std::string(total - 2, '-') + "\n";
  for (const auto& row : table.rows) line(row);
}

std::string csv_cell(std::string_view text) {
  if (!text.empty() && text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string csv_line(const std::vector<std::string>& cells) {
  std::string out;
  for (std::size_t c = 0; c < cells.size(); ++c) out += (c > 0 ? "," : "") + csv_cell(cells[c]);
  return out + "\r\n";
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    width += step.valid && is_wide(step.codepoint) ? 2 : 1;
    text.remove_prefix(step.bytes);
  }
  return width;
}

std::string render_text(const Document& document) {
  std::string out = document.title + "\n" + std::string(display_width(document.title), '=') + "\n";
  if (!document.verdict.empty()) append_wrapped(out, document.verdict);
  for (const Section& section : document.sections) {
    out += "\n";
    if (!section.heading.empty())
      out += section.heading + "\n" + std::string(display_width(section.heading), '-') + "\n";
    for (const std::string& paragraph : section.paragraphs) append_wrapped(out, paragraph);
    for (const Table& table : section.tables) {
      if (!section.paragraphs.empty() || &table != &section.tables.front()) out += "\n";
      append_table(out, table);
    }
  }
  return out;
}

std::string render_csv(const Document& document) {
  std::string out;
  for (const Section& section : document.sections) {
    for (const Table& table : section.tables) {
      if (!out.empty()) out += "\r\n";
      out += csv_line({table.title.empty() ? section.heading : table.title});
      out += csv_line(table.columns);
      for (const auto& row : table.rows) out += csv_line(row);
    }
  }
  return out;
}

std::string render(const Answer& answer, Format format, Language language) {
  switch (format) {
    case Format::json:
      return answer.json + "\n";
    case Format::csv:
      return render_csv(answer.document);
    case Format::html:
      return render_html(answer.document, language);
    case Format::text:
      break;
  }
  return render_text(answer.document);
}

}  // namespace hp::planner

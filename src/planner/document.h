// What an answer looks like before it becomes text, HTML or CSV: headings, paragraphs, tables, charts. Knows nothing
// about planning.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "planner/language.h"

namespace hp::planner {

struct Table {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  ///< as wide as columns; the first column is text, the others are figures
};

struct Chart {
  enum class Kind { lines, bars };
  struct Series {
    std::string name;
    std::vector<double> y;  ///< as long as x
  };
  Kind kind = Kind::lines;
  std::string title, x_label, y_label;
  std::vector<double> x;            ///< lines
  std::vector<std::string> labels;  ///< bars: one per value
  std::vector<Series> series;
};

struct Section {
  std::string heading;
  std::vector<std::string> paragraphs;
  std::vector<Table> tables;
  std::vector<Chart> charts;  ///< shown in HTML only; their figures stand in a table or in the JSON too
};

struct Document {
  std::string title;
  std::string verdict;  ///< the answer in one sentence
  std::vector<Section> sections;
};

/// One answer in every form: `json` is complete on its own.
struct Answer {
  std::string json;
  Document document;
};

enum class Format { text, json, csv, html };

std::string render(const Answer& answer, Format format, Language language);
std::string render_text(const Document& document);
/// Every table: a line with its title, its columns, its rows (RFC 4180), an empty line between tables.
std::string render_csv(const Document& document);
/// One self-contained page: styles and SVG charts inside, nothing fetched, no script.
std::string render_html(const Document& document, Language language);
std::string render_svg(const Chart& chart);
std::string escape_html(std::string_view text);

/// Columns that a terminal gives to the text: East Asian wide characters take two.
std::size_t display_width(std::string_view text);

}  // namespace hp::planner

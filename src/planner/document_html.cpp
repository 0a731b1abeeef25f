// Answers as one self-contained HTML page with inline SVG charts.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "planner/document.h"

namespace hp::planner {
namespace {

constexpr double kWidth = 760, kHeight = 316, kLeft = 84, kRight = 16, kTop = 50, kBottom = 46;
constexpr std::array<std::string_view, 6> kColours = {"#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#475569"};

constexpr std::string_view kStyle = R"(:root{color-scheme:light dark}
body{font:16px/1.55 system-ui,"Noto Sans CJK SC","Microsoft YaHei",sans-serif;max-width:860px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2rem;border-bottom:1px solid #8886}
.verdict{font-size:1.15rem;border-left:4px solid #2563eb;padding:.4rem .9rem;background:#2563eb14}
table{border-collapse:collapse;width:100%;margin:.6rem 0 1.2rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.3rem 0}th,td{padding:.25rem .5rem;border-bottom:1px solid #8884}
th{text-align:right;font-weight:600}td{text-align:right}th:first-child,td:first-child{text-align:left}
.scroll{overflow-x:auto}svg{max-width:100%;height:auto;display:block;margin:.6rem 0 1.2rem}svg text{fill:currentColor;font-size:12px}
svg .axis{stroke:#888}svg .grid{stroke:#8883})";

struct Axis {
  double low = 0, high = 1, step = 1;
};

/// A round axis that covers the values and zero.
Axis axis_of(double low, double high) {
  low = std::min(low, 0.0);
  high = std::max(high, 0.0);
  if (high - low <= 0) high = low + 1;
  const double raw = (high - low) / 5;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double scaled = raw / power;
  const double step = power * (scaled <= 1 ? 1 : scaled <= 2 ? 2 : scaled <= 5 ? 5 : 10);
  return {.low = std::floor(low / step) * step, .high = std::ceil(high / step) * step, .step = step};
}

std::string tick(double value) {
  if (std::fabs(value) >= 1e6) return fmt::format("{:g}M", value / 1e6);
  return std::fabs(value) >= 1e4 ? fmt::format("{:g}k", value / 1e3) : fmt::format("{:g}", value);
}

std::string text_at(double x, double y, std::string_view anchor, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>", x, y, anchor, escape_html(text));
}

struct Scale {
  Axis axis;
  double from = 0, to = 1;  // pixels
  [[nodiscard]] double at(double v) const { return from + (v - axis.low) / (axis.high - axis.low) * (to - from); }
};

std::string y_grid(const Scale& y) {
  std::string out;
  for (double v = y.axis.low; v <= y.axis.high + y.axis.step / 2; v += y.axis.step) {
    out += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft, kWidth - kRight,
                       y.at(v), y.at(v));
    out += text_at(kLeft - 8, y.at(v) + 4, "end", tick(std::fabs(v) < y.axis.step / 1e6 ? 0.0 : v));
  }
  return out;
}

std::string legend(const Chart& chart) {
  std::string out;
  double x = kLeft;
  for (std::size_t s = 0; s < chart.series.size(); ++s) {
    if (chart.series[s].name.empty()) continue;
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{}\" width=\"12\" height=\"4\" fill=\"{}\"/>", x, kHeight - 10,
                       kColours[s % kColours.size()]);
    out += text_at(x + 17, kHeight - 4, "start", chart.series[s].name);
    x += 34 + 7.5 * static_cast<double>(display_width(chart.series[s].name));
  }
  return out;
}

std::string line_marks(const Chart& chart, const Scale& y) {
  const auto [low, high] = std::minmax_element(chart.x.begin(), chart.x.end());
  const Scale x{.axis = axis_of(*low, *high), .from = kLeft, .to = kWidth - kRight};
  std::string out;
  for (double v = x.axis.low; v <= x.axis.high + x.axis.step / 2; v += x.axis.step)
    out += text_at(x.at(v), kHeight - kBottom + 16, "middle", tick(v));
  out += text_at(kWidth - kRight, kHeight - kBottom - 6, "end", chart.x_label);
  for (std::size_t s = 0; s < chart.series.size(); ++s) {
    std::string points;
    for (std::size_t i = 0; i < chart.x.size(); ++i) {
      if (!std::isfinite(chart.series[s].y[i])) continue;
      points += fmt::format("{:.1f},{:.1f} ", x.at(chart.x[i]), y.at(chart.series[s].y[i]));
    }
    out += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>",
                       kColours[s % kColours.size()], points);
  }
  return out;
}

std::string bar_marks(const Chart& chart, const Scale& y) {
  std::string out;
  const double slot = (kWidth - kLeft - kRight) / static_cast<double>(std::max<std::size_t>(chart.labels.size(), 1));
  const double bar = slot * 0.7 / static_cast<double>(chart.series.size());
  for (std::size_t i = 0; i < chart.labels.size(); ++i) {
    const double left = kLeft + slot * (static_cast<double>(i) + 0.15);
    out += text_at(left + slot * 0.35, kHeight - kBottom + 16, "middle", chart.labels[i]);
    for (std::size_t s = 0; s < chart.series.size(); ++s) {
      const double value = chart.series[s].y[i];
      if (!std::isfinite(value)) continue;
      const double top = std::min(y.at(value), y.at(0)), x = left + bar * static_cast<double>(s);
      out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>", x, top,
                         bar, std::fabs(y.at(value) - y.at(0)), kColours[s % kColours.size()]);
      out += text_at(x + bar / 2, top - 4, "middle", significant(value));
    }
  }
  return out;
}

std::string html_table(const Table& table) {
  std::string out = "<div class=\"scroll\"><table>";
  if (!table.title.empty()) out += "<caption>" + escape_html(table.title) + "</caption>";
  out += "<thead><tr>";
  for (const std::string& cell : table.columns) out += "<th scope=\"col\">" + escape_html(cell) + "</th>";
  out += "</tr></thead><tbody>";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += "<td>" + escape_html(cell) + "</td>";
    out += "</tr>";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string render_svg(const Chart& chart) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Chart::Series& series : chart.series) {
    for (const double v : series.y) {
      if (!std::isfinite(v)) continue;
      low = std::min(low, v);
      high = std::max(high, v);
    }
  }
  std::string out = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", kWidth, kHeight,
                                escape_html(chart.title));
  out += "<g font-weight=\"600\">" + text_at(kLeft, 16, "start", chart.title) + "</g>";
  if (std::isfinite(low) && (chart.kind == Chart::Kind::bars || !chart.x.empty())) {
    const Scale y{.axis = axis_of(low, high), .from = kHeight - kBottom, .to = kTop};
    out += y_grid(y) + text_at(kLeft, 33, "start", chart.y_label);
    out += chart.kind == Chart::Kind::lines ? line_marks(chart, y) : bar_marks(chart, y);
    out += fmt::format("<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft, kWidth - kRight,
                       y.at(0), y.at(0));
  }
  return out + legend(chart) + "</svg>\n";
}

std::string render_html(const Document& document, Language language) {
  std::string out = fmt::format("<!doctype html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\">",
                                language == Language::zh ? "zh-CN" : "en");
  out += "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>" +
         escape_html(document.title) + "</title><style>";
  out += kStyle;
  out += "</style></head><body>\n<h1>" + escape_html(document.title) + "</h1>\n";
  if (!document.verdict.empty()) out += "<p class=\"verdict\">" + escape_html(document.verdict) + "</p>\n";
  for (const Section& section : document.sections) {
    if (!section.heading.empty()) out += "<h2>" + escape_html(section.heading) + "</h2>\n";
    for (const std::string& paragraph : section.paragraphs) out += "<p>" + escape_html(paragraph) + "</p>\n";
    for (const Chart& chart : section.charts) out += render_svg(chart);
    for (const Table& table : section.tables) out += html_table(table);
  }
  return out + "</body></html>\n";
}

}  // namespace hp::planner

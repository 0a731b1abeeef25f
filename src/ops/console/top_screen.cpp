#include "ops/console/top_screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <optional>
#include <vector>

namespace hp::ops {
namespace {

constexpr std::string_view kReset = "\x1b[0m", kBold = "\x1b[1m", kDim = "\x1b[2m", kRed = "\x1b[31m",
                           kGreen = "\x1b[32m", kYellow = "\x1b[33m";

struct Character {
  std::string_view bytes;
  char32_t code = 0;
};

/// One UTF-8 character off the front; a broken byte stands for itself and is shown as '?'.
Character next_character(std::string_view& text) {
  const auto first = static_cast<unsigned char>(text.front());
  const std::size_t length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
  Character c{text.substr(0, 1), U'?'};
  if (length == 1 && first < 0x80) c.code = first;
  if (length > 1 && text.size() >= length) {
    char32_t code = first & (0x7F >> length);
    bool whole = true;
    for (std::size_t i = 1; i < length; ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      whole = whole && (byte & 0xC0) == 0x80;
      code = code << 6 | (byte & 0x3F);
    }
    if (whole) c = {text.substr(0, length), code};
  }
  if (c.bytes.size() == 1 && first >= 0x80) c.bytes = "?";
  text.remove_prefix(length > 1 && c.bytes.size() == length ? length : 1);
  return c;
}

bool steers(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

bool wide(char32_t c) {
  return (c >= 0x1100 && c <= 0x115F) || (c >= 0x2E80 && c <= 0xA4CF) || (c >= 0xAC00 && c <= 0xD7A3) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0xFE30 && c <= 0xFE6F) || (c >= 0xFF00 && c <= 0xFF60) ||
         (c >= 0x1F300 && c <= 0x1FAFF) || (c >= 0x20000 && c <= 0x3FFFD);
}

std::string text_of(const JsonValue& thing, std::string_view key) {
  const JsonValue* value = thing.find(key);
  return value != nullptr && value->as_string() != nullptr ? *value->as_string() : std::string();
}

std::optional<double> number_of(const JsonValue& thing, std::string_view key) {
  const JsonValue* value = thing.find(key);
  return value != nullptr ? value->as_double() : std::nullopt;
}

std::string shown(std::optional<double> v) {
  if (!v) return "-";
  if (*v >= 1e6) return fmt::format("{:.3g}M", *v / 1e6);
  if (*v >= 1e4) return fmt::format("{:.3g}k", *v / 1e3);
  return *v >= 100 ? fmt::format("{:.0f}", *v) : fmt::format("{:.3g}", *v);
}

std::string percent(std::optional<double> v) {
  return v ? fmt::format("{:.{}f}%", *v * 100, *v > 0 && *v < 0.1 ? 1 : 0) : "-";
}

std::string seconds(std::optional<double> v) {
  if (!v) return "-";
  return *v < 1     ? fmt::format("{:.0f}ms", *v * 1000)
         : *v < 120 ? fmt::format("{:.3g}s", *v)
                    : fmt::format("{:.0f}min", *v / 60);
}

std::string meter(std::optional<double> v, std::size_t cells) {
  std::string out;
  const auto full =
      static_cast<std::size_t>(std::lround(std::clamp(v.value_or(0), 0.0, 1.0) * static_cast<double>(cells)));
  for (std::size_t i = 0; i < cells; ++i) out += i < full ? "#" : ".";
  return out;
}

const JsonValue::Array& list_of(const JsonValue& view, std::string_view key) {
  static const JsonValue::Array kNone;
  const JsonValue* value = view.find(key);
  return value != nullptr && value->as_array() != nullptr ? *value->as_array() : kNone;
}

class Screen {
 public:
  explicit Screen(const TopSize& size) : size_(size) {}

  void line(std::string_view text, std::string_view style = {}) {
    if (full()) return;
    const bool styled = size_.colours && !style.empty();
    if (styled) out_ += style;
    out_ += fitted(text, size_.columns);
    while (out_.ends_with(' ')) out_.pop_back();
    if (styled) out_ += kReset;
    out_ += '\n';
    ++lines_;
  }
  [[nodiscard]] bool full() const { return lines_ >= size_.rows; }
  [[nodiscard]] std::size_t left() const { return size_.rows - std::min(lines_, size_.rows); }
  std::string take() { return std::move(out_); }

 private:
  TopSize size_;
  std::string out_;
  std::size_t lines_ = 0;
};

void write_cluster(Screen& screen, const JsonValue& view, const TopSize& size) {
  const JsonValue none{JsonValue::Object{}};
  const JsonValue* found = view.find("cluster");
  const JsonValue& c = found != nullptr ? *found : none;
  const auto usable = number_of(c, "usable_nodes").value_or(0), nodes = number_of(c, "nodes").value_or(0);
  const auto open = std::ranges::count_if(list_of(view, "incidents"),
                                          [](const JsonValue& i) { return text_of(i, "state") != "closed"; });
  const bool down = usable == 0, troubled = open > 0 || usable < nodes;
  std::array<char, 16> clock{};
  const std::time_t at = static_cast<std::time_t>(number_of(c, "at_ms").value_or(0) / 1000);
  std::tm local{};
  std::strftime(clock.data(), clock.size(), "%H:%M:%S", ::localtime_r(&at, &local));
  const std::string head = fmt::format("homeport  {}  nodes {:.0f}/{:.0f}  group {} serves  {} incidents",
                                       down       ? "DOWN"
                                       : troubled ? "ATTENTION"
                                                  : "ok",
                                       usable, nodes, shown(number_of(c, "serving_group")), open);
  screen.line(fitted(head, size.columns > 10 ? size.columns - 9 : 1) + " " + clock.data(), down       ? kRed
                                                                                           : troubled ? kYellow
                                                                                                      : kGreen);
  const JsonValue* ttft = c.find("first_token");
  const JsonValue* gap = c.find("gap");
  screen.line(fmt::format("requests/s {}  open {}  waiting {}  tokens/s {} + {} prompt",
                          shown(number_of(c, "requests_per_s")), shown(number_of(c, "open_requests")),
                          shown(number_of(c, "waiting_requests")), shown(number_of(c, "tokens_per_s")),
                          shown(number_of(c, "prompt_tokens_per_s"))));
  screen.line(fmt::format("first token p50 {} p99 {}  gap p99 {}  KV {}  cache hits {}",
                          seconds(number_of(ttft != nullptr ? *ttft : none, "p50_s")),
                          seconds(number_of(ttft != nullptr ? *ttft : none, "p99_s")),
                          seconds(number_of(gap != nullptr ? *gap : none, "p99_s")), percent(number_of(c, "kv_usage")),
                          percent(number_of(c, "cache_hit_ratio"))));
  screen.line(fmt::format("errors {}  time-outs {}  refusals {}  resumes/s {}", percent(number_of(c, "error_ratio")),
                          percent(number_of(c, "timeout_ratio")), percent(number_of(c, "refusal_ratio")),
                          shown(number_of(c, "resumes_per_s"))));
}

void write_troubles(Screen& screen, const JsonValue& view) {
  const double now = number_of(view.find("cluster") != nullptr ? *view.find("cluster") : view, "at_ms").value_or(0);
  for (const JsonValue& i : list_of(view, "incidents")) {
    if (text_of(i, "state") == "closed") continue;
    const JsonValue* timeline = i.find("timeline");
    std::string last;
    if (timeline != nullptr && timeline->as_array() != nullptr && !timeline->as_array()->empty()) {
      const JsonValue& entry = timeline->as_array()->back();
      last = fmt::format("  last: {} {}", text_of(entry, "kind"), text_of(entry, "action"));
    }
    screen.line(
        fmt::format("! level {} {}  {}  {}{}", shown(number_of(i, "level")), text_of(i, "en"), text_of(i, "instance"),
                    seconds((now - number_of(i, "started_ms").value_or(now)) / 1000), last),
        number_of(i, "level") == 1.0 ? kRed : kYellow);
  }
  for (const JsonValue& a : list_of(view, "alerts"))
    if (text_of(a, "rule") != "dead_man")
      screen.line(fmt::format("~ {} {}  {}  {} of {}", text_of(a, "phase"), text_of(a, "en"), text_of(a, "instance"),
                              shown(number_of(a, "value")), shown(number_of(a, "threshold"))),
                  text_of(a, "phase") == "firing" ? kYellow : kDim);
}

std::string node_line(const JsonValue& n, std::size_t name_cells) {
  double load = 0, hottest = 0;
  const auto& gpus = list_of(n, "gpus");
  for (const JsonValue& gpu : gpus) {
    load += number_of(gpu, "utilization").value_or(0) / static_cast<double>(gpus.size());
    hottest = std::max(hottest, number_of(gpu, "temperature_c").value_or(0));
  }
  const JsonValue none{JsonValue::Object{}};
  const JsonValue* host = n.find("host");
  const JsonValue* ttft = n.find("first_token");
  const auto kv = number_of(n, "kv_usage");
  return fmt::format("{} {} {:>3} {:>4} {:>4} {:>6} {:>6}  {} {:>4} {:>4} {}", fitted(text_of(n, "name"), name_cells),
                     fitted(text_of(n, "condition"), 11), shown(number_of(n, "group")), shown(number_of(n, "running")),
                     shown(number_of(n, "waiting")), shown(number_of(n, "tokens_per_s")),
                     seconds(number_of(ttft != nullptr ? *ttft : none, "p99_s")), meter(kv, 6), percent(kv),
                     percent(number_of(host != nullptr ? *host : none, "cpu_ratio")),
                     gpus.empty() ? "-" : fmt::format("{:.0f}% {:.0f}C", load * 100, hottest));
}

}  // namespace

std::string fitted(std::string_view text, std::size_t cells) {
  std::string out;
  std::size_t used = 0;
  while (!text.empty()) {
    const Character c = next_character(text);
    const std::size_t width = wide(c.code) ? 2 : 1;
    if (used + width > cells) break;
    out += steers(c.code) ? "?" : c.bytes;
    used += width;
  }
  out.append(cells - used, ' ');
  return out;
}

std::string top_screen(const JsonValue& view, const TopSize& size) {
  Screen screen(size);
  write_cluster(screen, view, size);
  write_troubles(screen, view);
  const std::size_t name_cells = size.columns > 100 ? 24 : 14;
  screen.line(fmt::format("{} {} {:>3} {:>4} {:>4} {:>6} {:>6}  {:<11} {:>4} {}", fitted("NODE", name_cells),
                          fitted("STATE", 11), "GRP", "RUN", "WAIT", "TOK/S", "P99", "KV", "CPU", "GPU"),
              kBold);
  // The bad ones first, then the busy ones.
  std::vector<const JsonValue*> nodes;
  for (const JsonValue& node : list_of(view, "nodes")) nodes.push_back(&node);
  std::ranges::stable_sort(nodes, [](const JsonValue* a, const JsonValue* b) {
    const bool bad_a = text_of(*a, "condition") != "ready", bad_b = text_of(*b, "condition") != "ready";
    return bad_a != bad_b ? bad_a : number_of(*a, "kv_usage").value_or(0) > number_of(*b, "kv_usage").value_or(0);
  });
  for (std::size_t i = 0; i < nodes.size() && !screen.full(); ++i) {
    if (screen.left() == 1 && nodes.size() - i > 1) {
      screen.line(fmt::format("… and {} more nodes", nodes.size() - i), kDim);
      break;
    }
    const std::string condition = text_of(*nodes[i], "condition");
    screen.line(node_line(*nodes[i], name_cells), condition == "ready" ? std::string_view()
                                                  : condition == "dead" || condition == "unreachable" ? kRed
                                                                                                      : kYellow);
  }
  return screen.take();
}

}  // namespace hp::ops

#include "planner/workload.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace hp::planner {
namespace {

constexpr std::int64_t kMaxMinutes = 60 * 24 * 366;

std::optional<std::int64_t> number_at(std::string_view text, std::size_t at, std::size_t digits) {
  std::int64_t value = 0;
  if (at + digits > text.size()) return std::nullopt;
  const char* const begin = text.data() + at;
  const auto [end, error] = std::from_chars(begin, begin + digits, value);
  if (error != std::errc() || end != begin + digits) return std::nullopt;
  return value;
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil).
std::int64_t days_of(std::int64_t y, std::int64_t m, std::int64_t d) {
  y -= m <= 2 ? 1 : 0;
  const std::int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
  const std::int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
  return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

std::optional<std::int64_t> seconds_of(std::optional<std::int64_t> y, std::optional<std::int64_t> mo,
                                       std::optional<std::int64_t> d, std::string_view text, std::size_t clock) {
  const auto h = number_at(text, clock, 2), mi = number_at(text, clock + 3, 2), s = number_at(text, clock + 6, 2);
  if (!y || !mo || !d || !h || !mi || !s || *mo < 1 || *mo > 12 || *d < 1 || *d > 31 || *h > 24 || *mi > 59 || *s > 60)
    return std::nullopt;
  return days_of(*y, *mo, *d) * 86400 + *h * 3600 + *mi * 60 + *s;
}

/// 24/Nov/2026:13:55:36 +0800: the zone is the same on every line of a log, so it is left out.
std::optional<std::int64_t> common_time(std::string_view line) {
  const std::size_t open = line.find('[');
  if (open == std::string_view::npos || open + 21 > line.size() || line[open + 3] != '/') return std::nullopt;
  constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const auto month = std::find(kMonths.begin(), kMonths.end(), line.substr(open + 4, 3));
  if (month == kMonths.end()) return std::nullopt;
  return seconds_of(number_at(line, open + 8, 4), month - kMonths.begin() + 1, number_at(line, open + 1, 2), line,
                    open + 13);
}

std::optional<std::int64_t> iso_time(std::string_view line) {
  for (std::size_t at = line.find('-'); at != std::string_view::npos; at = line.find('-', at + 1)) {
    if (at < 4 || at + 15 > line.size() || line[at + 3] != '-' || (line[at + 6] != 'T' && line[at + 6] != ' '))
      continue;
    if (const auto t = seconds_of(number_at(line, at - 4, 4), number_at(line, at + 1, 2), number_at(line, at + 4, 2),
                                  line, at + 7))
      return t;
  }
  return std::nullopt;
}

std::optional<std::int64_t> epoch_time(std::string_view line) {
  const auto seconds = number_at(line, 0, 10);
  if (!seconds || *seconds < 1'000'000'000 || (line.size() > 10 && line[10] >= '0' && line[10] <= '9'))
    return std::nullopt;
  return seconds;
}

}  // namespace

Result<LoggedLoad> load_of_log(std::string_view text, std::string_view source_name) {
  LoggedLoad out;
  std::vector<std::int64_t> minutes;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    std::optional<std::int64_t> seconds = common_time(line);
    if (!seconds) seconds = iso_time(line);
    if (!seconds) seconds = epoch_time(line);
    seconds ? minutes.push_back(*seconds / 60) : void(++out.skipped);
  }
  if (minutes.empty() || out.skipped > minutes.size())
    return fail(ErrorCode::invalid_argument,
                "{}: expected lines with [24/Nov/2026:13:55:36 +0000], 2026-11-24T13:55:36 or seconds since 1970 in "
                "front, found a time in {} of {} lines",
                source_name, minutes.size(), minutes.size() + out.skipped);
  const auto [first, last] = std::minmax_element(minutes.begin(), minutes.end());
  if (*last - *first > kMaxMinutes)
    return fail(ErrorCode::invalid_argument, "{}: expected at most a year of requests, found {} days", source_name,
                (*last - *first) / 1440);
  out.curve = {.name = std::string(source_name), .step_s = 60};
  out.curve.requests_per_second.assign(static_cast<std::size_t>(*last - *first) + 1, 0.0);
  for (const std::int64_t minute : minutes)
    out.curve.requests_per_second[static_cast<std::size_t>(minute - *first)] += 1.0 / 60;
  out.requests = minutes.size();
  out.mean_rps = static_cast<double>(out.requests) / (60.0 * static_cast<double>(out.curve.requests_per_second.size()));
  out.peak_minute_rps = out.curve.peak();
  return out;
}

}  // namespace hp::planner

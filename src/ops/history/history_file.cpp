#include "ops/history/history_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <span>

#include "base/hash.h"
#include "base/log.h"
#include "base/mapped_file.h"

// File: 8 bytes magic, then records: u32 payload bytes, u64 checksum, payload. Payloads, little-endian:
//   'N' u32 id, u8 kind, name                    the name of a series id, valid until the next 'N' of the same id
//   'S' u8 resolution, i64 slot, (u32 id, f32 × lanes of its kind)…
namespace hp::ops {
namespace {

constexpr std::string_view kMagic = "HPHIST01";
constexpr std::size_t kHeadBytes = 12;
constexpr std::size_t kMaxPayload = 1u << 20;

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename T>
bool take(std::string_view& in, T& value) {
  if (in.size() < sizeof value) return false;
  std::memcpy(&value, in.data(), sizeof value);
  in.remove_prefix(sizeof value);
  return true;
}

std::uint64_t checksum(std::string_view payload) {
  return hash128(std::as_bytes(std::span(payload))).low;
}

struct Name {
  std::string text;
  SeriesKind kind{};
};

void read_payload(std::string_view in, std::map<std::uint32_t, Name>& names, History& history, std::int64_t now_ms) {
  char what = 0;
  if (!take(in, what)) return;
  if (what == 'N') {
    std::uint32_t id = 0;
    std::uint8_t kind = 0;
    if (take(in, id) && take(in, kind) && kind <= 2) names[id] = {std::string(in), static_cast<SeriesKind>(kind)};
    return;
  }
  std::uint8_t resolution = 0;
  std::int64_t slot = 0;
  if (what != 'S' || !take(in, resolution) || !take(in, slot) || resolution >= kResolutions.size()) return;
  std::uint32_t id = 0;
  while (take(in, id)) {
    const auto name = names.find(id);
    if (name == names.end()) return;
    std::vector<float> lanes(lanes_of(name->second.kind));
    for (float& lane : lanes)
      if (!take(in, lane)) return;
    history.restore(name->second.text, name->second.kind, resolution, slot, now_ms, lanes);
  }
}

/// Bytes of whole records, from the start of the file.
std::size_t read_all(std::string_view file, History& history, std::int64_t now_ms) {
  if (!file.starts_with(kMagic)) return 0;
  std::map<std::uint32_t, Name> names;
  std::string_view rest = file.substr(kMagic.size());
  for (;;) {
    std::string_view at = rest;
    std::uint32_t length = 0;
    std::uint64_t sum = 0;
    if (!take(at, length) || !take(at, sum) || length > kMaxPayload || at.size() < length) break;
    const std::string_view payload = at.substr(0, length);
    if (checksum(payload) != sum) break;
    read_payload(payload, names, history, now_ms);
    rest = at.substr(length);
  }
  return file.size() - rest.size();
}

Status write_fully(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(ErrorCode::io_error, "{}", std::strerror(n < 0 ? errno : ENOSPC));
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

std::string framed(std::string_view payload) {
  std::string out;
  put(out, static_cast<std::uint32_t>(payload.size()));
  put(out, checksum(payload));
  return out.append(payload);
}

}  // namespace

HistoryFile::~HistoryFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status HistoryFile::reopen() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd_ < 0) return fail(ErrorCode::io_error, "{}: {}", path_.string(), std::strerror(errno));
  // A torn record at the end would hide everything after it.
  if (::ftruncate(fd_, static_cast<off_t>(bytes_)) != 0 || ::lseek(fd_, 0, SEEK_END) < 0)
    return fail(ErrorCode::io_error, "{}: {}", path_.string(), std::strerror(errno));
  if (bytes_ == 0) {
    HP_TRY_VOID(write_fully(fd_, kMagic));
    bytes_ = kMagic.size();
    named_.clear();
  }
  return {};
}

Status HistoryFile::open(History& history, std::int64_t now_ms) {
  bytes_ = 0;
  if (auto file = MappedFile::open(path_)) {
    const auto bytes = file->bytes();
    bytes_ = read_all({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, history, now_ms);
    if (bytes_ < bytes.size() && bytes_ > 0)
      log::warn("history: {}: the last {} bytes are torn and were cut off", path_.string(), bytes.size() - bytes_);
  }
  // The ids of the file are not ours: written anew, old values go as well.
  Status done = rewrite(history);
  if (!done) {
    trouble_ = done.error().message;
    retry_at_ms_ = now_ms + limits::kHistoryRetryMs;
  }
  return done;
}

Status HistoryFile::write_record(const std::string& payload) {
  const std::string bytes = framed(payload);
  HP_TRY_VOID(write_fully(fd_, bytes));
  bytes_ += bytes.size();
  return {};
}

Status HistoryFile::write_names(const History& history) {
  for (const auto& series : history.series()) {
    if (series.id < named_.size() && named_[series.id] == series.name) continue;
    std::string payload = "N";
    put(payload, series.id);
    put(payload, static_cast<std::uint8_t>(series.kind));
    payload += series.name;
    HP_TRY_VOID(write_record(payload));
    if (series.id >= named_.size()) named_.resize(series.id + 1);
    named_[series.id] = series.name;
  }
  return {};
}

std::string HistoryFile::slot_record(const History& history, std::size_t resolution, std::int64_t slot) const {
  std::string payload;
  for (const auto& series : history.series()) {
    const std::vector<float> lanes = history.at(series.id, resolution, slot);
    if (lanes.empty()) continue;
    if (payload.empty()) {
      payload = "S";
      put(payload, static_cast<std::uint8_t>(resolution));
      put(payload, slot);
    }
    put(payload, series.id);
    for (const float lane : lanes) put(payload, lane);
  }
  return payload;
}

// Beside the old file and then in its place, so that a crash in between leaves one of the two.
Status HistoryFile::rewrite(const History& history) {
  const std::filesystem::path final_path = path_, fresh = path_.string() + ".new";
  std::error_code ignored;
  std::filesystem::remove(fresh, ignored);
  const std::size_t bytes_before = bytes_;
  const auto names_before = named_;
  path_ = fresh;
  bytes_ = 0;
  Status done = reopen();
  if (done) done = write_names(history);
  for (std::size_t r = 1; done && r < kResolutions.size(); ++r) {
    const std::int64_t newest = history.newest(r);
    for (std::int64_t slot = newest - static_cast<std::int64_t>(kResolutions[r].slots) + 1; done && slot <= newest;
         ++slot) {
      if (slot < 0) continue;
      const std::string payload = slot_record(history, r, slot);
      if (!payload.empty()) done = write_record(payload);
    }
  }
  if (done && ::rename(fresh.c_str(), final_path.c_str()) != 0)
    done = fail(ErrorCode::io_error, "{}: {}", final_path.string(), std::strerror(errno));
  path_ = final_path;
  if (done) return {};
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  std::filesystem::remove(fresh, ignored);
  bytes_ = bytes_before;
  named_ = names_before;
  return done;
}

void HistoryFile::append(const History& history, std::size_t resolution, std::int64_t slot, std::int64_t now_ms) {
  if (resolution == 0 ||
      (!trouble_.empty() && now_ms < retry_at_ms_ && now_ms > retry_at_ms_ - limits::kHistoryRetryMs))
    return;
  Status done;
  if (fd_ < 0 || !trouble_.empty() || bytes_ > limits::kMaxHistoryFileBytes) {
    done = rewrite(history);  // all of the history again: what was missed in between comes with it
  } else {
    done = write_names(history);
    const std::string payload = done ? slot_record(history, resolution, slot) : std::string();
    if (done && !payload.empty()) done = write_record(payload);
  }
  if (done) {
    if (!trouble_.empty()) log::info("history: {} takes figures again", path_.string());
    trouble_.clear();
    return;
  }
  if (trouble_.empty()) log::warn("history: {}; figures stay in memory until it works again", done.error().message);
  trouble_ = done.error().message;
  retry_at_ms_ = now_ms + limits::kHistoryRetryMs;
}

}  // namespace hp::ops

// The console's tick: figures into the history, changes to the browsers that are looking.
#include <pthread.h>

#include "base/json.h"
#include "base/log.h"
#include "net/sse.h"
#include "ops/console/console_limits.h"
#include "ops/console/console_server.h"

namespace hp::ops {

void ConsoleServer::begin() {
  loop_->post([this] {
    ::pthread_setname_np(::pthread_self(), "hp-console");
    if (file_) {
      // What cannot be opened is said once and tried again later: watching goes on in memory.
      if (const Status opened = file_->open(history_, unix_ms_now()); !opened)
        log::warn("console: the history is kept in memory only: {}", opened.error().message);
    }
    tick();
  });
}

void ConsoleServer::tick() {
  const std::int64_t now = unix_ms_now();
  history_.advance(now, [&](std::size_t resolution, std::int64_t slot) {
    if (file_) file_->append(history_, resolution, slot, now);
  });
  if (source_.record) source_.record(history_);
  std::erase_if(watchers_, [&](const Watcher& w) {
    const bool over = !auth_.session_of(w.cookie, now);
    if (over) w.writer->end();
    return over;
  });
  if (!watchers_.empty() && source_.overview && ++ticks_ >= ticks_per_news_) {
    ticks_ = 0;
    const std::vector<ConsoleSection> sections = source_.overview();
    // Of many nodes something always changes: they are sent less often, so that a browser's line is not filled.
    std::size_t items = 0;
    for (const ConsoleSection& section : sections) items += section.items.size();
    ticks_per_news_ = 1 + items / limits::kItemsPerSecond;
    const std::string news = changes(sections, false);
    std::erase_if(watchers_, [&](Watcher& w) { return !w.writer->write(news); });
  }
  loop_->after(limits::kConsoleTick, [this] { tick(); });
}

void ConsoleServer::watch(const Session& session, const Writer& writer) {
  if (watchers_.size() >= limits::kMaxWatchers) return send_console_error(writer, 503, "too many consoles are open");
  writer->begin_stream(200, {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}}, "text/event-stream");
  watchers_.push_back({writer, fmt::format("{}={}", ConsoleAuth::kCookie, session.value)});
  if (!source_.overview) return;
  if (!writer->write(changes(source_.overview(), true))) watchers_.pop_back();
}

// One event: {"now_ms": …, "sections": {"nodes": {"items": {…}, "gone": […]}, "cluster": {"value": …}}}. Only
// `everything` leaves what was sent to the others as it is.
std::string ConsoleServer::changes(const std::vector<ConsoleSection>& sections, bool everything) {
  std::string data;
  JsonWriter json(data);
  json.begin_object().member("now_ms", unix_ms_now()).member("full", everything).key("sections").begin_object();
  for (const ConsoleSection& section : sections) {
    auto& before = sent_[section.name];
    std::map<std::string, std::string> items(section.items.begin(), section.items.end());
    if (!section.json.empty()) items.emplace("", section.json);
    if (!everything && items == before) continue;
    json.key(section.name).begin_object();
    json.key("items").begin_object();
    for (const auto& [id, text] : items) {
      const auto old = before.find(id);
      if (!everything && old != before.end() && old->second == text) continue;
      json.key(id).raw(text);
    }
    json.end_object().key("gone").begin_array();
    for (const auto& [id, text] : before)
      if (!items.contains(id)) json.value(id);
    json.end_array().end_object();
    if (!everything) before = std::move(items);
  }
  json.end_object().end_object();
  std::string event;
  net::append_sse(event, data);
  return event;
}

}  // namespace hp::ops

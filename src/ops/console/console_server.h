// The console's inside, for its own files only: console.cpp (guarding and paths), console_api.cpp (answers),
// console_watch.cpp (the tick and the streams to browsers).
#pragma once

#include <map>
#include <optional>

#include "net/event_loop.h"
#include "ops/console/console.h"
#include "ops/history/history_file.h"

namespace hp::ops {

std::int64_t unix_ms_now();
/// A parameter of the target's query, percent-decoded; empty when absent.
std::string query_parameter(std::string_view target, std::string_view name);

class ConsoleServer final : public Console {
 public:
  ConsoleServer(ConsoleOptions options, ConsoleSource source);
  ~ConsoleServer() override;
  void begin();

  bool handle(net::HttpRequest& request, std::shared_ptr<net::ResponseWriter>& writer,
              const ConsoleForward& forward) override;
  void with_history(const std::function<void(const History&)>& look) override;

 private:
  using Writer = std::shared_ptr<net::ResponseWriter>;
  struct Watcher {
    Writer writer;
    std::string cookie;
  };

  // console.cpp, on the server's loop
  void route(net::HttpRequest request, const Writer& writer, const ConsoleForward& forward);
  void login(const net::HttpRequest& request, const Writer& writer);
  void logout(const net::HttpRequest& request, const Session& session, const Writer& writer);
  static void chat(net::HttpRequest request, const Session& session, const Writer& writer,
                   const ConsoleForward& forward);
  [[nodiscard]] std::string session_json(const std::optional<Session>& session) const;

  // console_api.cpp, on our loop
  void get(const net::HttpRequest& request, const Session& session, const Writer& writer);
  void post(const net::HttpRequest& request, const Session& session, const Writer& writer);
  [[nodiscard]] Result<std::string> history_json(std::string_view target) const;

  // console_watch.cpp, on our loop
  void tick();
  void watch(const Session& session, const Writer& writer);
  std::string changes(const std::vector<ConsoleSection>& sections, bool everything);

  const ConsoleOptions options_;
  const ConsoleSource source_;
  ConsoleAuth auth_;
  // Our loop's alone.
  History history_;
  std::optional<HistoryFile> file_;
  std::vector<Watcher> watchers_;
  std::size_t ticks_ = 0, ticks_per_news_ = 1;
  std::map<std::string, std::map<std::string, std::string>> sent_;  // section, item, JSON
  std::unique_ptr<net::EventLoop> loop_;                            // last: its thread uses the rest
  std::unique_ptr<net::EventLoop> work_;  // for what may take seconds; posts to nobody but writers
};

/// Sends with the console's headers; figures are never cached.
void send_console(const std::shared_ptr<net::ResponseWriter>& writer, net::HttpResponse response);
void send_console_error(const std::shared_ptr<net::ResponseWriter>& writer, int status, std::string_view message);

}  // namespace hp::ops

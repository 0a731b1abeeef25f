#include "gateway/reattach.h"

#include <functional>
#include <optional>
#include <utility>

#include "gateway/answers.h"
#include "gateway/routes.h"
#include "gateway/shared_journal.h"

namespace hp::gateway {
namespace {
using Writer = std::shared_ptr<net::ResponseWriter>;

struct Arrival {
  net::HttpRequest request;
  Writer writer;
  std::string tenant, id;
  std::optional<EventPosition> position;
  RequestPeek peek;
};

// Where the stream is: with us, or in the shared journal, whose lease is ours now.
struct Found {
  std::shared_ptr<StoredStream> local;
  std::optional<TakenStream> taken;
};

// The shared journal is asked first even when we know the stream: the client may have been elsewhere in between.
void find_stream(Shard& shard, const std::shared_ptr<Arrival>& who, std::function<void(Found)> then) {
  Core& core = shard.core;
  auto local = core.streams.find(who->tenant, who->id, core.clock.now());
  if (!core.shared || !core.shared->available()) return then({.local = std::move(local), .taken = {}});
  core.shared->take(who->tenant, who->id, [&shard, local, then](std::optional<TakenStream> taken) {
    shard.loop->post([local, then, taken = std::move(taken)]() mutable {
      if (!taken || !local) return then({.local = std::move(local), .taken = std::move(taken)});
      std::unique_lock lock(local->mutex);
      const bool newest = local->shared.epoch == taken->epoch;
      if (newest) {
        local->shared.epoch = taken->epoch + 1;
        local->shared.generation = 0;
      }
      lock.unlock();
      if (newest) return then({.local = std::move(local), .taken = {}});
      ++local->lease;
      then({.local = {}, .taken = std::move(taken)});
    });
  });
}

void start_relay(Shard& shard, const std::shared_ptr<Arrival>& who, std::shared_ptr<StoredStream> stream,
                 milliseconds wait) {
  auto start = [&shard, who, stream = std::move(stream)] { continue_relay(shard, who->request, stream, who->writer); };
  if (wait <= milliseconds(0)) return start();
  shard.loop->after(wait, std::move(start));
}

bool move_record(StoredStream& stream, const std::optional<EventPosition>& position, bool local) {
  const std::lock_guard lock(stream.mutex);
  stream.shared.generation = 0;
  if (!position) {
    stream.record.restart();
    return true;
  }
  return local ? stream.record.rewind(*position) : stream.record.catch_up(*position);
}

void continue_post(Shard& shard, const std::shared_ptr<Arrival>& who, Found found) {
  if (found.local && *found.local->body == who->request.body) {
    ++found.local->lease;  // whoever still serves it falls silent before we touch the record
    if (move_record(*found.local, who->position, true)) return start_relay(shard, who, found.local, milliseconds(0));
  }
  const auto wait = found.taken ? found.taken->wait : milliseconds(0);
  std::shared_ptr<StoredStream> stream;
  if (found.taken && found.taken->body_hash == body_hash(who->request.body)) {
    found.taken->target = who->request.target;
    stream = restore_stream(*found.taken, who->tenant, who->id, who->request.body);
    if (stream && !move_record(*stream, who->position, false)) stream = nullptr;
  }
  if (!stream) {  // generated again, and dropped up to where the client is
    stream = std::make_shared<StoredStream>(who->id, std::move(who->peek));
    stream->tenant = who->tenant;
    stream->target = who->request.target;
    stream->body = std::make_shared<const std::string>(std::move(who->request.body));
    stream->record.skip_to(*who->position);
    give_token(shard.core, *stream);
    if (found.taken) stream->shared.epoch = found.taken->epoch + 1;
  }
  shard.core.streams.add(stream);
  start_relay(shard, who, std::move(stream), wait);
}

void continue_get(Shard& shard, const std::shared_ptr<Arrival>& who, Found found) {
  Core& core = shard.core;
  auto stream = found.local;
  const auto wait = found.taken ? found.taken->wait : milliseconds(0);
  if (!stream && found.taken && !found.taken->body.empty())
    stream = restore_stream(*found.taken, who->tenant, who->id, found.taken->body);
  if (!stream) core.admission.leave(who->tenant, 0, 0);
  if (!stream)
    return refuse(core, who->request, who->writer,
                  error_answer(404, "No such stream here; it may have been closed too long ago."), who->tenant);
  ++stream->lease;
  if (!move_record(*stream, who->position, found.local != nullptr)) {
    core.admission.leave(who->tenant, 0, 0);
    return refuse(core, who->request, who->writer, error_answer(400, "Last-Event-ID names no event of this stream."),
                  who->tenant);
  }
  if (!found.local) core.streams.add(stream);
  start_relay(shard, who, std::move(stream), wait);
}

}  // namespace

void reattach_post(Shard& shard, net::HttpRequest request, EventPosition position, RequestPeek peek, Writer writer,
                   std::string tenant) {
  auto who = std::make_shared<Arrival>(Arrival{.request = std::move(request),
                                               .writer = std::move(writer),
                                               .tenant = std::move(tenant),
                                               .id = position.stream,
                                               .position = std::move(position),
                                               .peek = std::move(peek)});
  find_stream(shard, who, [&shard, who](Found found) { continue_post(shard, who, std::move(found)); });
}

void reattach_get(Shard& shard, net::HttpRequest request, Writer writer, std::string tenant) {
  Core& core = shard.core;
  const std::string id = request.path.substr(std::string_view("/v1/streams/").size());
  auto who = std::make_shared<Arrival>(Arrival{.request = std::move(request),
                                               .writer = std::move(writer),
                                               .tenant = std::move(tenant),
                                               .id = id,
                                               .position = {},
                                               .peek = {}});
  if (!valid_stream_id(id)) return continue_get(shard, who, {});
  if (const std::string_view header = who->request.header("last-event-id"); !header.empty()) {
    const auto position = parse_event_id(header);
    if (position && position->stream == id) who->position = *position;
    if (!who->position) {
      core.admission.leave(who->tenant, 0, 0);
      return refuse(core, who->request, who->writer, error_answer(400, "Last-Event-ID names no event of this stream."),
                    who->tenant);
    }
  }
  find_stream(shard, who, [&shard, who](Found found) { continue_get(shard, who, std::move(found)); });
}

}  // namespace hp::gateway

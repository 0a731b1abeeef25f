// What a node sends, in any grouping: the journal reader takes it, drops it or refuses it, and what it has taken can
// always be made into a resume and taken up again.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/json.h"
#include "gateway/event_cutter.h"
#include "gateway/stream_record.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace hp::gateway;
  if (size == 0) return 0;
  const std::size_t step = 1 + data[0] % 64;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  StreamRecord record(make_stream_id(1, 2, 3), 1 + data[0] / 64);
  EventCutter cutter;
  bool broken = false;
  const EventCutter::Sink sink{.on_data =
                                   [&](std::string_view event) {
                                     const auto chunk = cut_chunk(event);
                                     if (!chunk) return true;
                                     std::string id;
                                     const auto verdict = record.take(*chunk);
                                     broken = verdict == StreamRecord::Verdict::broken;
                                     if (verdict == StreamRecord::Verdict::forward) record.append_event_id(id);
                                     if (!id.empty()) {
                                       const auto position = parse_event_id(id.substr(4, id.size() - 5));
                                       HP_CHECK(position && position->stream == record.id(), "'{}'", id);
                                     }
                                     return !broken;
                                   },
                               .on_comment = [](std::string_view) { return true; }};
  for (std::size_t at = 0; at < text.size() && !broken; at += step)
    if (!cutter.push(text.substr(at, step), sink)) break;
  const std::string tail = record.resume_tail(true);
  HP_CHECK(hp::JsonValue::parse("{" + tail), "'{}'", tail);
  (void)parse_event_id(text);
  if (record.next_seq() > 0)
    (void)record.rewind({.stream = record.id(), .seq = record.next_seq() - 1, .per_choice = {}});
  return 0;
}

// What another gateway wrote into the shared journal, or somebody else: the reader takes it as far as it is right, and
// what it has taken it writes and reads again as the same.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/json.h"
#include "gateway/stream_record.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace hp::gateway;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const std::string id = make_stream_id(1, 2, 3);
  const std::size_t choices = 1 + data[0] % 4;
  StreamRecord record(id, choices), copy(id, choices);
  record.replay_journal(text);
  StreamRecord::JournalMark mark;
  copy.replay_journal(record.journal_since(mark));
  HP_CHECK(copy.resume_tail(true) == record.resume_tail(true), "'{}'", record.resume_tail(true));
  HP_CHECK(copy.bound_to() == record.bound_to(), "'{}'", record.bound_to());
  HP_CHECK(hp::JsonValue::parse("{" + record.resume_tail(true)), "no JSON");
  (void)record.catch_up({.stream = id, .seq = data[0] / 4U, .per_choice = {}});
  return 0;
}
